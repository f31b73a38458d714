import { describe, expect, test } from 'vitest';
import { slotOf } from '../../../src/binlog/lane-map.ts';
import { formatCommand, parseLine } from '../../../src/binlog/quoting.ts';
import { AS_WRITTEN, mayNeedRewrite, REWRITABLE, rewriteFor } from '../../../src/binlog/rewrite.ts';
import { splitByLane } from '../../../src/binlog/split.ts';
import { spawnRedis } from './redis-server.ts';
import { scanned } from './scanned.ts';

const TIME = 1_000_000;

function rewritten(line: string, rules = AS_WRITTEN): string | undefined {
  const args = parseLine(line);
  const name = String(args[0]).toUpperCase();
  const result = rewriteFor(name, args, TIME, rules);
  if (result !== undefined) expect(mayNeedRewrite(name, scanned(line), rules), line).toBe(true);
  return result && formatCommand(result);
}

describe('relative deadlines become absolute, counted from the time of the entry', () => {
  test.each([
    ['EXPIRE k 10', 'PEXPIREAT k 1010000'],
    ['expire k 10 nx', 'PEXPIREAT k 1010000 nx'],
    ['EXPIRE k -1', 'PEXPIREAT k 999000'],
    ['PEXPIRE k 10 GT', 'PEXPIREAT k 1000010 GT'],
    ['SETEX k 10 v', 'SET k v PXAT 1010000'],
    ['PSETEX k 10 v', 'SET k v PXAT 1000010'],
    ['SET k v EX 10', 'SET k v PXAT 1010000'],
    ['SET k EX px 10 NX', 'SET k EX PXAT 1000010 NX'],
    ['SET EX PX GET EX 1', 'SET EX PX GET PXAT 1001000'],
    ['SET k v IFEQ EX EX 1', 'SET k v IFEQ EX PXAT 1001000'],
    ['GETEX k EX 1', 'GETEX k PXAT 1001000'],
    ['GETEX k px 1', 'GETEX k PXAT 1000001'],
    ['HEXPIRE h 1 NX FIELDS 1 f', 'HPEXPIREAT h 1001000 NX FIELDS 1 f'],
    ['HPEXPIRE h 0 FIELDS 1 f', 'HPEXPIREAT h 1000000 FIELDS 1 f'],
    ['HSETEX h FNX EX 1 FIELDS 1 EX 5', 'HSETEX h FNX PXAT 1001000 FIELDS 1 EX 5'],
    ['HGETEX h PX 1 FIELDS 2 EX 5', 'HGETEX h PXAT 1000001 FIELDS 2 EX 5'],
    ['MSETEX 2 EX 1 PX 2 NX EX 1', 'MSETEX 2 EX 1 PX 2 NX PXAT 1001000'],
    ['RESTORE k 5 payload REPLACE', 'RESTORE k 1000005 payload REPLACE ABSTTL'],
  ])('%s', (line, expected) => {
    expect(rewritten(line)).toBe(expected);
  });
});

describe('LIMIT goes where the trimming is exact', () => {
  test.each([
    ['XADD s MAXLEN = 5 LIMIT 3 1-1 f v', 'XADD s MAXLEN = 5 1-1 f v'],
    ['XADD s NOMKSTREAM minid 5 limit 3 * f v', 'XADD s NOMKSTREAM minid 5 * f v'],
    ['XTRIM s MAXLEN = 5 LIMIT 3', 'XTRIM s MAXLEN = 5'],
    ['XTRIM s MAXLEN 5 LIMIT 3 ACKED', 'XTRIM s MAXLEN 5 ACKED'],
    ['XADD s KEEPREF MAXLEN = 5 LIMIT 3 1-1 f v', 'XADD s KEEPREF MAXLEN = 5 1-1 f v'],
  ])('%s', (line, expected) => {
    expect(rewritten(line)).toBe(expected);
  });
});

describe('everything else goes as it is', () => {
  test.each([
    ...[
      'SET k v',
      'SET k EX',
      'SET k v EX',
      'SET k v EX x',
      'SET k v EX 0',
      'SET k v PXAT 5',
      'SET k v EXAT 5',
      'SET k v KEEPTTL',
    ],
    ...[
      'EXPIRE k x',
      'EXPIRE k 9007199254740993',
      'EXPIRE k 01',
      'PEXPIREAT k 5 NX',
      'SETEX k 0 v',
      'SETEX k -1 v',
      'GETEX k PERSIST',
    ],
    ...[
      'HEXPIRE h -1 FIELDS 1 f',
      'HSETEX h FIELDS 1 EX 5',
      'RESTORE k 0 payload',
      'RESTORE k 5 payload ABSTTL',
      'RESTORE k x payload',
    ],
    ...[
      'XADD s MAXLEN ~ 5 LIMIT 3 1-1 f v',
      'XADD s * MAXLEN 5 LIMIT 3',
      'XADD s 1-1 MAXLEN = LIMIT 3',
      'XTRIM s MAXLEN 5',
      'XTRIM s MAXLEN = 5 LIMIT',
    ],
    ...['INCR k', 'MSETEX x a 1 EX 5'],
  ])('%s', (line) => {
    expect(rewritten(line)).toBeUndefined();
  });

  test('every command that can be rewritten is left alone when arguments are missing', () => {
    for (const name of REWRITABLE) {
      for (const tail of ['', ' k', ' k 5']) {
        const line = `${name}${tail}`;
        if (tail === ' k 5' && /EXPIRE$/.test(name)) continue;
        expect(rewritten(line), line).toBeUndefined();
      }
    }
  });
});

describe('on a replication link', () => {
  test('conditions of EXPIRE forms go, because the master has decided', () => {
    const rules = { masterDecided: true, graceMs: 0 };
    expect(rewritten('PEXPIREAT k 5 GT', rules)).toBe('PEXPIREAT k 5');
    expect(rewritten('EXPIREAT k 5 nx', rules)).toBe('EXPIREAT k 5');
    expect(rewritten('HPEXPIREAT h 5 XX FIELDS 1 NX', rules)).toBe('HPEXPIREAT h 5 FIELDS 1 NX');
    expect(rewritten('PEXPIREAT k 5', rules)).toBeUndefined();
  });

  test('deadlines of every form are held back by the grace', () => {
    const rules = { masterDecided: true, graceMs: 100 };
    expect(rewritten('PEXPIREAT k 5', rules)).toBe('PEXPIREAT k 105');
    expect(rewritten('EXPIREAT k 5', rules)).toBe('PEXPIREAT k 5100');
    expect(rewritten('SET k v PXAT 5', rules)).toBe('SET k v PXAT 105');
    expect(rewritten('SET k v EXAT 5', rules)).toBe('SET k v PXAT 5100');
    expect(rewritten('RESTORE k 5 payload ABSTTL', rules)).toBe('RESTORE k 105 payload ABSTTL');
    expect(rewritten('RESTORE k 0 payload ABSTTL', rules)).toBeUndefined();
    expect(rewritten('HPEXPIREAT h 5 FIELDS 1 f', rules)).toBe('HPEXPIREAT h 105 FIELDS 1 f');
    expect(rewritten('EXPIRE k 1', rules)).toBe('PEXPIREAT k 1001100');
    expect(rewritten('PEXPIREAT k -7', rules)).toBe('PEXPIREAT k 100');
  });
});

describe('a real server', () => {
  test('refuses LIMIT in exact trimming as written, and takes every rewritten form', async () => {
    await using redis = await spawnRedis();
    const send = (args: readonly Buffer[]) => redis.client.call(String(args[0]), ...args.slice(1));
    await expect(send(parseLine('XADD s MAXLEN = 5 LIMIT 3 1-1 f v'))).rejects.toThrow('LIMIT');
    const deadline = Date.now() + 100_000;
    const lines = [
      'SET k v EX 100',
      'SETEX k 100 v',
      'PSETEX k 100000 v',
      'SET k v GET PX 100000',
      'EXPIRE k 100',
      'PEXPIRE k 100000 XX',
      'GETEX k EX 100',
    ];
    for (const line of lines) {
      await redis.client.set('k', 'v', 'EX', 1);
      const args = parseLine(line);
      await send(rewriteFor(String(args[0]), args, deadline - 100_000) ?? []);
      expect(await redis.client.pexpiretime('k'), line).toBe(deadline);
    }
    const dump = (await redis.client.dumpBuffer('k')) as Buffer;
    await send(rewriteFor('RESTORE', [...parseLine('RESTORE r 100000'), dump], deadline - 100_000) ?? []);
    expect(await redis.client.pexpiretime('r')).toBe(deadline);
    for (const line of [
      'XADD s MAXLEN = 5 LIMIT 3 1-1 f v',
      'XADD s NOMKSTREAM MINID 0 LIMIT 3 1-2 f v',
      'XTRIM s MAXLEN 5 LIMIT 3',
    ]) {
      const args = parseLine(line);
      await send(rewriteFor(String(args[0]), args, deadline) ?? []);
    }
    expect(await redis.client.xlen('s')).toBe(2);
  });
});

describe('a split command', () => {
  test('gives each lane its own keys in the order of the command', () => {
    const args = parseLine('MSET a 1 b 2 "{a}" 3 c 4 a 5');
    const parts = splitByLane(args, 'MSET', 8);
    const laneOfA = slotOf(Buffer.from('a'), 0, 1) % 8;
    expect(formatCommand(parts.find((part) => part.lane === laneOfA)?.args ?? [])).toMatch(
      /^MSET a 1 (?:. . )*\{a\} 3 (?:. . )*a 5$/,
    );
    expect(new Set(parts.map((part) => part.lane)).size).toBe(parts.length);
    expect(parts.reduce((sum, part) => sum + part.args.length - 1, 0)).toBe(args.length - 1);
  });

  test('is one part if all keys share a lane', () => {
    expect(splitByLane(parseLine('DEL a b c'), 'DEL', 1)).toEqual([
      { lane: 0, args: parseLine('DEL a b c') },
    ]);
  });
});

describe('deadlines are noted, ms since 1970, if they lay ahead when the source ran the command', () => {
  const rules = { ...AS_WRITTEN, watchesDeadlines: true };
  test.each([
    ['EXPIRE k 10', [1_010_000]],
    ['PEXPIREAT k 1000001 NX', [1_000_001]],
    ['EXPIREAT k 1001', [1_001_000]],
    ['EXPIREAT k 1000', []],
    ['PEXPIRE k -1', []],
    ['SET k v PXAT 1000001', [1_000_001]],
    ['SET k v exat 1001 GET', [1_001_000]],
    ['SETEX k 1 v', [1_001_000]],
    ['GETEX k EXAT 1001', [1_001_000]],
    ['HPEXPIREAT h 1000001 FIELDS 1 f', [1_000_001]],
    ['HSETEX h FNX PXAT 1000001 FIELDS 1 EX 5', [1_000_001]],
    ['MSETEX 2 EX 1 PX 2 EXAT 1001', [1_001_000]],
    ['RESTORE k 1000001 payload ABSTTL', [1_000_001]],
    ['RESTORE k 5 payload', [1_000_005]],
    ['RESTORE k 0 payload', []],
    ['SET k PXAT', []],
  ])('%s', (line, expected) => {
    const args = parseLine(line);
    const name = String(args[0]);
    const noted: number[] = [];
    rewriteFor(name, args, TIME, rules, (atMs) => noted.push(atMs));
    expect(noted).toEqual(expected);
    if (expected.length > 0) expect(mayNeedRewrite(name, scanned(line), rules)).toBe(true);
  });
});
