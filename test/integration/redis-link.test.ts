import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import type { StopError } from '../../src/runtime/errors.ts';
import { type RedisLinkOptions, RedisLinkSource } from '../../src/sources/redis-link.ts';
import type { Entry, LogReplaced, Source } from '../../src/sources/source.ts';
import { SmallDisk } from '../chaos/disk.ts';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { until } from '../support/faults.ts';
import { Follower } from '../support/follower.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';
import { logWorkload } from '../support/workload.ts';

const SOURCE = [
  '--enable-debug-command',
  'yes',
  '--repl-diskless-sync-delay',
  '0',
  '--repl-ping-replica-period',
  '1',
];

class Scene implements AsyncDisposable {
  readonly source: RedisServer;
  readonly target: RedisServer;
  readonly dataDir: string;
  readonly notices: string[] = [];
  readonly #links: RedisLinkSource[] = [];
  readonly #followers: Follower[] = [];
  readonly #servers: RedisServer[] = [];

  private constructor(source: RedisServer, target: RedisServer, dataDir: string) {
    this.source = source;
    this.target = target;
    this.dataDir = dataDir;
  }

  static async create(args: readonly string[] = []): Promise<Scene> {
    const source = await RedisServer.start({ args: [...SOURCE, ...args] });
    const target = await RedisServer.start({ args: ['--enable-debug-command', 'yes'] });
    return new Scene(source, target, await mkdtemp(join(tmpdir(), 'lanegate-link-')));
  }

  open(url = this.source.url, options: Partial<RedisLinkOptions> = {}): RedisLinkSource {
    const link = new RedisLinkSource({
      endpoint: parseEndpoint('--source', url),
      logName: 'replication',
      name: 'test',
      dataDir: this.dataDir,
      restoreRules: async () => ({ rdbVersion: 10, bulkBytesMax: 64 * 1024 * 1024 }),
      onNotice: (text) => this.notices.push(text),
      ...options,
    });
    this.#links.push(link);
    return link;
  }

  follow(
    link: RedisLinkSource,
    position = 'wanted',
    stopWhen: (position: string) => boolean = () => false,
  ): Follower {
    const follower = new Follower(link, this.target.port, position, stopWhen);
    this.#followers.push(follower);
    return follower;
  }

  async server(args: readonly string[] = []): Promise<RedisServer> {
    const server = await RedisServer.start({ args: [...SOURCE, ...args] });
    this.#servers.push(server);
    return server;
  }

  async equal(follower: Follower, source = this.source): Promise<void> {
    await caughtUp(follower, source);
    expect(await digest(source)).not.toMatch(/^0+$/);
    expect(await digest(this.target)).toBe(await digest(source));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const follower of this.#followers) await follower.stop();
    for (const link of this.#links) await link.close();
    for (const server of [this.source, this.target, ...this.#servers]) await server[Symbol.asyncDispose]();
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

async function digest(server: RedisServer): Promise<string> {
  return String(await server.client().call('DEBUG', 'DIGEST'));
}

async function offsetOf(server: RedisServer): Promise<number> {
  return Number(/^master_repl_offset:(\d+)/m.exec(await server.client().info('replication'))?.[1]);
}

/** The stream's offset that the follower has reached is the source's own. */
async function caughtUp(follower: Follower, source: RedisServer): Promise<void> {
  await until('the follower is where the source is', async () => {
    const offset = await offsetOf(source);
    return Number(follower.position.split(':')[1]) === offset;
  }).catch((cause) => {
    throw new Error(`${follower.position}: ${follower.troubles.slice(0, 3).map(String).join('; ')}`, {
      cause,
    });
  });
}

/** About `megabytes` of values that do not compress, in keys of every type. */
async function fill(server: RedisServer, megabytes: number): Promise<void> {
  const redis = server.client();
  await redis.config('SET', 'rdbcompression', 'no');
  for (let i = 0; i < megabytes * 4; i++) {
    const pipeline = redis.pipeline();
    const value = (j: number) => `${i}.${j}:${'x'.repeat(1_000)}`;
    for (let j = 0; j < 64; j++) pipeline.set(`s:${i}:${j}`, value(j));
    for (let j = 0; j < 64; j++) pipeline.rpush(`l:${i}`, value(j));
    for (let j = 0; j < 64; j++) pipeline.hset(`h:${i}`, `f${j}`, value(j));
    for (let j = 0; j < 64; j++) pipeline.zadd(`z:${i % 7}`, j, value(j));
    await pipeline.exec();
  }
}

/** Writes until it is told to stop; resolves then. */
function traffic(server: RedisServer): { stop(): Promise<void> } {
  let running = true;
  const redis = server.client();
  const padding = 'x'.repeat(200);
  const done = (async () => {
    for (let i = 0; running; i++) {
      const pipeline = redis.pipeline();
      for (let j = 0; j < 50; j++) {
        pipeline
          .incr('counter')
          .rpush(`log:${j % 5}`, `${i}.${j}`)
          .set(`s:0:${j}`, `new ${i} ${padding}`);
        pipeline.select(j % 3).append('text', `${i}.${j},`);
      }
      await pipeline.exec();
      // As fast as it can it would take the processor from what it is there for.
      await delay(5);
    }
  })();
  return {
    stop: () => {
      running = false;
      return done;
    },
  };
}

function latch(): { open: () => void; wait: Promise<void> } {
  let open = () => {};
  const wait = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { open, wait };
}

const inSnapshot = (position: string) => /^snap:.*:\d+:\d+:\d+:\d+:[0-9a-f]*$/.test(position);
const inStream = (position: string) => /^[0-9a-f]{40}:/.test(position);

test.each(['yes', 'no'])(
  'a full sync and the stream behind it make the same databases (diskless: %s)',
  async (diskless) => {
    await using scene = await Scene.create(['--repl-diskless-sync', diskless]);
    await logWorkload(scene.source.client(), { seed: 1, commands: 2_000, databases: 4 });
    const follower = scene.follow(scene.open());
    await until('the log is replaced', () => follower.replaced.length);
    await logWorkload(scene.source.client(), { seed: 2, commands: 2_000, databases: 4 });
    await scene.equal(follower);
    expect(follower.troubles).toEqual([]);
    expect(follower.replaced).toHaveLength(1);
  },
);

test('a full sync replaces the functions as well', async () => {
  await using scene = await Scene.create();
  const library = (name: string) => `#!lua name=${name}\nredis.register_function('${name}', function() end)`;
  await scene.source.client().call('FUNCTION', 'LOAD', library('of_the_source'));
  await scene.target.client().call('FUNCTION', 'LOAD', library('of_the_target'));
  const follower = scene.follow(scene.open());
  await until('the stream is reached', () => inStream(follower.position));
  const listed = JSON.stringify(await scene.target.client().call('FUNCTION', 'LIST'));
  expect(listed).toContain('of_the_source');
  expect(listed).not.toContain('of_the_target');
});

test('what the source is told while the snapshot is loaded is applied behind it', async () => {
  await using scene = await Scene.create();
  await fill(scene.source, 8);
  const gate = latch();
  const source = scene.open(undefined, { memoryBytesMax: 64 * 1024 });
  const follower = scene.follow(source, 'wanted');
  follower.hold(gate.wait);
  const writes = traffic(scene.source);
  const spooledBytes = (EVERY_CASE ? 20 : 4) * 1024 * 1024;
  await until(
    'much of the stream is spooled',
    () => (source.progress()?.spooledBytes ?? 0) > spooledBytes,
    60_000,
  );
  gate.open();
  await until('the stream is reached', () => inStream(follower.position), 60_000);
  await writes.stop();
  await scene.equal(follower);
  expect(follower.troubles).toEqual([]);
  const progress = source.progress();
  expect(progress?.receivedBytes).toBe(progress?.totalBytes);
  expect(progress?.keys).toBeGreaterThan(2_000);
});

everyCase('a link that is cut again and again goes on where it was', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '64mb']);
  await using proxy = await FaultyProxy.start(scene.source.port);
  await fill(scene.source, 1);
  const follower = scene.follow(scene.open(proxy.url));
  await until('the stream is reached', () => inStream(follower.position));
  const writes = traffic(scene.source);
  for (let cut = 0; cut < 12; cut++) {
    const reached = follower.commands + 200 + Math.floor(Math.random() * 500);
    await until('it goes on', () => follower.commands > reached);
    proxy.sliceBytes(cut % 3 === 0 ? 37 : 0);
    proxy.cutAll();
  }
  await writes.stop();
  await scene.equal(follower);
  expect(follower.troubles.length).toBeGreaterThan(0);
  expect(follower.replaced).toHaveLength(1);
});

const PHASES: readonly [string, (position: string) => boolean][] = [
  ['when the log was replaced', (position) => position.endsWith(':start')],
  ['behind the FLUSHALL', (position) => position.endsWith(':keys')],
  ['in the snapshot', inSnapshot],
  ['in the stream', inStream],
];

test.each(PHASES)('a process that ends %s is followed by one that goes on there', async (_, reached) => {
  await using scene = await Scene.create(['--repl-backlog-size', '64mb']);
  await fill(scene.source, 4);
  const first = scene.open();
  const before = scene.follow(first, 'wanted', reached);
  const writes = traffic(scene.source);
  await before.ended;
  expect(reached(before.position)).toBe(true);
  await until('the snapshot is whole', () => {
    const progress = first.progress();
    return (
      progress?.totalBytes !== undefined &&
      progress.receivedBytes === progress.totalBytes &&
      progress.phase !== 'receiving'
    );
  });
  await first.close();
  const after = scene.follow(scene.open(), before.position);
  await until('the stream is reached', () => inStream(after.position));
  await writes.stop();
  await scene.equal(after);
  expect(after.replaced).toEqual([]);
  expect(after.troubles).toEqual([]);
});

everyCase('a restart in the snapshot needs no more of the source than what was not spooled', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '16kb']);
  await fill(scene.source, 4);
  const first = scene.open();
  const before = scene.follow(first, 'wanted', inSnapshot);
  const writes = traffic(scene.source);
  await before.ended;
  await until(
    'more is spooled than the backlog holds',
    () => (first.progress()?.spooledBytes ?? 0) > 24 * 1024 * 1024,
  );
  await writes.stop();
  const offset = await offsetOf(scene.source);
  const last = before.position
    .split(':')
    .slice(2, 3)
    .concat(String(offset - 1), '0')
    .join(':');
  await until('everything is here', async () => (await first.timeBehind(last)) !== undefined);
  await first.close();
  const after = scene.follow(scene.open(), before.position);
  await scene.equal(after);
  expect(after.replaced).toEqual([]);
});

test('a snapshot whose spool is gone is asked for again', async () => {
  await using scene = await Scene.create();
  await fill(scene.source, 4);
  const first = scene.open();
  const before = scene.follow(first, 'wanted', inSnapshot);
  await before.ended;
  await first.close();
  await scene.source.client().del('s:0:1', 'h:1');
  await rm(scene.dataDir, { recursive: true });
  const after = scene.follow(scene.open(), before.position);
  await scene.equal(after);
  expect(after.replaced).toHaveLength(1);
  expect(after.replaced[0]?.message).toContain('not on this machine');
});

test('a spooled snapshot that was damaged stops, and is asked for again when it is resumed', async () => {
  await using scene = await Scene.create();
  await fill(scene.source, 4);
  const first = scene.open();
  const before = scene.follow(first, 'wanted', inSnapshot);
  await before.ended;
  await until('the snapshot is whole', () => first.progress()?.phase === 'streaming');
  await first.close();
  const spool = join(scene.dataDir, 'spool', 'test', before.position.split(':')[1] as string, 'snapshot.rdb');
  const bytes = await readFile(spool);
  bytes[bytes.length - 500] = (bytes.at(-500) ?? 0) ^ 1;
  await writeFile(spool, bytes);
  const after = scene.follow(scene.open(), before.position);
  await scene.equal(after);
  expect(after.troubles.map((trouble) => (trouble as StopError).code)).toEqual(['SNAPSHOT_MALFORMED']);
  expect(after.replaced).toHaveLength(1);
});

test('a snapshot that was cut off is asked for again', async () => {
  await using scene = await Scene.create();
  await using proxy = await FaultyProxy.start(scene.source.port);
  await fill(scene.source, 8);
  proxy.sliceBytes(4_096);
  const source = scene.open(proxy.url);
  const follower = scene.follow(source);
  await until('some of it is here', () => (source.progress()?.receivedBytes ?? 0) > 1024 * 1024);
  proxy.sliceBytes(0);
  proxy.cutAll();
  await until('it begins again', () => follower.replaced.length === 2);
  await scene.equal(follower);
});

test('a position that the backlog does not reach is replaced by a full sync, with the reason', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '16kb']);
  await using proxy = await FaultyProxy.start(scene.source.port);
  await fill(scene.source, 1);
  const follower = scene.follow(scene.open(proxy.url));
  await until('the stream is reached', () => inStream(follower.position));
  proxy.refuse(true);
  proxy.cutAll();
  await fill(scene.source, 2);
  await scene.source.client().del('s:0:1');
  proxy.refuse(false);
  await scene.equal(follower);
  expect(follower.replaced).toHaveLength(2);
  expect(follower.replaced[1]?.message).toMatch(/backlog does not reach/);
  expect(scene.notices.join()).toMatch(/backlog does not reach/);
  await until('nothing is left of the first', async () => {
    const spools = await readdir(join(scene.dataDir, 'spool', 'test'));
    if (spools.length !== 1) return false;
    const files = await readdir(join(scene.dataDir, 'spool', 'test', spools[0] as string));
    return !files.includes('snapshot.rdb');
  });
});

test('a source that starts anew without its history is followed by a full sync', async () => {
  await using scene = await Scene.create();
  await fill(scene.source, 1);
  const follower = scene.follow(scene.open());
  await until('the stream is reached', () => inStream(follower.position));
  await scene.source.kill();
  await scene.source.restart();
  await scene.source.client().set('only', 'this');
  await until('it begins again', () => follower.replaced.length === 2);
  await scene.equal(follower);
  expect(follower.replaced[1]?.message).toMatch(/history is another one/);
});

test('a failover to a replica keeps the place, through the second replication id', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '16mb']);
  const replica = await scene.server(['--repl-backlog-size', '16mb']);
  await using proxy = await FaultyProxy.start(scene.source.port);
  await fill(scene.source, 1);
  await replica.client().replicaof('127.0.0.1', scene.source.port);
  const follower = scene.follow(scene.open(proxy.url));
  const writes = traffic(scene.source);
  await until('the stream is reached', () => inStream(follower.position) && follower.commands > 5_000);
  await writes.stop();
  const offset = await offsetOf(scene.source);
  await until('the replica has everything', async () => (await offsetOf(replica)) >= offset);
  proxy.refuse(true);
  proxy.cutAll();
  await scene.source.kill();
  const old = follower.position.split(':')[0];
  await replica.client().call('REPLICAOF', 'NO', 'ONE');
  await fill(replica, 1);
  proxy.retarget(replica.port);
  proxy.refuse(false);
  await scene.equal(follower, replica);
  expect(follower.replaced).toHaveLength(1);
  expect(follower.position.split(':')[0]).not.toBe(old);
});

test('a replica can be the source', async () => {
  await using scene = await Scene.create();
  const replica = await scene.server();
  await scene.source.client().select(2);
  await fill(scene.source, 1);
  await replica.client().replicaof('127.0.0.1', scene.source.port);
  const follower = scene.follow(scene.open(replica.url));
  await until('the stream is reached', () => inStream(follower.position));
  await fill(scene.source, 2);
  await logWorkload(scene.source.client(), { seed: 3, commands: 500, databases: 3 });
  const offset = await offsetOf(scene.source);
  await until('the replica has everything', async () => (await offsetOf(replica)) >= offset);
  await scene.equal(follower, replica);
  expect(await digest(scene.target)).toBe(await digest(scene.source));
});

test('a replica whose master selected a database before the snapshot is followed in that database', async () => {
  await using scene = await Scene.create();
  const replica = await scene.server();
  await replica.client().replicaof('127.0.0.1', scene.source.port);
  await until('it is attached', async () =>
    /master_link_status:up/.test(await replica.client().info('replication')),
  );
  const redis = scene.source.client();
  await redis.select(5);
  await redis.set('before', '1');
  const offset = await offsetOf(scene.source);
  await until('the replica has it', async () => (await offsetOf(replica)) >= offset);
  const snapshot = scene.follow(scene.open(replica.url));
  const now = await scene.open(replica.url).resolve('now');
  expect(now.position).toMatch(/^[0-9a-f]{40}:\d+:5$/);
  await until('the snapshot is loaded', () => inStream(snapshot.position));
  expect(snapshot.positions.find(inStream)).toMatch(/:5$/);
  await redis.set('behind', '1');
  const end = await offsetOf(scene.source);
  await until('the replica has it', async () => (await offsetOf(replica)) >= end);
  await scene.equal(snapshot, replica);
});

test('a user who may replicate and nothing else is enough', async () => {
  await using scene = await Scene.create();
  await scene.source.client().acl('SETUSER', 'link', 'on', '>pass word', '+psync', '+replconf', '+ping');
  await fill(scene.source, 1);
  const source = scene.open(`redis://link:pass%20word@127.0.0.1:${scene.source.port}`);
  expect((await source.head()).position).toBe('wanted');
  expect(await source.serverId()).toBeUndefined();
  const follower = scene.follow(source);
  await scene.equal(follower);
  const head = (await source.head()).position;
  expect(source.covers(follower.position, head)).toBe(true);
});

test.each([
  ['NOPERM', 'redis://nobody:pass@'],
  ['WRONGPASS', 'redis://link:wrong@'],
  ['NOAUTH', 'redis://'],
])('a source that refuses says %s', async (code, url) => {
  await using scene = await Scene.create();
  const redis = scene.source.client();
  await redis.acl('SETUSER', 'nobody', 'on', '>pass', '+ping');
  await redis.acl('SETUSER', 'link', 'on', '>pass', '+psync', '+replconf', '+ping');
  await redis.acl('SETUSER', 'default', code === 'NOAUTH' ? 'resetpass' : 'on');
  const source = scene.open(`${url}127.0.0.1:${scene.source.port}`);
  const read = source.read('wanted', new AbortController().signal)[Symbol.asyncIterator]();
  await expect(read.next()).rejects.toThrow(new RegExp(`^${code}`));
});

test('WAIT is answered at once with what is acknowledged', async () => {
  await using scene = await Scene.create();
  // What follows is told because the source asks for it. It passes over an ACK that comes before it knows that its snapshot
  // is sent, and begins the stream at the next one.
  const source = scene.open(undefined, { tellMs: 10_000 });
  const redis = scene.source.client();
  await redis.set('first', '1');
  const follower = scene.follow(source);
  await until('the stream is reached', () => inStream(follower.position));
  await redis.set('second', '1');
  await caughtUp(follower, scene.source);
  expect(await redis.wait(1, 5_000)).toBe(1);
  const gate = latch();
  await follower.pauseAt(gate.wait);
  await redis.set('third', '1');
  // The first question may travel with the command itself; at the second it has arrived for certain.
  for (let i = 0; i < 2; i++) expect(await redis.wait(1, 500)).toBe(0);
  gate.open();
  await caughtUp(follower, scene.source);
  expect(await redis.wait(1, 20_000)).toBe(1);
});

test('a caller who could not make the new log durable is told of it again', async () => {
  await using scene = await Scene.create();
  await fill(scene.source, 1);
  const source = scene.open();
  const position = await replacedBy(source);
  expect(await replacedBy(source)).toBe(position);
  expect(await scene.source.client().info('stats')).toMatch(/^sync_full:1\r$/m);
  await scene.equal(scene.follow(source, position));
});

test('nothing is acknowledged that was not applied', async () => {
  await using scene = await Scene.create();
  const source = scene.open();
  await fill(scene.source, 1);
  const follower = scene.follow(source);
  await until('the stream is reached', () => inStream(follower.position));
  const gate = latch();
  await follower.pauseAt(gate.wait);
  const applied = Number(follower.position.split(':')[1]);
  await fill(scene.source, 1);
  const acknowledged = async () =>
    Number(/^slave0:.*offset=(\d+)/m.exec(await scene.source.client().info('replication'))?.[1]);
  await until('the stream is received', async () => {
    const offset = await offsetOf(scene.source);
    return (await source.timeBehind(`${'0'.repeat(40)}:${offset - 100}:0`)) !== undefined;
  });
  expect(await scene.source.client().wait(1, 500)).toBe(0);
  expect(await acknowledged()).toBeLessThanOrEqual(applied);
  gate.open();
  await scene.equal(follower);
  await until('it is acknowledged', async () => (await acknowledged()) > applied + 100_000);
});

test('a full spool holds the source back, and says so', async () => {
  await using scene = await Scene.create([
    '--client-output-buffer-limit',
    'replica 0 0 0',
    '--repl-backlog-size',
    '64mb',
  ]);
  const gate = latch();
  const spoolBytesMax = 8 * 1024 * 1024;
  const source = scene.open(undefined, { spoolBytesMax, memoryBytesMax: 1024 * 1024 });
  const follower = scene.follow(source);
  follower.hold(gate.wait);
  await until('the log is replaced', () => follower.replaced.length);
  await fill(scene.source, 24);
  await until('the spool is full', () => source.progress()?.phase === 'full');
  expect(source.progress()?.spooledBytes).toBeLessThanOrEqual(spoolBytesMax);
  expect(scene.notices.join()).toMatch(/spool holds \d+ bytes of 8388608/);
  gate.open();
  await scene.equal(follower);
  expect(follower.replaced).toHaveLength(1);
  expect(source.progress()?.spooledBytes).toBeLessThan(spoolBytesMax);
});

test('a full disk is waited out, in the snapshot and in the stream, and named', async ({ skip }) => {
  await using disk = await SmallDisk.mount(48);
  if (disk === undefined) return skip('this process may not mount a file system');
  await using scene = await Scene.create([
    ...['--client-output-buffer-limit', 'replica 0 0 0', '--repl-backlog-size', '64mb'],
    ...['--rdbcompression', 'no'],
  ]);
  await fill(scene.source, 4);
  await disk.fill();
  const source = scene.open(undefined, { dataDir: disk.dir, memoryBytesMax: 1024 * 1024 });
  const follower = scene.follow(source);
  await until('the snapshot waits', () =>
    /disk of .* is full: the snapshot waits/.test(scene.notices.join()),
  );
  expect(await digest(scene.target)).toMatch(/^0+$/);
  disk.free();
  await scene.equal(follower);

  const gate = latch();
  await follower.pauseAt(gate.wait);
  await disk.fill();
  await fill(scene.source, 8);
  await until('the stream waits', () => /the disk of the spool is full/.test(scene.notices.join()));
  expect(source.progress()?.phase).toBe('full');
  disk.free();
  gate.open();
  await scene.equal(follower);
  expect(follower.replaced).toHaveLength(1);
  expect(follower.troubles).toEqual([]);
});

test.each(['yes', 'no'])(
  'a snapshot larger than the spool stops and names the option (diskless: %s)',
  async (diskless) => {
    await using scene = await Scene.create(['--repl-diskless-sync', diskless]);
    await fill(scene.source, 4);
    const source = scene.open(undefined, { spoolBytesMax: 1024 * 1024 });
    const follower = scene.follow(source);
    await until('it stops', () =>
      follower.troubles.some((trouble) => (trouble as StopError).code === 'SPOOL_TOO_SMALL'),
    );
  },
);

everyCase(
  'a data set larger than the memory that may be used passes through',
  async () => {
    await using scene = await Scene.create(['--rdbcompression', 'no']);
    await scene.source.client().call('DEBUG', 'POPULATE', 400_000, 'key', 1_000);
    const source = scene.open();
    const before = process.memoryUsage().rss;
    let peak = before;
    const { signal, done } = ends();
    const start = await replacedBy(source);
    let [keys, bytes] = [0, 0];
    for await (const entries of source.read(start, signal)) {
      for (const { resp } of entries) bytes += resp.length;
      keys = source.progress()?.keys ?? 0;
      peak = Math.max(peak, process.memoryUsage().rss);
      if (inStream((entries.at(-1) as Entry).position)) done();
    }
    expect(keys).toBe(400_000);
    expect(bytes).toBeGreaterThan(400_000_000);
    expect(peak - before).toBeLessThan(bytes / 3);
  },
  120_000,
);

test('a source that becomes a replica for a moment and back is followed on', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '64mb']);
  await using proxy = await FaultyProxy.start(scene.source.port);
  const redis = scene.source.client();
  const follower = scene.follow(scene.open(proxy.url));
  await fill(scene.source, 1);
  await until('the stream is reached', () => inStream(follower.position));
  const before = follower.position.split(':')[0];
  await redis.replicaof('127.0.0.1', 1);
  proxy.cutAll();
  await until('the link is refused', () =>
    follower.troubles.some((trouble) => /^ReplyError: NOMASTERLINK/.test(String(trouble))),
  );
  await redis.call('REPLICAOF', 'NO', 'ONE');
  await fill(scene.source, 1);
  await scene.equal(follower);
  expect(follower.position.split(':')[0]).not.toBe(before);
  expect(follower.replaced).toHaveLength(1);
});

test('a process that was thought dead spoils nothing of its successor', async () => {
  await using scene = await Scene.create(['--repl-backlog-size', '64mb']);
  await fill(scene.source, 4);
  const zombie = scene.open();
  const before = scene.follow(zombie, 'wanted', inSnapshot);
  const writes = traffic(scene.source);
  await before.ended;
  await until('the snapshot is whole', () => zombie.progress()?.phase === 'streaming');
  const after = scene.follow(scene.open(), before.position);
  await until('the stream is reached', () => inStream(after.position));
  // The zombie reads where it stood, on the same spool, while its successor goes on.
  const entries = await take(zombie, before.position, (list) => inStream((list.at(-1) as Entry).position));
  expect(entries.length).toBeGreaterThan(0);
  await writes.stop();
  await scene.equal(after);
  expect(after.troubles).toEqual([]);
  expect(after.replaced).toEqual([]);
});

test('now is a place behind which the stream is read without a snapshot', async () => {
  await using scene = await Scene.create();
  await scene.source.client().select(3);
  await scene.source.client().set('before', '1');
  const source = scene.open();
  const { position } = await source.resolve('now');
  await scene.source.client().set('behind', '1');
  const follower = scene.follow(source, position);
  await caughtUp(follower, scene.source);
  expect(follower.replaced).toEqual([]);
  const target = scene.target.client();
  await target.select(3);
  expect(await target.keys('*')).toEqual(['behind']);
  expect(await scene.source.client().info('replication')).toMatch(/connected_slaves:1/);
});

test('a source that falls silent is given up', async () => {
  await using scene = await Scene.create();
  await using proxy = await FaultyProxy.start(scene.source.port);
  const follower = scene.follow(scene.open(proxy.url, { silenceMsMax: 2_500 }));
  await until('the stream is reached', () => inStream(follower.position));
  proxy.mute();
  await until('it is noticed', () =>
    follower.troubles.some((trouble) => /nothing heard/.test(String(trouble))),
  );
  proxy.unmute();
  await scene.source.client().set('k', 'v');
  await scene.equal(follower);
});

test('every place inside an entry is a place to go on from', async () => {
  await using scene = await Scene.create();
  const redis = scene.source.client();
  await redis.set('snap', '1');
  await redis.mset('snap2', '1', 'snap3', '2');
  const source = scene.open();
  const follower = scene.follow(source, 'wanted', (position) => position.endsWith(':start'));
  await follower.ended;
  await redis.pipeline().set('a', '1').select(2).set('b', '2').select(0).set('c', '3').exec();
  const entries = await take(source, follower.position, (list) =>
    Buffer.concat(list.map((e) => e.resp)).includes('\r\nc\r\n'),
  );
  const all = entries.flatMap((entry) => commandsOf(entry).map((command) => ({ entry, command })));
  // A PING of the source may have come along behind it.
  const list = all.slice(0, all.findIndex(({ command }) => command.words[1] === 'c') + 1);
  for (const [i, { entry }] of list.entries()) {
    const first = list.findIndex((one) => one.entry === entry);
    const place = source.positionInside(entry, i - first);
    const rest = await take(source, place, (more) =>
      Buffer.concat(more.map((e) => e.resp)).includes('\r\nc\r\n'),
    );
    const commands = rest.flatMap((one) => commandsOf(one).slice(one.skip));
    expect(commands.slice(0, list.length - i)).toEqual(list.slice(i).map(({ command }) => command));
  }
});

function ends(): { signal: AbortSignal; done: () => void } {
  const abort = new AbortController();
  return { signal: abort.signal, done: () => abort.abort() };
}

/** Where the log begins that takes the place of none. */
async function replacedBy(source: Source): Promise<string> {
  const read = source.read('wanted', new AbortController().signal)[Symbol.asyncIterator]();
  const error = await read.next().then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return (error as LogReplaced).position;
}

interface DbCommand {
  readonly db: number;
  readonly words: readonly string[];
}

/** With the database in which each runs; what only keeps the link alive is left out. */
function commandsOf(entry: Entry): DbCommand[] {
  const scanner = new RespScanner();
  scanner.reset(entry.resp);
  const list: DbCommand[] = [];
  let { db } = entry;
  while (scanner.next()) {
    const words = scanner.args().map((arg) => arg.toString('latin1'));
    if (words[0] === 'SELECT') db = Number(words[1]);
    list.push({ db, words });
  }
  return list;
}

async function take(
  source: Source,
  position: string,
  isEnough: (entries: Entry[]) => boolean,
): Promise<Entry[]> {
  const entries: Entry[] = [];
  const abort = new AbortController();
  for await (const chunk of source.read(position, abort.signal)) {
    entries.push(...chunk);
    if (isEnough(entries)) abort.abort();
  }
  return entries;
}
