import { isDeepStrictEqual } from 'node:util';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { parsePikaPosition } from '../../src/sources/pika/position.ts';
import { PikaServer } from '../../src/sources/pika/server.ts';
import { parsePikaUrl } from '../../src/sources/pika/url.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';

// Against a real Pika: LANEGATE_TEST_PIKA=host:port of one that may be emptied. Skipped without.

const ADDRESS = process.env.LANEGATE_TEST_PIKA;

function connected(url: string): Redis {
  const redis = new Redis(url, { protocol: 2, enableReadyCheck: false, disableClientInfo: true });
  redis.on('error', () => {});
  return redis;
}

/** Every key with its value, in a form that is the same for equal values of a Pika and a Redis. */
async function contentOf(redis: Redis): Promise<Record<string, unknown>> {
  const content: Record<string, unknown> = {};
  const keys = new Set<string>();
  let cursor = '0';
  do {
    const [next, page] = await redis.scan(cursor, 'COUNT', 500);
    for (const key of page) if (!key.startsWith('lanegate:')) keys.add(key);
    cursor = next;
  } while (cursor !== '0');
  for (const key of [...keys].sort()) content[key] = await contentOfKey(redis, key);
  return content;
}

async function contentOfKey(redis: Redis, key: string): Promise<unknown> {
  const type = await redis.type(key);
  if (type === 'string') return await redis.get(key);
  if (type === 'list') return await redis.lrange(key, 0, -1);
  if (type === 'set') return (await redis.smembers(key)).sort();
  if (type === 'hash') return Object.entries(await redis.hgetall(key)).sort();
  if (type === 'zset')
    return (await redis.zrange(key, '0', '-1', 'WITHSCORES')).map((text) => Number(text) || text);
  return await redis.xrange(key, '-', '+');
}

test.skipIf(ADDRESS === undefined)(
  'a real Pika is copied under load, and followed',
  async () => {
    const url = `pika://${ADDRESS}?db=db0`;
    await using pipeline = await Pipeline.start({ lanes: 4, sourceUrl: url });
    const pika = connected(`redis://${ADDRESS}`);
    const writers = Array.from({ length: 8 }, () => connected(`redis://${ADDRESS}`));
    const server = new PikaServer(parsePikaUrl('--source', url).endpoint);
    let isOver = false;
    let count = 0;
    try {
      await pika.flushall();
      for (let i = 0; i < 3_000; i++) {
        await pika.set(`string:${i}`, `value ${i}`);
        if (i % 3 === 0) await pika.rpush(`list:${i}`, 'a', 'b');
        if (i % 3 === 1) await pika.zadd(`zset:${i}`, 1.5, 'a');
        if (i % 3 === 2) await pika.call('HMSET', `hash:${i}`, 'a', '1', 'b', '2');
      }
      await pika.rpush('large', ...Array.from({ length: 2_000 }, (_, i) => String(i)));
      const load = writers.map(async (client) => {
        while (!isOver) {
          const i = count++ % 50;
          await client.incr(`count:${i}`);
          await client.decr(`down:${i}`);
          await client.rpush(`pushed:${i}`, String(count));
          await client.rpush('large', String(count));
          await client.append('string:7', '+');
          await client.hincrby('hash:2', 'a', '1');
          await client.xadd(`stream:${i}`, '*', 'n', String(count));
          if (count % 7 === 0) await client.del(`pushed:${(i + 3) % 50}`);
          if (count % 5 === 0) await client.call('PEXPIRE', `count:${i}`, '900000');
        }
      });
      pipeline.worker();
      const position = async () => {
        const text = await pipeline.target.client().get('lanegate:test:mark');
        return text === null ? '' : (JSON.parse(text) as { position: string }).position;
      };
      await until('it copies', async () => /^copy:.*:[1-9]/.test(await position()), 60_000);
      // Its log has it late, and its scan begins again.
      await pika.flushdb();
      await pika.set('string:7', 'again');
      await pipeline.workers.at(-1)?.kill();
      pipeline.worker();
      await until('it is copied', async () => !(await position()).startsWith('copy'), 60_000).catch(
        (cause) => {
          throw new Error(pipeline.logs(), { cause });
        },
      );
      const at = count;
      await until('the load goes on', () => count > at + 500);
      isOver = true;
      await Promise.all(load);
      const end = (await server.ends()).get('db0');
      await until('the log is applied', async () => {
        const found = parsePikaPosition(await position()).places.get('db0');
        return found?.filenum === end?.filenum && found?.offset === end?.offset;
      });
      const [source, target] = [await contentOf(pika), await contentOf(pipeline.target.client())];
      const keys = [...new Set([...Object.keys(source), ...Object.keys(target)])];
      expect(keys.length).toBeGreaterThan(100);
      const differ = keys.filter((key) => !isDeepStrictEqual(source[key], target[key]));
      const text = (value: unknown) => JSON.stringify(value)?.slice(0, 200);
      expect(differ.map((key) => `${key}: ${text(source[key])} / ${text(target[key])}`)).toEqual([]);
    } finally {
      isOver = true;
      await server.close();
      for (const client of [pika, ...writers]) client.disconnect();
    }
  },
  180_000,
);
