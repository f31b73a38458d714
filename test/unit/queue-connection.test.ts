import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { infoOf, queueConnection } from '../../queues/connection.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';

const LONG_MS = 1_000;

test('INFO that is asked for while the connection is made is answered, though that connection breaks', async () => {
  await using server = await RedisServer.start();
  await using proxy = await FaultyProxy.start(server.port);
  const redis = new Redis({
    ...queueConnection(parseEndpoint('queue', proxy.url), 'test'),
    lazyConnect: true,
  });
  const errors: Error[] = [];
  redis.on('error', (error: Error) => errors.push(error));
  try {
    let asked: Promise<string> | undefined;
    let lost: Promise<string> | undefined;
    redis.once('connect', () => {
      asked = infoOf(redis, 'server');
      lost = redis.info('server').catch(() => 'failed');
      proxy.cutAll();
    });
    redis.connect().catch(() => {});
    await redis.ping();
    expect(errors.length).toBeGreaterThan(0);
    expect(await asked).toContain('redis_version:');
    // If ioredis answers this one as well, infoOf is not needed any more.
    expect(await Promise.race([lost, delay(LONG_MS, 'never')])).toBe('never');
  } finally {
    redis.disconnect();
  }
});

test('INFO of a server that does not get ready fails and says so', async () => {
  await using server = await RedisServer.start();
  await using proxy = await FaultyProxy.start(server.port);
  proxy.refuse(true);
  const redis = new Redis(queueConnection(parseEndpoint('queue', proxy.url), 'test'));
  redis.on('error', () => {});
  try {
    await expect(infoOf(redis)).rejects.toThrow("the queue's Redis is not ready");
  } finally {
    redis.disconnect();
  }
}, 15_000);
