import { PassThrough, Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { encodeCommand, encodeCommands } from '../../src/binlog/resp.ts';
import { append } from '../../src/commands/append.ts';
import type { CommandContext } from '../../src/commands/context.ts';
import { BinlogWriter } from '../../src/sources/binlog-writer.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';

interface Options {
  readonly batch?: number;
  readonly db?: number;
  readonly resp?: boolean;
  readonly signal?: AbortSignal;
}

async function run(server: RedisServer, stdin: Readable, options: Options = {}) {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const { signal = new AbortController().signal, ...rest } = options;
  const source = `redis-stream://127.0.0.1:${server.port}?key=binlog`;
  const config = { source, sourceSecrets: {}, batch: 100, db: 0, resp: false, ...rest };
  const code = await append({
    config,
    stdin,
    stdout,
    stderr,
    signal,
    positionals: [],
  } as unknown as CommandContext);
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') };
}

const text = (lines: readonly string[]) => Readable.from([Buffer.from(lines.join('\n'))]);

async function entriesOf(server: RedisServer): Promise<Record<string, Buffer | undefined>[]> {
  const rows = await server.client().xrangeBuffer('binlog', '-', '+');
  return rows.map(([, fields]) => {
    return Object.fromEntries(
      fields.flatMap((field, i) => (i % 2 === 0 ? [[String(field), fields[i + 1]]] : [])),
    );
  });
}

const respOf = (entries: readonly Record<string, Buffer | undefined>[]) =>
  entries.map((entry) => String(entry.resp));

test('lines in redis-cli quoting become entries of --batch commands', async () => {
  await using server = await RedisServer.start();
  const lines = [
    'SET a 1',
    '',
    '  SET b "x\\x00\\r\\n y"  \r',
    "SET c 'it''s'".replace("''", "\\'"),
    'FLUSHDB',
    '#not a comment',
  ];
  const { code, out, err } = await run(server, text(lines), { batch: 2, db: 3 });
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(out).toMatch(/^5 commands in 3 entries, last id \d+-\d+\n$/);
  const entries = await entriesOf(server);
  expect(entries.map((entry) => String(entry.db))).toEqual(['3', '3', '3']);
  expect(entries.map((entry) => entry.resp)).toEqual([
    encodeCommands([
      ['SET', 'a', '1'],
      ['SET', 'b', Buffer.from('x\0\r\n y')],
    ]),
    encodeCommands([['SET', 'c', "it's"], ['FLUSHDB']]),
    encodeCommand(['#not', 'a', 'comment']),
  ]);
});

test('a MULTI stays in one entry, however long', async () => {
  await using server = await RedisServer.start();
  const lines = ['SET a 1', 'multi', 'SET b 1', 'SET c 1', 'SET d 1', 'exec', 'SET e 1'];
  expect((await run(server, text(lines), { batch: 3 })).code).toBe(0);
  const counts = respOf(await entriesOf(server)).map((resp) => resp.split('*').length - 1);
  expect(counts).toEqual([1, 5, 1]);
});

test('a SELECT holds for the entries behind it, unless it was discarded', async () => {
  await using server = await RedisServer.start();
  const lines = [
    'SELECT 2',
    'SET a 1',
    'MULTI',
    'SELECT 5',
    'DISCARD',
    'SET b 1',
    'MULTI',
    'SELECT 7',
    'EXEC',
    'SET c 1',
  ];
  expect((await run(server, text(lines), { batch: 1 })).code).toBe(0);
  const dbs = (await entriesOf(server)).map((entry) => Number(String(entry.db ?? 0)));
  expect(dbs).toEqual([0, 2, 2, 2, 2, 7]);
});

test.each([
  [
    ['SET a 1', 'SET b 1', '', 'SET c "x', 'SET d 1'],
    4,
    /line 4: unbalanced quote.*\n {2}2 commands in 1 entry, last id/,
  ],
  [['SET a 1', 'EXEC', 'SET d 1'], 2, /line 2: EXEC without MULTI\n {2}1 command in 1 entry, last id/],
  [
    ['SET a 1', 'MULTI', 'SET b 1', 'MULTI'],
    4,
    /line 4: MULTI inside MULTI\n {2}1 command in 1 entry, last id/,
  ],
  [
    ['MULTI', 'SET b 1'],
    1,
    /line 1: MULTI without EXEC: nothing of it was appended\n {2}0 commands in 0 entries, nothing/,
  ],
])('everything before a bad line is appended and the line is named: %j', async (lines, _line, message) => {
  await using server = await RedisServer.start();
  const { code, out, err } = await run(server, text(lines));
  expect({ code, out }).toEqual({ code: 1, out: '' });
  expect(err).toMatch(message);
  const before = Number(/(\d+) commands? in/.exec(err)?.[1]);
  expect(
    respOf(await entriesOf(server))
      .join('')
      .split('*').length - 1,
  ).toBe(before);
});

test('RESP is taken as it is, cut anywhere', async () => {
  await using server = await RedisServer.start();
  const commands = [
    ['SET', 'k', Buffer.from([0, 13, 10, 255])],
    ['MULTI'],
    ['SET', 'k2', ''],
    ['EXEC'],
    ['select', '4'],
    ['MSET', ...Array.from({ length: 40 }, (_, i) => `argument ${i}`)],
    ['DEL', 'x'],
  ];
  const bytes = encodeCommands(commands);
  for (const size of [1, 2, 3, 7, 50, 10_000]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) => {
      return bytes.subarray(i * size, (i + 1) * size);
    });
    await server.client().flushall();
    const { code, out } = await run(server, Readable.from(pieces), { resp: true, batch: 5 });
    expect({ code, out }).toMatchObject({ code: 0, out: expect.stringMatching(/^7 commands in 2 entries/) });
    const entries = await entriesOf(server);
    expect(Buffer.concat(entries.map((entry) => entry.resp as Buffer))).toEqual(bytes);
    expect(String(entries[1]?.db)).toBe('4');
  }
});

test('a bad byte in RESP is named by its offset, and so is an end inside a command', async () => {
  await using server = await RedisServer.start();
  const good = encodeCommand(['SET', 'a', '1']);
  const bad = await run(server, Readable.from([good, good, Buffer.from('*1\r\n:55555\r\n')]), { resp: true });
  expect(bad.err).toMatch(/byte 58: not a RESP command: expected '\$'\n {2}2 commands in 1 entry, last id/);
  const cut = await run(server, Readable.from([good, good.subarray(0, 9)]), { resp: true });
  expect(cut.err).toMatch(
    /byte 27: the input ends inside a command of which 9 bytes are there\n {2}1 command in 1 entry/,
  );
  expect([bad.code, cut.code]).toEqual([1, 1]);
});

test('a large value arrives whole', async () => {
  await using server = await RedisServer.start();
  const big = encodeCommand(['SET', 'big', Buffer.alloc(20_000_000, 'x')]);
  const pieces = Array.from({ length: 400 }, (_, i) => big.subarray(i * 60_000, (i + 1) * 60_000));
  expect((await run(server, Readable.from(pieces), { resp: true })).code).toBe(0);
  expect((await entriesOf(server))[0]?.resp?.equals(big)).toBe(true);
});

test('an entry that is not full is appended when the input pauses', async () => {
  await using server = await RedisServer.start();
  const stdin = new PassThrough();
  const running = run(server, stdin);
  stdin.write('SET a 1\n');
  await expect.poll(() => server.client().xlen('binlog')).toBe(1);
  stdin.end('SET b 1\n');
  expect((await running).out).toMatch(/^2 commands in 2 entries/);
});

test('an interruption ends it with what was appended', async () => {
  await using server = await RedisServer.start();
  const stdin = new PassThrough();
  const abort = new AbortController();
  const running = run(server, stdin, { signal: abort.signal });
  stdin.write('SET a 1\n');
  await expect.poll(() => server.client().xlen('binlog')).toBe(1);
  abort.abort();
  const { code, err } = await running;
  expect(code).toBe(1);
  expect(err).toMatch(/interrupted\n {2}1 command in 1 entry, last id/);
});

test('a refused entry ends it: nothing behind it is appended', async () => {
  await using server = await RedisServer.start({ args: ['--maxmemory-policy', 'noeviction'] });
  await server.client().set('binlog', 'not a stream');
  const { code, err } = await run(server, text(['SET a 1']));
  expect(code).toBe(1);
  expect(err).toMatch(/not appended: WRONGTYPE.*\n {2}0 commands in 0 entries, nothing was appended\n/);
});

test('a writer appends entries and several at once, all or none', async () => {
  await using server = await RedisServer.start();
  const writer = new BinlogWriter({ redis: server.client(), key: 'binlog' });
  const id = await writer.append([['SET', Buffer.from([255]), 7]], { db: 2, timeMs: 99 });
  const ids = await writer.appendAll([{ commands: [['PING']] }, { commands: [['MULTI'], ['EXEC']], db: 1 }]);
  expect((await server.client().xrange('binlog', '-', '+')).map(([entryId]) => entryId)).toEqual([
    id,
    ...ids,
  ]);
  const [first] = await entriesOf(server);
  expect(first).toEqual({
    resp: encodeCommand(['SET', Buffer.from([255]), '7']),
    db: Buffer.from('2'),
    time: Buffer.from('99'),
  });
  await writer.close();
  await writer.close();
  await expect(writer.append([['PING']])).rejects.toMatchObject({ outcome: 'not-appended' });
});

test('a writer refuses what is no entry', async () => {
  await using server = await RedisServer.start();
  const writer = new BinlogWriter({ redis: server.client(), key: 'binlog' });
  for (const commands of [[], [[]], [['MULTI']], [['EXEC']], [['MULTI'], ['multi'], ['EXEC']]]) {
    await expect(writer.append(commands)).rejects.toBeInstanceOf(TypeError);
  }
  await expect(writer.append([['PING']], { db: -1 })).rejects.toBeInstanceOf(TypeError);
  expect(await server.client().exists('binlog')).toBe(0);
  await writer.close();
});

test('a writer whose connection breaks behind the XADD says that the outcome is unknown, sends nothing twice and goes on', async () => {
  await using server = await RedisServer.start();
  await using proxy = await FaultyProxy.start(server.port);
  const writer = new BinlogWriter({ url: `redis-stream://127.0.0.1:${proxy.port}?key=binlog` });
  await writer.append([['SET', 'a', '1']]);
  proxy.cutAfter('marker', 'request', 'after-execution');
  await expect(writer.append([['SET', 'marker', '1']])).rejects.toMatchObject({ outcome: 'unknown' });
  await writer.append([['SET', 'b', '1']]);
  const seen = respOf(await entriesOf(server)).map((resp) => resp.includes('marker'));
  expect(seen).toEqual([false, true, false]);
  await writer.close();
  await server.kill();
  const late = new BinlogWriter({ url: `redis-stream://127.0.0.1:${server.port}?key=binlog` });
  await expect(late.append([['PING']])).rejects.toMatchObject({
    outcome: 'not-appended',
    code: 'NOT_APPENDED',
  });
  await late.close();
});
