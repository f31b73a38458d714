import { isDeepStrictEqual } from 'node:util';
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import {
  coversPika,
  formatPikaPosition,
  parsePikaPosition,
  positionAt as positionOf,
} from '../../src/sources/pika/position.ts';
import { PikaServer } from '../../src/sources/pika/server.ts';
import { parsePikaUrl } from '../../src/sources/pika/url.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { PIKA_PROGRAM, RealPika } from '../support/real-pika.ts';

// Against a real Pika, where there is one (support/real-pika).

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

test.skipIf(PIKA_PROGRAM === undefined)(
  'a real Pika is copied under load, and followed',
  async () => {
    await using real = await RealPika.start();
    const url = `pika://${real.address}?db=db0`;
    await using pipeline = await Pipeline.start({ lanes: 4, sourceUrl: url });
    const pika = real.client;
    const writers = Array.from({ length: 8 }, () => real.connect());
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
    }
  },
  180_000,
);

test.skipIf(PIKA_PROGRAM === undefined)(
  'what the log of a real Pika gets wrong is repaired, and without repair the target differs',
  async () => {
    await using real = await RealPika.start();
    const url = `pika://${real.address}?db=db0`;
    const start = (repair: string) =>
      Pipeline.start({
        lanes: 4,
        sourceUrl: url,
        args: ['--from', 'now', '--repair', repair, '--on-poison', 'dead-letter'],
      });
    await using repaired = await start('on');
    await using left = await start('off');
    const pika = real.client;
    const writers = Array.from({ length: 30 }, () => real.connect());
    const server = new PikaServer(parsePikaUrl('--source', url).endpoint);
    const positionAt = async ({ target, name }: Pipeline) => {
      const text = await target.client().get(`lanegate:${name}:mark`);
      return text === null ? '' : (JSON.parse(text) as { position: string }).position;
    };
    const hasAll = async (pipeline: Pipeline) => {
      const head = formatPikaPosition(positionOf('', await server.ends()));
      return coversPika(await positionAt(pipeline), head.replace(/,db1.*$/, ''));
    };
    const differ = async (pipeline: Pipeline) => {
      const [source, target] = [await contentOf(pika), await contentOf(pipeline.target.client())];
      const keys = [...new Set([...Object.keys(source), ...Object.keys(target)])];
      expect(keys.length).toBeGreaterThan(20);
      return keys.filter((key) => !isDeepStrictEqual(source[key], target[key]));
    };
    try {
      await pika.flushall();
      for (const one of [repaired, left]) {
        one.worker();
        await until('it follows', async () => (await positionAt(one)) !== '');
      }
      const [lost, lostWithout] = [[] as string[], [] as string[]];
      let count = 0;
      for (let round = 0; round < 15; round++) {
        let isOver = false;
        const load = writers.map(async (client, i) => {
          while (!isOver) {
            await client.set(`string:${i}:${count % 7}`, String(count++));
            await client.rpush(`pushed:${i}`, String(count));
            await client.append(`text:${i}:${round % 3}`, `${count},`);
            await client.incr(`count:${i}`);
          }
        });
        const at = count;
        await until('it writes', () => count > at + 200);
        await pika.flushdb();
        if (round % 5 === 4) {
          await repaired.workers.at(-1)?.kill();
          repaired.worker();
        }
        isOver = true;
        await Promise.all(load);
        for (const one of [repaired, left])
          await until('the log is applied', () => hasAll(one), 60_000).catch((cause) => {
            throw new Error(one.logs(), { cause });
          });
        lost.push(...(await differ(repaired)));
        lostWithout.push(...(await differ(left)));
      }
      expect(lost).toEqual([]);
      expect(lostWithout.length).toBeGreaterThan(0);
      const { repaired: counted = 0 } = await repaired.counters();
      expect(counted).toBeGreaterThan(0);
      await pika.pfadd('a', 'x');
      await pika.pfmerge('merged', 'a');
      await until('the log is applied', () => hasAll(repaired), 60_000);
      expect(await repaired.target.client().exists('merged')).toBe(0);
      expect(repaired.logs()).toContain('the key merged is left out');
    } finally {
      await server.close();
    }
  },
  300_000,
);
