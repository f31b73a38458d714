import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type LaneLog, LaneLogs } from '../../src/journal/lane-log.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { Connection } from '../../src/wire/connection.ts';
import { Link } from '../../src/wire/link.ts';
import { RedisServer } from '../support/redis-server.ts';

// Lanes that begin to wait in the same turn of the event loop share a connection.

const HEADER = 'b 1.ab 0 1 1 0 0 0 1000 0';

interface Scene extends AsyncDisposable {
  readonly redis: RedisServer;
  readonly logs: LaneLogs;
  wait(own: LaneLog, lane: number, waitMs?: number): Promise<number[]>;
  append(...lanes: number[]): Promise<void>;
  xreads(): Promise<number>;
}

async function scene(): Promise<Scene> {
  const redis = await RedisServer.start();
  const endpoint = parseEndpoint('--queue', redis.url);
  const options = { connectTimeoutMs: 2_000, replyTimeoutMs: 2_000 };
  const logs = new LaneLogs(() => new Link(() => Connection.open(endpoint, options)));
  const client = redis.client();
  return {
    redis,
    logs,
    wait: async (own, lane, waitMs = 2_000) => {
      const wanted = { stream: `log:${lane}`, after: 0, itemsMax: 4 };
      return (await logs.await(wanted, waitMs, own)).map(({ seq }) => seq);
    },
    append: async (...lanes) => {
      const batch = client.multi();
      for (const lane of lanes) batch.xadd(`log:${lane}`, `${lane}-0`, 'h', HEADER, 'i', '', 'c', '');
      await batch.exec();
    },
    xreads: async () => Number(/cmdstat_xread:calls=(\d+)/.exec(await client.info('commandstats'))?.[1] ?? 0),
    [Symbol.asyncDispose]: async () => {
      logs.close();
      await redis[Symbol.asyncDispose]();
    },
  };
}

test('each gets what comes in its log, whoever else is served; what wakes all costs two calls at most', async () => {
  await using made = await scene();
  const own = [1, 2, 3, 4].map(() => made.logs.take());
  const waits = own.map((log, at) => made.wait(log, at + 1));
  await delay(100);
  await made.append(1, 2, 3, 4);
  expect(await Promise.all(waits)).toEqual([[1], [2], [3], [4]]);
  expect(await made.xreads()).toBeLessThanOrEqual(2);
});

test('one that is served leaves the others waiting, to the end of their time and no longer', async () => {
  await using made = await scene();
  const own = [1, 2, 3].map(() => made.logs.take());
  const [first, second, third] = own.map((log, at) => made.wait(log, at + 1, 600)) as [
    Promise<number[]>,
    Promise<number[]>,
    Promise<number[]>,
  ];
  await delay(100);
  await made.append(2);
  expect(await second).toEqual([2]);
  await made.append(1);
  expect(await first).toEqual([1]);
  expect(await third).toEqual([]);
  // The connection that they shared serves the next ones.
  await made.append(3);
  expect(await made.wait(own[2] as LaneLog, 3)).toEqual([3]);
});

test('a lost connection is told to all that wait, and closing ends a wait', async () => {
  await using made = await scene();
  const own = [1, 2].map(() => made.logs.take());
  const lost = Promise.allSettled(own.map((log, at) => made.wait(log, at + 1)));
  await delay(100);
  await made.redis.client().call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
  expect((await lost).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  const ended = Promise.allSettled(own.map((log, at) => made.wait(log, at + 1, 60_000)));
  await delay(100);
  made.logs.close();
  expect((await ended).map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});

test('one that waits alone does so on its own connection', async () => {
  await using made = await scene();
  const own = made.logs.take();
  const wait = made.wait(own, 1);
  await delay(50);
  await made.append(1);
  expect(await wait).toEqual([1]);
  expect(made.logs.take()).not.toBe(own);
});
