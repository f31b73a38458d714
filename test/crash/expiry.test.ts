import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { until } from '../support/faults.ts';
import { Live } from '../support/live.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { RedisServer } from '../support/redis-server.ts';

// A key with a short deadline that the source keeps renewing must not vanish at the target because nobody was there to
// apply the renewal. What happens to it afterwards shows whether it ever did: INCR goes on counting, RENAME finds it.

const TTL_MS = 2_000;
const STEP_MS = 400;
const OUTAGE_MS = 6_000;

async function clockMs(server: RedisServer): Promise<number> {
  const [seconds, micros] = await server.client().time();
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** Renews `key` and counts in it until `work` has ended, however long that takes; the count. */
async function renewDuring(server: RedisServer, key: string, work: Promise<unknown>): Promise<number> {
  const redis = server.client();
  let working = true;
  const ended = work.finally(() => {
    working = false;
  });
  ended.catch(() => {});
  let count = 0;
  while (working) {
    const [, [, value] = []] = (await redis.multi().pexpire(key, TTL_MS).incr(key).exec()) ?? [];
    count = Number(value);
    await delay(STEP_MS);
  }
  await ended;
  return count;
}

/** The server's clock has gone on by `ms`. */
async function pass(server: RedisServer, ms: number): Promise<void> {
  const endMs = (await clockMs(server)) + ms;
  await until('its time has come', async () => (await clockMs(server)) >= endMs);
}

for (const [how, stop, go] of [
  ['stopped', 'SIGSTOP', 'SIGCONT'],
  ['killed', 'SIGKILL', undefined],
] as const) {
  (stop === 'SIGSTOP' ? test : everyCase)(
    `a key that the source renews outlives workers that are ${how} for longer than its TTL`,
    async () => {
      await using live = await Live.start();
      const redis = live.source.client();
      await redis.set('session', '0', 'PX', TTL_MS);
      const worker = live.worker();
      await renewDuring(live.source, 'session', live.caughtUp());
      if (stop === 'SIGKILL') await worker.kill();
      else worker.signal(stop);
      const count = await renewDuring(live.source, 'session', pass(live.source, OUTAGE_MS));
      expect(await live.target.client().exists('session')).toBe(1);
      if (go === undefined) live.worker();
      else worker.signal(go);
      await redis.multi().incr('session').pexpire('session', 600_000).rename('session', 'renamed').exec();
      await live.caughtUp();
      expect(await live.target.client().get('renamed')).toBe(String(count + 1));
      expect(await live.target.client().exists('session')).toBe(0);
      const { code, report, stderr } = await live.finished(['--freeze', '--verify']);
      expect([code, report.open], stderr).toEqual([0, []]);
      expect(await live.target.client().call('PEXPIRETIME', 'renamed')).toBe(
        await redis.call('PEXPIRETIME', 'renamed'),
      );
      expect(await live.queue.client().xlen('{lanegate-live}:divergences')).toBe(0);
    },
  );
}

everyCase(
  'a key that was renamed before its time came is renamed at the target afterwards as well',
  async () => {
    await using live = await Live.start();
    const redis = live.source.client();
    const worker = live.worker();
    await live.caughtUp();
    worker.signal('SIGSTOP');
    await redis.set('a', '1', 'PX', 500);
    const deadlineMs = Number(await redis.call('PEXPIRETIME', 'a'));
    await redis.rename('a', 'b');
    await redis.persist('b');
    await redis.hset('h', 'f', '1');
    await redis.pexpire('h', 500);
    await redis.hincrby('h', 'f', 5);
    await redis.persist('h');
    await until('its time has come', async () => (await clockMs(live.source)) > deadlineMs + 500);
    worker.signal('SIGCONT');
    await live.caughtUp();
    expect(await live.target.client().get('b')).toBe('1');
    expect(await live.target.client().hget('h', 'f')).toBe('6');
    expect(await live.queue.client().xlen('{lanegate-live}:divergences')).toBe(0);
  },
);

everyCase('a key that expires at the source goes at the target with the DEL of the source', async () => {
  await using live = await Live.start();
  live.worker();
  await live.source.client().set('brief', '1', 'PX', 1_000);
  await live.caughtUp();
  await until('it is gone', async () => (await live.target.client().exists('brief')) === 0);
  await live.caughtUp();
  expect(await live.source.client().dbsize()).toBe(0);
});

test('the master has decided about NX, XX, GT and LT: also behind a finish every form counts', async () => {
  await using live = await Live.start();
  const redis = live.source.client();
  for (const key of ['nx', 'xx', 'gt', 'lt', 'refused']) await redis.set(key, '1', 'EX', 10_000);
  await redis.persist('nx');
  live.worker();
  await live.caughtUp();
  expect((await live.finished()).code).toBe(0);
  // The target now has the true deadlines, and what comes is held back: GT, LT would be judged by what is not comparable.
  await redis.expire('nx', 5_000, 'NX');
  await redis.expire('xx', 6_000, 'XX');
  await redis.expire('gt', 12_000, 'GT');
  await redis.expire('lt', 9_000, 'LT');
  expect(await redis.expire('refused', 20_000, 'LT')).toBe(0);
  await live.caughtUp();
  const held = async (key: string) =>
    Number(await live.target.client().call('PEXPIRETIME', key)) -
    Number(await redis.call('PEXPIRETIME', key));
  for (const key of ['nx', 'xx', 'gt', 'lt']) expect(await held(key), key).toBe(3_600_000);
  expect(await held('refused')).toBe(0);
  expect((await live.finished()).report.deadlines).toMatchObject({ restored: 4, exact: true });
  for (const key of ['nx', 'xx', 'gt', 'lt', 'refused']) expect(await held(key), key).toBe(0);
});

test('the deadlines of an application that pass before they are applied are counted, in lanes and in a gate', async () => {
  await using pipeline = await Pipeline.start({ lanes: 4 });
  const append = async (...commands: string[][]) =>
    pipeline.append([{ db: 0, timeMs: await clockMs(pipeline.source), commands }]);
  const worker = pipeline.worker();
  await append(['SET', 'early', '1', 'PX', '600000'], ['SPOP', 'set']);
  await pipeline.caughtUp();
  worker.signal('SIGSTOP');
  const nowMs = await clockMs(pipeline.source);
  await append(
    ['SET', 'a', '1', 'PX', '500'],
    ['SET', 'b', '1', 'PXAT', String(nowMs + 500)],
    ['SET', 'c', '1', 'EX', '600'],
    ['SET', 'd', '1', 'PXAT', String(nowMs - 500)],
  );
  await append(
    ['MULTI'],
    ['PEXPIRE', 'c', '500'],
    ['RENAME', 'early', 'late'],
    ['EXEC'],
    ['PERSIST', 'a'],
    ['INCR', 'b'],
  );
  await pass(pipeline.source, 1_000);
  worker.signal('SIGCONT');
  await pipeline.caughtUp();
  expect(await pipeline.counters()).toMatchObject({ lateDeadlines: 3, undetermined: 1 });
});
