import { describe, expect, test } from 'vitest';
import { Classifier } from '../../../src/binlog/classify.ts';
import { decodeSpec, encodeSpec, specsFromReply } from '../../../src/binlog/command-spec.ts';
import { CommandTable } from '../../../src/binlog/command-table.ts';
import { keysOf } from '../../../src/binlog/keys.ts';
import { spawnRedis } from './redis-server.ts';
import { scanned } from './scanned.ts';

const table = CommandTable.shipped();

function lookup(name: string, from: CommandTable = table): string | undefined {
  const bytes = Buffer.from(`<${name}>`);
  return from.lookup(bytes, 1, bytes.length - 1)?.name;
}

/** As a Redis 7 answers for a module's command: RESP2, flat pairs, status replies as Buffers. */
function moduleCommand(
  name: string,
  flags: string[],
  keySpecs: unknown[],
  subcommands: unknown[] = [],
): unknown[] {
  return [
    Buffer.from(name),
    -2,
    flags.map((flag) => Buffer.from(flag)),
    1,
    1,
    1,
    [],
    [],
    keySpecs,
    subcommands,
  ];
}

const FIRST_KEY = [
  'flags',
  ['RW', 'update'],
  'begin_search',
  ['type', 'index', 'spec', ['index', 1]],
  'find_keys',
  ['type', 'range', 'spec', ['lastkey', 0, 'keystep', 1, 'limit', 0]],
].map((part) => (typeof part === 'string' ? Buffer.from(part) : part));

describe('the command table', () => {
  test('finds every command in upper, lower and mixed case, and nothing else', () => {
    for (const { name } of table.specs.filter((spec) => !spec.name.includes(' '))) {
      expect(lookup(name)).toBe(name);
      expect(lookup(name.toLowerCase())).toBe(name);
      expect(lookup(name.charAt(0) + name.slice(1).toLowerCase())).toBe(name);
      expect(lookup(`${name}X`)).not.toBe(name);
    }
    for (const stranger of [
      '',
      'S',
      'SE',
      'SETT',
      'S\u0005T',
      'G\u0005T',
      'SORT\rRO',
      '\xff',
      'NOSUCHCOMMAND',
    ]) {
      expect(lookup(stranger)).toBeUndefined();
    }
  });

  test('knows no name twice', () => {
    expect(new Set(table.specs.map(({ name }) => name)).size).toBe(table.specs.length);
  });

  test('resolves subcommands, and knows none that is not there', () => {
    expect(table.resolve(scanned('xgroup cREATE k g $'))?.name).toBe('XGROUP CREATE');
    expect(table.resolve(scanned('XGROUP NOSUCH k'))).toBeUndefined();
    expect(table.find('script flush')?.arity).toBe(-2);
  });

  test('marks as plain only what has one key at argument 1 and never changes', () => {
    const plain = (name: string): number | undefined => table.find(name)?.plainArgcMax;
    expect(table.find('INCR')?.plainSingleKey).toBe(true);
    expect(table.find('HSET')?.plainSingleKey).toBe(true);
    expect(table.find('SET')?.plainSingleKey).toBe(false);
    expect(plain('SET')).toBe(3);
    expect(plain('DEL')).toBe(2);
    for (const name of [
      'EXPIRE',
      'SETEX',
      'XADD',
      'SPOP',
      'RENAME',
      'SORT',
      'BITOP',
      'MOVE',
      'BLPOP',
      'GET',
      'FLUSHALL',
      'EVAL',
    ]) {
      expect(plain(name), name).toBe(0);
    }
  });

  test('every plain command has its one key where the key specs say', () => {
    const plain = table.specs.filter((spec) => spec.plainArgcMax > 0);
    expect(plain.length).toBeGreaterThan(60);
    for (const spec of plain) {
      const argc = Math.min(spec.plainArgcMax, Math.abs(spec.arity));
      const line = [spec.name, ...Array.from({ length: argc - 1 }, (_, i) => `a${i + 1}`)].join(' ');
      expect(keysOf(scanned(line), spec), line).toEqual({ certainty: 'exact', keys: [1] });
    }
  });

  test('has the same fingerprint in every process, and another one when a command is added', () => {
    expect(table.fingerprint).toMatch(/^[0-9a-f]{16}$/);
    expect(CommandTable.shipped().fingerprint).toBe(table.fingerprint);
    const more = table.completedBy([moduleCommand('json.set', ['write'], [FIRST_KEY])]);
    expect(more.fingerprint).not.toBe(table.fingerprint);
  });

  test('takes module commands from a COMMAND reply and keeps its own lines', () => {
    const reply = [
      moduleCommand('json.set', ['write'], [FIRST_KEY]),
      moduleCommand('set', ['readonly'], []),
      moduleCommand('ft.config', [], [], [moduleCommand('ft.config|get', ['readonly'], [])]),
      'not an element',
      [Buffer.from('two words here'), 1, [], 0, 0, 0],
    ];
    const more = table.completedBy(reply);
    expect(more.find('JSON.SET')?.plainSingleKey).toBe(true);
    expect(more.find('ft.config get')?.origin).toBe('target');
    expect(more.find('SET')?.write).toBe(true);
    expect(more.specs.length).toBe(table.specs.length + 3);
    expect(lookup('Json.Set', more)).toBe('JSON.SET');
  });

  test('can be kept as text and made again', () => {
    const more = table.completedBy([moduleCommand('json.set', ['write'], [FIRST_KEY])]);
    expect(CommandTable.withAdditions(more.additions()).fingerprint).toBe(more.fingerprint);
    expect(CommandTable.withAdditions('').fingerprint).toBe(table.fingerprint);
    for (const spec of more.specs) expect(encodeSpec(decodeSpec(encodeSpec(spec)))).toBe(encodeSpec(spec));
  });

  test('does not believe key specs that it cannot read, or that say they are not the whole truth', () => {
    const broken = [
      'begin_search',
      ['type', 'index', 'spec', ['index', 'x']],
      'find_keys',
      ['type', 'range', 'spec', []],
    ];
    const more = table.completedBy([
      moduleCommand('m.broken', ['write'], [broken]),
      moduleCommand('m.movable', ['write', 'movablekeys'], [FIRST_KEY]),
      [Buffer.from('m.old'), -2, [Buffer.from('write')], 1, -1, 2],
    ]);
    const options = {
      table: more,
      splitMultiKey: true,
      publish: false,
      scriptKeys: 'all',
      pipeline: 'default',
    } as const;
    const classifier = new Classifier(options);
    expect(classifier.classify(scanned('m.broken a'))).toMatchObject({ kind: 'all', reason: 'keys unknown' });
    expect(classifier.classify(scanned('m.movable a'))).toMatchObject({
      kind: 'all',
      reason: 'keys unknown',
    });
    expect(classifier.classify(scanned('m.old a 1 b 2'))).toMatchObject({
      kind: 'keyed',
      keys: [Buffer.from('a'), Buffer.from('b')],
    });
  });

  test('is completed by nothing of a Redis 7.0, because it was made from one', async () => {
    await using redis = await spawnRedis();
    const reply = (await redis.client.callBuffer('COMMAND')) as unknown[];
    if (!/redis_version:7\.0\./.test(await redis.client.info('server'))) return;
    expect(specsFromReply(reply).length).toBeGreaterThan(300);
    expect(table.completedBy(reply)).toBe(table);
    for (const facts of specsFromReply(reply)) {
      const own = table.find(facts.name);
      expect(own && encodeSpec(own)).toBe(encodeSpec(facts));
    }
  });
});
