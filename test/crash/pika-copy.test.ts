import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { pikaLoad as load, PikaScene as Scene } from '../support/pika-scene.ts';

/** Between two commands of a client. */
const PAUSE_MS = 4;

// A copy of a Pika's data is made while clients go on writing what shows it when it is lost or done twice.

everyCase(
  'a copy under a load that shows what is lost or doubled, with kills in the copy and in the log',
  async () => {
    // Of a 3.5.
    await using scene = await Scene.start({ typeOfStreams: 'none' });
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
  },
  180_000,
);

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

everyCase(
  'keys larger than a page come in pieces, also while they are written to',
  async () => {
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
  },
  120_000,
);

everyCase(
  'a copy whose log is lost is made anew in another generation',
  async () => {
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
  },
  120_000,
);
