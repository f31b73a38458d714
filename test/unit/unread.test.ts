import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { needsAnnouncing } from '../../processors/announce.ts';
import type { PipelineContext } from '../../processors/context.ts';
import { accountOrSleep } from '../../processors/unread.ts';
import { Journal, type Snapshot } from '../../src/journal/journal.ts';
import { Records } from '../../src/journal/records.ts';
import { RedisServer } from '../support/redis-server.ts';

const LANE = { journalId: 'j1', generation: '1.a', lane: 3, seq: 20 };
const ACCOUNT = { where: 3, seq: 20, outBytes: 0, applied: 0, wakeBelowBytes: 0 };

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await RedisServer.start();
  redis = new Redis(server.port);
});

afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
});

/** A journal whose lane has applied a gate at seq 20, and read replies through 10; `meanwhile` runs before the look at the claim. */
async function journalWithGate(name: string, meanwhile: (journal: Journal) => Promise<void>) {
  const journal = new Journal(name, redis);
  await redis.hset(journal.keys.state, { id: 'j1', 'seen:3': 10, 'tail:3': 30 });
  const exists = async (key: string) => {
    await meanwhile(journal);
    return await redis.exists(key);
  };
  const records = new Records(redis, journal.keys);
  const options = { budgetBytes: 2 };
  const context = {
    journal,
    records,
    redis: { exists },
    now: Date.now,
    options,
  } as unknown as PipelineContext;
  const unverified = async () => (await redis.xrange(journal.keys.divergences, '-', '+')).map(String);
  const awake = () => redis.hget(journal.keys.state, 'awake:3');
  return { context, unverified, awake };
}

test('a gate that writes its account between two looks at the journal leaves nothing unverified', async () => {
  const { context, unverified } = await journalWithGate('gate', (journal) => journal.progress('j1', ACCOUNT));
  expect(await accountOrSleep(context, LANE)).toBe(true);
  expect(await unverified()).toEqual([]);
});

test('a gate that is about to write its account is left to it, and wakes the lane, which sleeps', async () => {
  const { context, unverified, awake } = await journalWithGate('claimed', async (journal) => {
    await redis.set(journal.keys.gateClaim('j1', 20), 'worker', 'PX', 10_000);
  });
  expect(await accountOrSleep(context, LANE)).toBe(false);
  expect(await unverified()).toEqual([]);
  expect(await awake()).toBe('gate');
});

test('a lane that fell asleep as the account was written is awake again: nobody else would wake it', async () => {
  let looks = 0;
  const { context, unverified, awake } = await journalWithGate('crossed', async (journal) => {
    const claim = journal.keys.gateClaim('j1', 20);
    if (looks++ === 0) await redis.set(claim, 'worker', 'PX', 10_000);
    else await Promise.all([journal.progress('j1', ACCOUNT), redis.del(claim)]);
  });
  expect(await accountOrSleep(context, LANE)).toBe(true);
  expect(await unverified()).toEqual([]);
  expect(await awake()).toBe('1');
});

test('what a process that died has applied is unverified', async () => {
  const { context, unverified } = await journalWithGate('died', async () => {});
  expect(await accountOrSleep(context, LANE)).toBe(true);
  expect(await unverified()).toEqual([expect.stringContaining('"seq":11,"through":20,"lanes":[3]')]);
});

test('a look finds a lane that is behind, and one whose replies nobody has read', () => {
  const view = (lane: number, seen: number | undefined) =>
    ({ lane, tail: 5, inBytes: 0, outBytes: 0, seen, awake: '', next: undefined }) as const;
  const needs = (seen: number | undefined, checkpoint: number) =>
    needsAnnouncing({ views: [view(0, 5), view(1, seen)] } as unknown as Snapshot, [5, checkpoint]);
  expect(needs(5, 5)).toBe(false);
  expect(needs(4, 4)).toBe(true);
  expect(needs(4, 5)).toBe(true);
  expect(needs(undefined, 5)).toBe(true);
});
