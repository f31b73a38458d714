import { mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import { packageRoot } from '../../src/runtime/package.ts';
import { openSource } from '../../src/sources/open.ts';
import type { Entry, Source } from '../../src/sources/source.ts';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { type LanegateProcess, lanegate, spawnLanegate } from '../support/cli.ts';
import { compareServers } from '../support/compare.ts';
import { PikaBinlogWriter } from '../support/pika-binlog-writer.ts';
import { RedisServer } from '../support/redis-server.ts';
import { random } from '../support/workload.ts';

const FIXTURES = join(packageRoot(), 'test/fixtures/pika');
const NOW_S = Math.floor(Date.now() / 1000);

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lanegate-pika-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

type Command = readonly string[];

const logOf = (name: string, fileBytes?: number) =>
  new PikaBinlogWriter(join(dir, `log_${name}`), fileBytes === undefined ? {} : { fileBytes });

const open = (path = dir, dbMap: readonly string[] = [], notices: string[] = []): Source =>
  openSource(`pika-binlog://${path}`, { name: 'test', dbMap, onNotice: (text) => notices.push(text) });

/** Everything behind `position`, to the head. */
async function readAll(source: Source, from?: string): Promise<Entry[]> {
  const position = from ?? (await source.resolve('beginning')).position;
  const head = (await source.head()).position;
  const entries: Entry[] = [];
  const abort = new AbortController();
  if (source.covers(position, head)) return entries;
  for await (const chunk of source.read(position, abort.signal)) {
    expect(chunk.length).toBeGreaterThan(0);
    entries.push(...chunk);
    if (source.covers(entries.at(-1)?.position ?? '', head)) abort.abort();
  }
  return entries;
}

/** `<db> <command>`, one each; what is refused stands with its reason. */
function linesOf(entries: readonly Entry[]): string[] {
  const scanner = new RespScanner();
  return entries.flatMap(({ resp, db, malformed, skip }) => {
    expect(skip).toBe(0);
    if (malformed !== undefined) return [`${db} !${malformed}`];
    const lines: string[] = [];
    scanner.reset(resp);
    while (scanner.next()) lines.push(`${db} ${scanner.args().join(' ')}`);
    return lines;
  });
}

describe('the files are a source', () => {
  test('whose positions, at and inside entries, are where the rest begins', async () => {
    const log = logOf('db0', 20_000);
    for (let i = 0; i < 900; i++) {
      const args =
        i % 50 === 9 ? ['SUNION', 'a'] : i % 90 === 5 ? ['delvx', 'k', 'v'] : ['SET', `k${i}`, 'v'.repeat(i)];
      log.append(args, NOW_S);
    }
    log.write();
    const source = open();
    const entries = await readAll(source);
    const lines = linesOf(entries);
    expect(lines).toHaveLength(900);
    expect(lines.filter((line) => line === '0 PING')).toHaveLength(18);
    expect(lines.filter((line) => line.startsWith('0 !'))).toHaveLength(10);
    expect(entries.every(({ timeMs }) => timeMs === NOW_S * 1000)).toBe(true);
    let taken = 0;
    for (const [i, entry] of entries.entries()) {
      const count = linesOf([entry]).length;
      for (const inside of [0, 1, count >> 1, count]) {
        const position = source.positionInside(entry, inside);
        expect(position).toMatch(/^[\x20-\x7e]{1,512}$/);
        if (i % 5 > 0) continue;
        expect(linesOf(await readAll(open(), position))).toEqual(lines.slice(taken + inside));
      }
      expect(source.positionInside(entry, count)).toBe(entry.position);
      taken += count;
    }
  });

  test('from now there is nothing, and a place can be named as lanegate prints it', async () => {
    const log = logOf('db0');
    const written = ['a', 'b', 'c'].map((key) => log.append(['SET', key, '1']));
    log.write();
    const source = open(log.dir);
    expect(await source.resolve('now')).toEqual(await source.head());
    const second = `0:${written[1]?.end}`;
    expect(await source.resolve(second)).toEqual({ position: `db0=${second}` });
    expect(linesOf(await readAll(source, `db0=${second}`))).toEqual(['0 SET c 1']);
    expect(await source.timeBehind(`db0=${second}`)).toBe(1_700_000_000_000);
    expect(await source.timeBehind((await source.head()).position)).toBeUndefined();
    for (const bad of ['5', 'db1=0:0', 'db0=0:0,db1=0:0', 'db0=0:0,db0=0:0', 'db0:0=0'])
      await expect(source.resolve(bad)).rejects.toThrow(/position/);
    await expect(readAll(source, 'db0=0:999999999').then(() => 'read')).resolves.toBe('read');
    await expect(
      source.read('db0=0:9999', new AbortController().signal)[Symbol.asyncIterator]().next(),
    ).rejects.toThrow(/ends at 0:/);
  });

  test('which ends, and then waits for its abort', async () => {
    const log = logOf('db0');
    log.append(['SET', 'a', '1']);
    log.write();
    const source = open();
    const abort = new AbortController();
    const iterator = source
      .read((await source.resolve('now')).position, abort.signal)
      [Symbol.asyncIterator]();
    const next = iterator.next();
    abort.abort();
    expect((await next).done).toBe(true);
    expect((await source.read('db0=0:0', abort.signal)[Symbol.asyncIterator]().next()).done).toBe(true);
  });

  test('that is read on by the next start when its one database has grown', async () => {
    const log = logOf('db0');
    log.append(['SET', 'a', '1']);
    log.write();
    const { position } = await open().head();
    log.append(['SET', 'b', '1']);
    log.write();
    expect(linesOf(await readAll(open(), position))).toEqual(['0 SET b 1']);
  });

  test('whose damaged file stops it behind everything that is whole', async () => {
    const log = logOf('db0');
    for (let i = 0; i < 5; i++) log.append(['SET', `k${i}`, '1']);
    const { offset } = log.place;
    log.raw(Buffer.from('0500000000000009', 'hex'));
    log.raw(Buffer.alloc(60, 'x'));
    log.write();
    const entries: Entry[] = [];
    const reading = (async () => {
      for await (const chunk of open().read('db0=0:0', new AbortController().signal)) entries.push(...chunk);
    })();
    await expect(reading).rejects.toMatchObject({
      code: 'MALFORMED',
      message: expect.stringContaining(`${join(log.dir, 'write2file0')}:${offset}: expected`),
    });
    expect(linesOf(entries)).toHaveLength(5);
  });

  test('that says what it leaves out at a torn end', async () => {
    const log = logOf('db0');
    const { end } = log.append(['SET', 'a', '1']);
    log.append(['SET', 'b', '1']);
    log.write({ manifest: false });
    const path = join(log.dir, 'write2file0');
    writeFileSync(path, readFileSync(path).subarray(0, end + 20));
    const notices: string[] = [];
    expect(linesOf(await readAll(open(dir, [], notices)))).toEqual(['0 SET a 1']);
    expect(notices).toEqual([expect.stringContaining(`${path}:${end}: what follows is no whole item`)]);
  });

  test.each([
    ['pika-binlog://host/dir', /three slashes/],
    ['pika-binlog:///dir?key=x', /only \?db=/],
  ])('%s is no address', (url, problem) => {
    expect(() => openSource(url, { name: 'test' })).toThrow(problem);
  });

  test('which is missing, or without a binlog, or without a database that is named', async () => {
    await expect(open(join(dir, 'nowhere')).head()).rejects.toMatchObject({ code: 'SOURCE_MISSING' });
    await expect(open().head()).rejects.toMatchObject({ code: 'SOURCE_MISSING' });
    logOf('db0').write();
    await expect(open(`${dir}?db=db1`).head()).rejects.toThrow(/db1/);
    await expect(open(dir, ['db2=0']).head()).rejects.toThrow(/db2/);
    expect(() => open(dir, ['db0=0', 'db0=1'])).toThrow(/twice/);
  });
});

describe('several databases', () => {
  function write(count: number, seed = 5): { lines: string[]; logs: PikaBinlogWriter[] } {
    const next = random(seed);
    const logs = ['db0', 'db1', 'db2'].map((name) => logOf(name, 3_000));
    const times = [NOW_S, NOW_S, NOW_S];
    const items: { time: number; db: number; line: string }[] = [];
    for (let i = 0; i < count; i++) {
      const db = Math.floor(next() * 3);
      times[db] = (times[db] as number) + Math.floor(next() * 2);
      logs[db]?.append(['SET', `k${i}`, 'v'], times[db]);
      items.push({ time: times[db] as number, db, line: `${db} SET k${i} v` });
    }
    for (const log of logs) log.write();
    const lines = items.sort((a, b) => a.time - b.time || a.db - b.db).map(({ line }) => line);
    return { lines, logs };
  }

  test('are merged by time, the same again behind every position', async () => {
    const { lines } = write(600);
    const source = open();
    const entries = await readAll(source);
    expect(linesOf(entries)).toEqual(lines);
    let taken = 0;
    for (const [i, entry] of entries.entries()) {
      const count = linesOf([entry]).length;
      if (i % 11 === 0) {
        const inside = count >> 1;
        const position = source.positionInside(entry, inside);
        expect(linesOf(await readAll(open(), position))).toEqual(lines.slice(taken + inside));
      }
      taken += count;
    }
    expect(entries.every(({ position }) => position.length <= 512)).toBe(true);
  });

  test('end where they ended at the start, and say that they have grown', async () => {
    const { lines, logs } = write(60);
    const source = open();
    const { position } = await source.resolve('beginning');
    const head = (await source.head()).position;
    logs[1]?.append(['SET', 'later', '1'], NOW_S);
    logs[1]?.write();
    const entries: Entry[] = [];
    const reading = (async () => {
      for await (const chunk of open().read(position, new AbortController().signal)) entries.push(...chunk);
    })();
    await expect(reading).rejects.toMatchObject({ code: 'SOURCE_GROWN' });
    expect(linesOf(entries)).toEqual(lines);
    expect(source.covers(entries.at(-1)?.position ?? '', head)).toBe(true);
    expect(source.covers(entries.at(-2)?.position ?? '', head)).toBe(false);
  });

  test('are chosen and mapped, and another mapping is another log', async () => {
    write(30);
    const mapped = open(`${dir}?db=db2,db1`, ['db1=7', 'db2=0']);
    const dbs = new Set((await readAll(mapped)).map(({ db }) => db));
    expect([...dbs].sort()).toEqual([0, 7]);
    expect(mapped.identity).not.toBe(open(`${dir}?db=db2,db1`).identity);
    expect(mapped.identity).toBe(open(`${dir}?db=db1,db2`, ['db2=0', 'db1=7']).identity);
  });
});

interface Bench extends AsyncDisposable {
  readonly target: RedisServer;
  readonly oracle: RedisServer;
  readonly queue: RedisServer;
  run(...args: string[]): ReturnType<typeof lanegate>;
  cli(verb: string, ...args: string[]): ReturnType<typeof lanegate>;
  /** A run with an environment of its own. */
  start(env: Record<string, string>, ...args: string[]): LanegateProcess;
}

async function bench(source: string): Promise<Bench> {
  const [target, oracle, queue] = await Promise.all([
    RedisServer.start(),
    RedisServer.start(),
    RedisServer.start({ args: ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'] }),
  ]);
  const env = {
    LANEGATE_SOURCE: source,
    LANEGATE_TARGET: target.url,
    LANEGATE_QUEUE: queue.url,
    LANEGATE_BOARD_PORT: '0',
    LANEGATE_WATCHDOG_MS: '300',
  };
  const cli = (verb: string, ...args: string[]) => lanegate([verb, ...args], { env });
  const run = ['run', '--until', 'caught-up', '--lanes', '4', '--lock-ms', '2000'];
  return {
    target,
    oracle,
    queue,
    cli,
    run: (...args) => lanegate([...run, ...args], { env }),
    start: (more, ...args) => spawnLanegate([...run, ...args], { env: { ...env, ...more } }),
    async [Symbol.asyncDispose]() {
      for (const server of [target, oracle, queue]) await server[Symbol.asyncDispose]();
    },
  };
}

describe('lanegate run applies them', () => {
  test('rounds of SET, SET, FLUSHDB, SET on two databases end as they ended at the source', async () => {
    const next = random(11);
    const names = ['db0', 'db1'];
    const logs = names.map((name) => logOf(name, 30_000));
    await using pipeline = await bench(`pika-binlog://${dir}`);
    const clients = names.map((_, db) => pipeline.oracle.client().duplicate({ db }));
    const runs: Promise<unknown>[] = [];
    let time = NOW_S - 5_000;
    for (let i = 0; i < 4_000; i++) {
      const db = next() < 0.5 ? 0 : 1;
      const key = `k${Math.floor(next() * 30)}`;
      if (next() < 0.01) time++;
      const [item, ...means] = commandsOf(i, key, time, next);
      logs[db]?.append(item as Command, time);
      for (const command of means)
        runs.push((clients[db] as (typeof clients)[0]).call(...(command as [string])));
    }
    await Promise.all(runs);
    for (const client of clients) client.disconnect();
    for (const log of logs) log.write({ zeros: 5_000 });
    const { code, stdout, stderr } = await pipeline.run();
    expect([code, stderr.includes('stopped')], stderr).toEqual([0, false]);
    expect(stdout).toContain('caught up');
    expect(await compareServers(pipeline.oracle.url, pipeline.target.url)).toEqual([]);
    expect(await pipeline.target.client().dbsize()).toBeGreaterThan(3);
  });

  test('a raw FLUSHALL empties every database, and a pattern only what it matches', async () => {
    const [first, second] = [logOf('db0'), logOf('db1')];
    for (let i = 0; i < 3_000; i++) second.append(['SET', `user:${i}`, 'v'], NOW_S + (i < 500 ? 0 : 2));
    first.append(['SET', 'gone', '1'], NOW_S);
    first.append(['FLUSHALL'], NOW_S + 1);
    first.append(['SET', 'a', '1'], NOW_S + 2);
    second.append(['SADD', 'user:set', 'm'], NOW_S + 3);
    second.append(['SET', 'other', '1'], NOW_S + 3);
    second.append(['PKPATTERNMATCHDEL', 'user:*', 'string'], NOW_S + 4);
    second.append(['SET', 'user:1', 'new'], NOW_S + 5);
    for (const log of [first, second]) log.write();
    await using pipeline = await bench(`pika-binlog://${dir}`);
    expect((await pipeline.run()).code).toBe(0);
    await pipeline.oracle.client().set('a', '1');
    const other = pipeline.oracle.client().duplicate({ db: 1 });
    await other.call('MSET', 'other', '1', 'user:1', 'new');
    await other.sadd('user:set', 'm');
    other.disconnect();
    expect(await compareServers(pipeline.oracle.url, pipeline.target.url)).toEqual([]);
  });

  test('what cannot be carried stops it with its name', async () => {
    await using pipeline = await bench(`pika-binlog://${join(FIXTURES, 'v4.0.1')}`);
    const { code, stderr } = await pipeline.run();
    expect(code).toBe(1);
    expect(stderr).toMatch(/ingest at seq 11 \(db0=0:790\), PKSETEXAT of key "ap": an empty value: APPEND/);
    expect(stderr).toContain('lane skip ingest --seq 11');
  });

  // `missing` is the value that Pika 4.0.1 does not log. The other keys' state depends on chance (t2, x) or on the hour.
  const RECORDED = [
    { version: '4.0.0', flushAt: 135_251, refused: ['SET p3'], absent: ['p3'] },
    {
      version: '4.0.1',
      flushAt: 135_239,
      refused: ['PKSETEXAT ap', 'PKSETEXAT missing', 'SET p3'],
      absent: ['missing', 'p3'],
    },
  ];
  test.each(EVERY_CASE ? RECORDED : RECORDED.slice(1))(
    'the log of a real Pika v$version is carried but for what is refused',
    async (recorded) => {
      const { version, flushAt, refused, absent } = recorded;
      const fixture = join(FIXTURES, `v${version}`);
      writeFileSync(join(dir, 'write2file0'), readFileSync(join(fixture, 'write2file0')));
      const manifest = readFileSync(join(fixture, 'manifest'));
      const cut = Buffer.from(manifest);
      cut.writeBigUInt64LE(BigInt(flushAt), 4);
      writeFileSync(join(dir, 'manifest'), cut);
      await using pipeline = await bench(`pika-binlog://${dir}`);
      const client = pipeline.oracle.client();
      const lines = readFileSync(join(FIXTURES, `commands-v${version}.txt`), 'utf8')
        .trim()
        .split('\n');
      const flush = lines.indexOf('FLUSHALL');
      const play = async (commands: readonly string[]) => {
        for (const command of commands) await client.call(...(command.split(' ') as [string]));
      };
      const unlike = async () => {
        const differences = await compareServers(pipeline.oracle.url, pipeline.target.url);
        return differences.map(({ key }) => key).filter((key) => !/^(key1|s[1-4]|t2|x)$/.test(key));
      };

      await play(lines.slice(0, flush));
      expect((await pipeline.run('--on-poison', 'dead-letter')).code).toBe(0);
      expect((await unlike()).sort()).toEqual(absent);
      const { deadLetters } = JSON.parse((await pipeline.cli('errors', '--json')).stdout) as {
        deadLetters: { command: string; key: string }[];
      };
      expect(deadLetters.map(({ command, key }) => `${command} ${key}`)).toEqual(refused);

      writeFileSync(join(dir, 'manifest'), manifest);
      await play(lines.slice(flush));
      await play(Array.from({ length: 150 }, (_, i) => `SET bulk:${i + 1} v${i + 1}`));
      expect((await pipeline.run('--on-poison', 'dead-letter')).code).toBe(0);
      expect(await compareServers(pipeline.oracle.url, pipeline.target.url)).toEqual([]);
    },
  );

  everyCase('once, though processes are killed and the queue is lost on the way', async () => {
    const logs = ['db0', 'db1'].map((name) => logOf(name, 40_000));
    await using pipeline = await bench(`pika-binlog://${dir}`);
    const means: [number, Command][] = [];
    for (let i = 0; i < 4_000; i++) {
      const db = i % 7 < 3 ? 0 : 1;
      const keyed = i % 3 === 0 ? ['INCRBY', `n${i % 7}`, '3'] : ['RPUSH', `l${i % 11}`, `e${i}`];
      const command = i % 300 === 299 ? ['FLUSHDB'] : keyed;
      logs[db]?.append(command, NOW_S + (i >> 6));
      means.push([db, command]);
    }
    logs[0]?.append(['SUNION', 'a'], NOW_S);
    for (const log of logs) log.write();
    const clients = [0, 1].map((db) => pipeline.oracle.client().duplicate({ db }));
    await Promise.all(means.map(([db, command]) => clients[db]?.call(...(command as [string]))));
    for (const client of clients) client.disconnect();
    const small = ['--round-bytes', '4KiB', '--chunk-bytes', '4KiB', '--retention-ms', '0'];
    for (const where of [
      'after-exec-before-reply=kill@9',
      'after-commit-before-announce=kill@4',
      'gate-after-exec=kill@2',
    ]) {
      const worker = pipeline.start({ LANEGATE_FAILPOINT: where }, ...small);
      expect((await worker.exit()).signal).toBe('SIGKILL');
      await pipeline.queue.client().flushall();
    }
    expect((await pipeline.run(...small)).code).toBe(0);
    expect(await compareServers(pipeline.oracle.url, pipeline.target.url)).toEqual([]);
  });
});

/** An item as Pika logs it, and what it means at the oracle. */
function commandsOf(i: number, key: string, time: number, next: () => number): Command[] {
  const kind = next();
  const later = String(NOW_S + 100_000);
  const same = (...command: string[]): Command[] => [command, command];
  if (kind < 0.01) return same('FLUSHDB');
  if (kind < 0.3) return same('SET', key, `v${i}`);
  if (kind < 0.35)
    return [
      ['pksetexat', key, '0', `v${i}`],
      ['SET', key, `v${i}`],
    ];
  if (kind < 0.4)
    return [
      ['pksetexat', key, later, `v${i}`],
      ['SET', key, `v${i}`, 'EXAT', later],
    ];
  if (kind < 0.43)
    return [
      ['pksetexat', key, `${later}123`, `v${i}`],
      ['SET', key, `v${i}`, 'PXAT', `${later}123`],
    ];
  if (kind < 0.46)
    return [
      ['pksetexat', key, String(time - 1), 'x'],
      ['DEL', key],
    ];
  if (kind < 0.49)
    return [
      ['SET', key, `n${i}`, 'EX', '200000', 'NX'],
      ['SET', key, `n${i}`, 'EXAT', String(time + 200_000), 'NX'],
    ];
  if (kind < 0.55) return same('rpush', `l${key}`, `e${i}`);
  if (kind < 0.6) return same('LPOP', `l${key}`);
  if (kind < 0.7) return same('INCRBY', `n${key}`, '3');
  if (kind < 0.75) return same('expireat', key, later);
  if (kind < 0.8) return same('APPEND', key, `a${i}`);
  if (kind < 0.85) return same('del', key);
  if (kind < 0.9) return same('zadd', `z${key}`, '1.5', `m${i % 9}`);
  if (kind < 0.93) return [['SUNION', 'a', 'b']];
  return same('SETRANGE', key, '3', `r${i}`);
}

describe('lanegate pika-binlog', () => {
  test('prints position, time, database, command and key; values only when asked for', async () => {
    const log = logOf('db3', 200);
    const written = [
      log.append(['SET', 'key1', 'secret'], 1_700_000_000),
      log.append(['SUNION', 'a', 'b'], 1_700_000_001),
      log.append(['pksetexat', 'k', '0', ''], 1_700_000_002),
      log.append(['SET', 'k\n', 'v'.repeat(100)], 1_700_000_003),
    ];
    log.write();
    const ends = written.map(({ filenum, end }) => `db3=${filenum}:${end}`);
    const plain = await lanegate(['pika-binlog', dir]);
    expect([plain.code, plain.stderr]).toEqual([0, '']);
    expect(plain.stdout.split('\n')).toEqual([
      `${ends[0]}  2023-11-14T22:13:20Z  SET key1`,
      `${ends[1]}  2023-11-14T22:13:21Z  SUNION a  [left out: a read, logged by mistake]`,
      expect.stringMatching(
        new RegExp(`^${ends[2]}  2023-11-14T22:13:22Z  PKSETEXAT k  \\[cannot be applied: an empty value`),
      ),
      `${ends[3]}  2023-11-14T22:13:23Z  SET "k\\n"`,
      '',
    ]);
    const values = await lanegate([
      'pika-binlog',
      log.dir,
      '--values',
      '--json',
      '--from',
      ends[0]?.slice(4) ?? '',
    ]);
    const items = values.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(items).toMatchObject([
      { position: ends[1], command: 'SUNION', key: 'a', args: ['b'], becomes: 'nothing' },
      { position: ends[2], command: 'PKSETEXAT', args: ['0', '""'], becomes: 'cannot' },
      {
        position: ends[3],
        time: '2023-11-14T22:13:23Z',
        db: 'db3',
        args: [`${'v'.repeat(64)}…`],
        becomes: 'command',
        why: null,
      },
    ]);
    expect(log.place.filenum).toBe(1);
    const file = await lanegate(['pika-binlog', join(log.dir, 'write2file0')]);
    expect(file.stdout.split('\n')).toHaveLength(written.filter(({ filenum }) => filenum === 0).length + 1);
  });

  test('says what is wrong with files and places', async () => {
    const log = logOf('db0');
    log.append(['SET', 'a', '1']);
    log.write();
    const fails = async (...args: string[]) => {
      const { code, stderr } = await lanegate(['pika-binlog', ...args]);
      return `${code} ${stderr}`;
    };
    expect(await fails(join(dir, 'nowhere'))).toMatch(/^2 .*ENOENT/);
    expect(await fails(join(log.dir, 'manifest'))).toMatch(/^2 .*write2file<N>/);
    expect(await fails(log.dir, '--from', 'x')).toMatch(/^2 .*--from/);
    expect(await fails(log.dir, '--from', '0:7')).toMatch(/^1 .*write2file0:7: expected the end of an item/);
    unlinkSync(join(log.dir, 'write2file0'));
    expect(await fails(log.dir)).toMatch(/^1 .*no binlog/);
  });
});
