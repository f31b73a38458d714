import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Classifier } from '../../../src/binlog/classify.ts';
import { CommandTable } from '../../../src/binlog/command-table.ts';
import { keysOf } from '../../../src/binlog/keys.ts';
import { parseLine } from '../../../src/binlog/quoting.ts';
import { type SpawnedRedis, spawnRedis } from './redis-server.ts';
import { scanned } from './scanned.ts';

const table = CommandTable.shipped();
const classifier = new Classifier({
  table,
  splitMultiKey: true,
  publish: false,
  scriptKeys: 'declared',
  pipeline: 'default',
});

const WRITES = [
  ...[
    'SET k v EX 1',
    'MSET a 1 b 2 c 3',
    'MSETNX a 1 b 2',
    'DEL a b c',
    'UNLINK a',
    'RENAME a b',
    'RENAMENX a b',
    'COPY a b DB 1',
    'MOVE a 1',
  ],
  ...[
    'APPEND a b',
    'GETEX a EX 1',
    'GETDEL a',
    'GETSET a b',
    'SETRANGE a 0 x',
    'BITOP NOT d a',
    'BITOP AND d a b c',
    'BITFIELD a GET u8 0',
  ],
  ...[
    'LPUSH l a',
    'LINSERT l BEFORE a b',
    'LMOVE a b LEFT RIGHT',
    'RPOPLPUSH a b',
    'LMPOP 3 a b c LEFT',
    'LREM l 0 a',
    'BLPOP a b 0',
    'BLMPOP 0 2 a b LEFT',
  ],
  ...['SADD s a', 'SMOVE a b m', 'SINTERSTORE d a b', 'SUNIONSTORE d a', 'SDIFFSTORE d a b', 'SPOP s 2'],
  ...[
    'ZADD z 1 a',
    'ZUNIONSTORE d 2 a b WEIGHTS 1 2',
    'ZINTERSTORE d 1 a AGGREGATE MAX',
    'ZDIFFSTORE d 2 a b',
    'ZRANGESTORE d s 0 -1',
    'ZMPOP 2 a b MAX',
    'BZMPOP 0 1 a MIN',
  ],
  ...['HSET h f v', 'HDEL h f', 'HINCRBY h f 1', 'PFADD p a', 'PFMERGE d a b'],
  ...[
    'GEOADD g 1 2 m',
    'GEORADIUS g 1 2 3 km STORE d',
    'GEORADIUSBYMEMBER g m 3 km STOREDIST d',
    'GEORADIUSBYMEMBER g STORE 3 km ASC STORE d',
    'GEOSEARCHSTORE d g FROMMEMBER m BYRADIUS 1 km',
  ],
  ...[
    'XADD s * f v',
    'XTRIM s MAXLEN 5',
    'XGROUP CREATE s g $',
    'XGROUP SETID s g 0',
    'XGROUP DELCONSUMER s g c',
    'XGROUP CREATECONSUMER s g c',
    'XSETID s 5-5',
    'XACK s g 1',
  ],
  ...[
    'XREADGROUP GROUP g c STREAMS a b > >',
    'XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a >',
    'XCLAIM s g c 0 1-1',
    'XAUTOCLAIM s g c 0 0',
  ],
  ...[
    'EXPIRE a 1',
    'PEXPIREAT a 1 NX',
    'PERSIST a',
    'RESTORE a 0 x',
    'SORT a BY nosort LIMIT 0 1 STORE d',
    'SORT a STORE x STORE d',
  ],
  ...['EVAL code 2 a b c', 'EVALSHA sha 1 a', 'FCALL f 3 a b c d'],
];

const READS = [
  ...[
    'GET a',
    'MGET a b',
    'XREAD COUNT 1 STREAMS a b 0 0',
    'OBJECT FREQ a',
    'MEMORY USAGE a',
    'LCS a b',
    'ZINTER 2 a b',
    'SINTERCARD 2 a b LIMIT 1',
  ],
  ...[
    'XINFO STREAM s',
    'EXISTS a b',
    'TOUCH a b',
    'PFCOUNT a b',
    'EVAL_RO code 1 a',
    'WATCH a b',
    'ZDIFF 1 a',
    'DUMP a',
    'GEOSEARCH g FROMMEMBER m BYRADIUS 1 km',
  ],
];

let redis: SpawnedRedis;

beforeAll(async () => {
  redis = await spawnRedis();
});

afterAll(async () => {
  await redis[Symbol.asyncDispose]();
});

async function serverKeys(line: string): Promise<string[]> {
  return ((await redis.client.call('COMMAND', 'GETKEYS', ...parseLine(line))) as string[]).toSorted();
}

describe('keys are those that COMMAND GETKEYS of a real server names', () => {
  test.each([...WRITES, ...READS])('%s', async (line) => {
    const scanner = scanned(line);
    const spec = table.resolve(scanner);
    if (spec === undefined) throw new Error(`unknown: ${line}`);
    const found = keysOf(scanner, spec);
    const verdict = classifier.classify(scanner);
    const own = verdict.kind === 'keyed' ? verdict.keys : found.keys.map((key) => scanner.arg(key));
    expect(own.map(String).toSorted()).toEqual(await serverKeys(line));
  });

  test('for every command of the table with arguments that are all different', async () => {
    let compared = 0;
    for (const spec of table.specs.filter(
      ({ origin, keySpecs }) => origin === 'shipped' && keySpecs.length > 0,
    )) {
      const argc = Math.abs(spec.arity) + (spec.arity < 0 ? 4 : 0);
      const words = spec.name.split(' ');
      const line = [
        ...words,
        ...Array.from({ length: argc - words.length }, (_, i) => (i % 2 ? '2' : `k${i}`)),
      ].join(' ');
      const scanner = scanned(line);
      const found = keysOf(scanner, spec);
      const server = await serverKeys(line).catch(() => undefined);
      if (found.certainty !== 'exact' || server === undefined) continue;
      compared++;
      expect(found.keys.map((key) => String(scanner.arg(key))).toSorted(), line).toEqual(server);
    }
    expect(compared).toBeGreaterThan(150);
  });
});
