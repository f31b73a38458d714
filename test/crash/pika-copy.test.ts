import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { comparePlaces, parsePikaPosition } from '../../src/sources/pika/position.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import type { PikaMasterOptions } from '../support/pika-faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { Pipeline, type PipelineOptions } from '../support/pipeline.ts';
import { RedisServer } from '../support/redis-server.ts';

// A copy of a Pika's data is made while clients go on writing what shows it when it is lost or done twice.

class Scene implements AsyncDisposable {
  readonly data: RedisServer;
  readonly master: PikaMaster;
  readonly pipeline: Pipeline;
  readonly #clients: Redis[] = [];

  private constructor(data: RedisServer, master: PikaMaster, pipeline: Pipeline) {
    this.data = data;
    this.master = master;
    this.pipeline = pipeline;
  }

  static async start(options: PikaMasterOptions = {}, piped: PipelineOptions = {}): Promise<Scene> {
    const data = await RedisServer.start();
    // A write is in the data for a while before it is in the log.
    const beforeLog = async () => {
      if (Math.random() < 0.2) await delay(Math.random() * 10);
    };
    const master = await PikaMaster.start({ windowItems: 900, beforeLog, ...options, data });
    const pipeline = await Pipeline.start({ lanes: 4, sourceUrl: master.url, ...piped });
    return new Scene(data, master, pipeline);
  }

  client(db = 0): Redis {
    const client = new Redis({
      host: '127.0.0.1',
      port: this.master.port,
      db,
      protocol: 2,
      enableReadyCheck: false,
      disableClientInfo: true,
    });
    client.on('error', () => {});
    this.#clients.push(client);
    return client;
  }

  /** Directly: Pika's log knows nothing of it. */
  async populate(keys: number, db = 0): Promise<void> {
    const batch = this.data.client().pipeline().select(db);
    for (let i = 0; i < keys; i++) {
      batch.set(`string:${i}`, `value ${i}`);
      if (i % 5 === 0) batch.rpush(`list:${i}`, 'a', 'b', 'a');
      if (i % 5 === 1) batch.hset(`hash:${i}`, { a: '1', b: '2' });
      if (i % 5 === 2) batch.sadd(`set:${i}`, 'a', 'b');
      if (i % 5 === 3) batch.zadd(`zset:${i}`, 1.1, 'a', -3, 'b');
      if (i % 5 === 4) batch.xadd(`stream:${i}`, '*', 'a', '1');
      if (i % 7 === 0) batch.pexpireat(`string:${i}`, Date.now() + 3_600_000 + i);
    }
    await batch.select(0).exec();
  }

  async position(): Promise<string> {
    const text = await this.pipeline.target.client().get('lanegate:test:mark');
    return text === null ? '' : (JSON.parse(text) as { position: string }).position;
  }

  async isCopied(): Promise<boolean> {
    const position = await this.position();
    return position !== '' && !position.startsWith('copy');
  }

  async copies(): Promise<void> {
    await until('it copies', async () => /^copy:.*:[1-9]/.test(await this.position()), 60_000).catch(
      this.#why,
    );
  }

  async caughtUp(): Promise<void> {
    const isApplied = async () => {
      if (!(await this.isCopied())) return false;
      const { places } = parsePikaPosition(await this.position());
      return [...this.master.logs].every(([db, { end }]) => {
        const place = places.get(db);
        return place !== undefined && comparePlaces(place, end) >= 0;
      });
    };
    await until('the log is applied', isApplied, 60_000).catch(this.#why);
  }

  async generation(): Promise<number> {
    const text = await this.pipeline.target.client().get('lanegate:test:identity');
    return Number.parseInt((JSON.parse(text ?? '') as { generation: string }).generation, 10);
  }

  #why = (cause: unknown): never => {
    throw new Error(`it does not end\n${this.pipeline.logs()}`, { cause });
  };

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.pipeline[Symbol.asyncDispose]();
    await this.master[Symbol.asyncDispose]();
    await this.data[Symbol.asyncDispose]();
  }
}

/** Between two commands of a client. */
const PAUSE_MS = 4;

interface Load {
  /** Commands that were run. */
  readonly count: () => number;
  stop(): Promise<void>;
}

/** Clients that write until they are stopped. */
function load(scene: Scene, { db = 0, keys = 40, flushes = true, clients = 6 } = {}): Load {
  let isOver = false;
  let count = 0;
  const pick = (of: number) => Math.floor(Math.random() * of);
  const command = (): string[] => {
    const i = pick(keys);
    const all = [
      ['INCR', `count:${i}`],
      ['APPEND', `text:${i}`, `${count},`],
      ['APPEND', `string:${pick(400)}`, '+'],
      ['RPUSH', `list:${i}`, String(count)],
      ['RPUSH', 'hot', String(count)],
      ['HINCRBY', `hash:${i}`, 'a', '1'],
      ['ZINCRBY', `zset:${i}`, '2', 'a'],
      ['LPOP', `list:${i}`],
      ['DEL', `list:${pick(keys)}`],
      ['RENAME', `text:${i}`, `text:${pick(keys)}`],
      ['XADD', `stream:${i}`, '*', 'n', String(count)],
      ['PSETEX', `brief:${i}`, '700000', String(count)],
    ];
    return all[pick(all.length)] as string[];
  };
  const write = async () => {
    const client = scene.client(db);
    while (!isOver) {
      const [name = '', ...args] = command();
      // A key that is of another type, or not there, by the load itself.
      await client.call(name, ...args).catch((error: Error) => {
        if (!/WRONGTYPE|no such key|not an integer/.test(error.message) && !isOver) throw error;
      });
      count++;
      if (flushes && count % 900 === 899) await client.call('FLUSHDB');
      await delay(PAUSE_MS);
    }
  };
  const writers = Array.from({ length: clients }, write);
  // A test that fails ends the connections first.
  for (const writer of writers) writer.catch(() => {});
  return {
    count: () => count,
    async stop() {
      isOver = true;
      await Promise.all(writers);
    },
  };
}

test('a copy under a load that shows what is lost or doubled, with kills in the copy and in the log', async () => {
  await using scene = await Scene.start();
  await scene.populate(2_500);
  const { pipeline } = scene;
  const traffic = load(scene, { flushes: false });
  pipeline.worker();
  for (let kill = 0; kill < 3; kill++) {
    const before = await scene.position();
    await until(
      'it goes on',
      async () => (await scene.position()) !== before || (await scene.isCopied()),
      60_000,
    );
    await scene.copies().catch(() => {});
    await pipeline.workers.at(-1)?.kill();
    pipeline.worker();
  }
  await until('the copy is over', () => scene.isCopied(), 60_000).catch((cause) => {
    throw new Error(pipeline.logs(), { cause });
  });
  await pipeline.workers.at(-1)?.kill();
  pipeline.worker();
  const at = traffic.count();
  await until('the load goes on', () => traffic.count() > at + 300);
  await traffic.stop();
  await scene.caughtUp();
  expect(await compareServers(scene.data.url, pipeline.target.url)).toEqual([]);
  // The copy was gone on with, not begun again.
  expect(await scene.generation()).toBe(2);
  expect(scene.master.complaints).toEqual([]);
}, 180_000);

test('FLUSHDB in the middle of a copy, which the log tells late; two databases, one of them mapped', async () => {
  const databases = ['db0', 'db1'];
  // A FLUSHDB is logged behind writes that came after it.
  const beforeFlushLog = () => delay(30);
  const args = ['--db-map', 'db1=5'];
  await using scene = await Scene.start({ databases, beforeFlushLog }, { args });
  const { pipeline, data } = scene;
  await scene.populate(1_000, 0);
  await scene.populate(8_000, 1);
  const traffic = [load(scene, { clients: 3 }), load(scene, { clients: 3, db: 1, flushes: false })];
  pipeline.worker();
  await scene.copies();
  const flush = async () => {
    for (const [db, { count }] of traffic.entries()) {
      const at = count();
      if (db === 0) await scene.client(db).call('FLUSHDB');
      await until('the load goes on', () => count() > at + 50);
    }
  };
  for (let i = 0; i < 2; i++) await flush();
  await pipeline.workers.at(-1)?.kill();
  expect(await scene.isCopied()).toBe(false);
  await flush();
  for (const one of traffic) await one.stop();
  // Behind it nothing is left of what was there.
  await scene.client(1).call('FLUSHDB');
  await scene.client(1).call('RPUSH', 'last', '1', '2');
  pipeline.worker();
  await scene.caughtUp();
  expect(await scene.generation()).toBe(2);
  const target = pipeline.target.client();
  expect(await target.select(5).then(() => target.keys('*'))).toEqual(['last']);
  await target.select(0);
  // As the map says.
  await data.client().swapdb(1, 5);
  expect(await compareServers(data.url, pipeline.target.url)).toEqual([]);
}, 120_000);

test('keys larger than a page come in pieces, also while they are written to', async () => {
  await using scene = await Scene.start();
  const { pipeline, data } = scene;
  const batch = data.client().pipeline();
  const many = Array.from({ length: 3_000 }, (_, i) => `${'element'.repeat(10)} ${i}`);
  batch
    .set('string', 'x'.repeat(3_500_000))
    .rpush('list', ...many)
    .sadd('set', ...many);
  batch.hset('hash', Object.fromEntries(many.map((name, i) => [name, String(i)])));
  batch.zadd('zset', ...many.flatMap((name, i) => [i / 7, name]));
  for (let i = 1; i <= 1_500; i++) batch.xadd('stream', `5-${i}`, 'n', String(i));
  batch.xdel('stream', '5-1500').xadd('emptied', '7-7', 'a', 'b').xdel('emptied', '7-7');
  batch
    .rpush('quiet', ...many)
    .pexpire('quiet', 900_000)
    .set('none', '')
    .rpush('exactly', ...many.slice(0, 512));
  await batch.exec();
  let isOver = false;
  let count = 0;
  const writes = [
    ['APPEND', 'string', '+'],
    ['RPUSH', 'list', 'more'],
    ['LPOP', 'list'],
    ['HINCRBY', 'hash', many[0] as string, '1'],
    ['ZINCRBY', 'zset', '1', many[1] as string],
    ['XADD', 'stream', '*', 'n', '1'],
    ['SPOP', 'set'],
  ];
  const writing = writes.map(async ([name = '', ...args]) => {
    const client = scene.client();
    while (!isOver) {
      await client.call(name, ...args);
      count++;
      await delay(PAUSE_MS);
    }
  });
  pipeline.worker();
  await until('it is copied', () => scene.isCopied(), 60_000).catch((cause) => {
    throw new Error(pipeline.logs(), { cause });
  });
  const at = count;
  await until('the writers go on', () => count > at + 100);
  isOver = true;
  await Promise.all(writing);
  await scene.caughtUp();
  expect(await compareServers(data.url, pipeline.target.url)).toEqual([]);
  const lastIds = async (redis: Redis) =>
    await Promise.all(
      ['stream', 'emptied'].map(async (key) => ((await redis.xinfo('STREAM', key)) as unknown[])[7]),
    );
  expect(await lastIds(pipeline.target.client())).toEqual(await lastIds(data.client()));
}, 120_000);

test('a copy whose log is lost is made anew in another generation', async () => {
  await using scene = await Scene.start();
  const { pipeline } = scene;
  await scene.populate(3_000);
  const traffic = load(scene, { flushes: false, clients: 2 });
  pipeline.worker({ machine: 'a' });
  await scene.copies();
  await pipeline.workers.at(-1)?.kill();
  expect(await scene.isCopied()).toBe(false);
  // What only the first copy has seen.
  await scene.data.client().del('string:0', 'string:1', 'hash:1');
  pipeline.worker({ machine: 'b' });
  await until('it is copied', () => scene.isCopied(), 60_000);
  await traffic.stop();
  await scene.caughtUp();
  expect(await scene.generation()).toBe(3);
  expect(await compareServers(scene.data.url, pipeline.target.url)).toEqual([]);
}, 120_000);
