import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';

// A gate may stay open for days: until somebody decides. The lanes at its markers then have nothing to do, and the board's
// history of jobs is kept for what did something. I8 holds all the same: nobody has to wake them.

const PREFIX = '{lanegate-test}';
const LANES = 4;
/** Of each lane 0..3. */
const KEYS = ['b', 'c', 'd', 'a'];

async function append(pipeline: Pipeline, ...commands: string[]): Promise<void> {
  for (const command of commands)
    await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [command.split(' ')] }]);
}

/** The history of each lane's jobs, as the board shows it. */
async function history(redis: Redis, lanes: readonly number[]): Promise<string[][]> {
  return await Promise.all(lanes.map((at) => redis.zrange(`${PREFIX}:lane-${at}:completed`, '0', '-1')));
}

/** The watchdog has looked around: each look takes the claim, which expires before the next one. */
async function looks(redis: Redis, count: number): Promise<void> {
  for (let seen = 0; seen < count; seen++) {
    await until('the claim is taken', () => redis.exists(`${PREFIX}:claim:watchdog`));
    await until('the claim is free', async () => (await redis.exists(`${PREFIX}:claim:watchdog`)) === 0);
  }
}

/** No lane's job is at work or on its way, and the lanes stand where the gate wants them. */
async function rests(redis: Redis, lanes: readonly number[]): Promise<void> {
  await until('the lanes rest', async () => {
    const busy = await Promise.all(
      lanes.flatMap((lane) => [
        redis.llen(`${PREFIX}:lane-${lane}:active`),
        redis.llen(`${PREFIX}:lane-${lane}:wait`),
      ]),
    );
    const awake = await Promise.all(lanes.map((lane) => redis.hget(`${PREFIX}:journal`, `awake:${lane}`)));
    return busy.every((count) => count === 0) && awake.every((flag) => flag !== '1');
  });
}

async function staysQuiet(redis: Redis, lanes: readonly number[]): Promise<void> {
  await looks(redis, 1);
  await rests(redis, lanes);
  const before = await history(redis, lanes);
  await looks(redis, 6);
  expect(await history(redis, lanes)).toEqual(before);
}

async function lane(pipeline: Pipeline, ...words: string[]): Promise<void> {
  const { code, stderr } = await lanegate(['lane', ...words, ...pipeline.urls]);
  expect([code, stderr]).toEqual([0, '']);
}

/** With one worker that has applied a first command in every lane. */
async function standing(): Promise<Pipeline> {
  const pipeline = await Pipeline.start({ lanes: LANES });
  pipeline.worker();
  await append(pipeline, ...KEYS.map((key) => `SET ${key} 1`));
  await pipeline.caughtUp();
  return pipeline;
}

async function openAtFlush(pipeline: Pipeline): Promise<void> {
  await append(
    pipeline,
    ...KEYS.map((key) => `SET ${key} 2`),
    'FLUSHDB',
    ...KEYS.map((key) => `SET ${key} 3`),
  );
}

describe.concurrent('a gate that stays open', () => {
  test('for a lane that an operator holds: the others are left alone until it goes on', async () => {
    await using pipeline = await standing();
    const redis = pipeline.queue.client();
    await lane(pipeline, 'pause', '1');
    await openAtFlush(pipeline);
    const target = pipeline.target.client();
    await until('the other lanes have arrived', async () =>
      (await target.mget('b', 'd', 'a')).every((value) => value === '2'),
    );
    await staysQuiet(redis, [0, 2, 3]);
    expect(await target.mget(...KEYS)).toEqual(['2', '1', '2', '2']);
    await lane(pipeline, 'resume', '1');
    await pipeline.caughtUp();
    expect(await target.mget(...KEYS)).toEqual(['3', '3', '3', '3']);
  });

  test('for a lane that has arrived, and that an operator holds before the last one comes', async () => {
    await using pipeline = await standing();
    const redis = pipeline.queue.client();
    const target = pipeline.target.client();
    await lane(pipeline, 'pause', '2');
    await openAtFlush(pipeline);
    await until('lane 1 has arrived', async () => (await target.get(KEYS[1] as string)) === '2');
    await rests(redis, [0, 1, 3]);
    await lane(pipeline, 'pause', '1');
    await lane(pipeline, 'resume', '2');
    await until('all lanes have arrived', async () =>
      (await target.mget(...KEYS)).every((value) => value === '2'),
    );
    await looks(redis, 6);
    expect(await target.mget(...KEYS)).toEqual(['2', '2', '2', '2']);
    await lane(pipeline, 'resume', '1');
    await pipeline.caughtUp();
    expect(await target.mget(...KEYS)).toEqual(['3', '3', '3', '3']);
  });

  test('because the gate itself is held: all are left alone, and go on when the hold is gone, though nobody wakes them', async () => {
    await using pipeline = await standing();
    const redis = pipeline.queue.client();
    const target = pipeline.target.client();
    await lane(pipeline, 'pause', 'gate');
    await openAtFlush(pipeline);
    await until('all lanes have arrived', async () =>
      (await target.mget(...KEYS)).every((value) => value === '2'),
    );
    await staysQuiet(redis, [0, 1, 2, 3]);
    expect(await target.mget(...KEYS)).toEqual(['2', '2', '2', '2']);
    // As if the operator's process had died between its steps: the hold is lifted, and no job is added.
    await redis.hdel(`${PREFIX}:pauses`, 'gate|operator');
    await pipeline.caughtUp();
    expect(await target.mget(...KEYS)).toEqual(['3', '3', '3', '3']);
  });
});
