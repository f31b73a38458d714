import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { QueueSet } from '../../queues/queue-set.ts';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { Journal } from '../../src/journal/journal.ts';
import { Records, type StopRecord } from '../../src/journal/records.ts';
import { Operator } from '../../src/roles/operator.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { Command } from '../support/workload.ts';

// What cannot be applied stops its own place and says what, where and why; everything else goes on (I7).

const LANES = 4;
/** What this target does not know, though the log has it. */
const UNKNOWN = ['--rename-command', 'INCRBYFLOAT', '', '--rename-command', 'SMOVE', ''];

/** A key of a lane. */
function keyIn(lane: number, name: string): string {
  for (let at = 0; ; at++) {
    const key = `${name}:${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

async function log(pipeline: Pipeline, ...commands: Command[]): Promise<void> {
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
}

async function stops(pipeline: Pipeline): Promise<Record<string, StopRecord>> {
  const all = await pipeline.queue.client().hgetall('{lanegate-test}:stops');
  return Object.fromEntries(
    Object.entries(all).map(([place, text]) => [place, JSON.parse(text) as StopRecord]),
  );
}

async function stopAt(pipeline: Pipeline, place: string): Promise<StopRecord> {
  return await until(`${place} has stopped`, async () => (await stops(pipeline))[place]);
}

async function deadLetters(pipeline: Pipeline): Promise<Record<string, unknown>[]> {
  const found = await pipeline.queue.client().xrange('{lanegate-test}:dead-letters', '-', '+');
  return found.map(([, fields]) => JSON.parse(String(fields[1])) as Record<string, unknown>);
}

async function asOperator(pipeline: Pipeline, act: (operator: Operator) => Promise<unknown>): Promise<void> {
  const redis = new Redis(pipeline.queue.url, { maxRetriesPerRequest: null });
  const journal = new Journal(pipeline.name, redis);
  const queues = new QueueSet(redis, journal.keys);
  const records = new Records(redis, journal.keys);
  try {
    await act(new Operator({ redis, journal, records, queues, by: 'test', now: Date.now }));
  } finally {
    await queues.close();
    redis.disconnect();
  }
}

describe.concurrent('what cannot be applied', () => {
  test('an error reply inside the EXEC of a gate: none of its lanes goes on behind it, whoever waited there', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, args: ['--target-data', 'keep'] });
    const [target, queue] = [pipeline.target.client(), pipeline.queue.client()];
    const [bad, into, other] = [keyIn(1, 'bad'), keyIn(2, 'into'), keyIn(3, 'other')];
    await target.rpush(bad, 'was here before');
    pipeline.worker();
    const lanes = [0, 1, 2, 3];
    for (const round of [0, 1, 2]) {
      const keys = (name: string) => lanes.map((lane) => keyIn(lane, `${name}${round}`));
      const sets = (name: string): Command[] => keys(name).map((key) => ['SET', key, name]);
      // The lanes are awake when the gate comes: they wait at it in the job that goes on behind it.
      await log(pipeline, ...sets('before'));
      await until('the lanes are awake', async () => (await target.exists(...keys('before'))) === LANES);
      await log(pipeline, ['SINTERSTORE', into, bad, other], ...sets('behind'));
      for (const lane of [1, 2, 3]) {
        expect(await stopAt(pipeline, `lane:${lane}`)).toMatchObject({
          command: 'SINTERSTORE',
          behind: true,
        });
        await until(`no job is at work on lane ${lane}`, async () => {
          const name = `{lanegate-test}:lane-${lane}`;
          return (await queue.hexists(`${name}:meta`, 'paused')) + (await queue.llen(`${name}:active`)) === 1;
        });
      }
      await until(
        'the other lane goes on',
        async () => (await target.exists(keys('behind')[0] as string)) === 1,
      );
      expect(await target.mget(...keys('behind'))).toEqual(['behind', null, null, null]);
      await asOperator(pipeline, (operator) =>
        Promise.all([1, 2, 3].map((lane) => operator.resume({ kind: 'lane', lane }))),
      );
      await pipeline.caughtUp();
      expect(await target.mget(...keys('behind'))).toEqual(lanes.map(() => 'behind'));
    }
  });

  test('an error reply inside EXEC: the lane stops behind it, a gate waits for it, the others go on, resume records it', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, args: ['--target-data', 'keep'] });
    const target = pipeline.target.client();
    const [bad, other] = [keyIn(1, 'bad'), keyIn(2, 'other')];
    await target.rpush(bad, 'was here before');
    pipeline.worker();
    await log(pipeline, ['SET', keyIn(1, 'a'), '1'], ['INCR', bad], ['SET', keyIn(1, 'b'), '2']);
    const stop = await stopAt(pipeline, 'lane:1');
    expect(stop).toMatchObject({ command: 'INCR', key: bad, behind: true, seq: 2 });
    expect(stop.reason).toMatch(/WRONGTYPE/);
    expect(stop.hint).toMatch(/lanegate lane resume 1/);
    expect(stop.position).toMatch(/^\d+-\d+/);

    await log(
      pipeline,
      ['SET', other, 'goes on'],
      ['APPEND', keyIn(1, 'a'), '+'],
      ['FLUSHDB'],
      ['SET', other, 'new'],
    );
    await until('the other lane goes on', async () => (await target.get(other)) === 'goes on');
    expect(await target.get(keyIn(1, 'a'))).toBe('1');

    await asOperator(pipeline, (operator) => operator.resume({ kind: 'lane', lane: 1 }));
    await pipeline.caughtUp();
    expect(await target.get(other)).toBe('new');
    expect(await target.exists(bad, keyIn(1, 'a'))).toBe(0);
    expect(await stops(pipeline)).toEqual({});
    expect((await pipeline.counters()).divergences).toBe(1);
    const [divergence] = await pipeline.queue.client().xrange('{lanegate-test}:divergences', '-', '+');
    expect(JSON.parse(String(divergence?.[1][1]))).toMatchObject({
      kind: 'error-reply',
      command: 'INCR',
      key: bad,
    });
  });

  test('a command that the target does not know: the lane stops in front of it, or of its MULTI; skip goes on without it', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, targetArgs: UNKNOWN });
    const target = pipeline.target.client();
    const [a, b] = [keyIn(0, 'a'), keyIn(0, 'b')];
    pipeline.worker();
    await log(pipeline, ['SET', a, '1'], ['INCRBYFLOAT', a, '1.5'], ['APPEND', a, '3']);
    const stop = await stopAt(pipeline, 'lane:0');
    expect(stop).toMatchObject({ command: 'INCRBYFLOAT', key: a, behind: false, seq: 2 });
    expect(stop.reason).toMatch(/unknown command/);
    expect(stop.reason).not.toContain('1.5');
    expect(await target.get(a)).toBe('1');
    await asOperator(pipeline, (operator) => operator.skip({ kind: 'lane', lane: 0 }, 2, 'no such command'));
    await pipeline.caughtUp();
    expect(await target.get(a)).toBe('13');

    await log(
      pipeline,
      ['SET', b, 'before'],
      ['MULTI'],
      ['APPEND', b, ' inside'],
      ['INCRBYFLOAT', b, '1'],
      ['EXEC'],
    );
    expect(await stopAt(pipeline, 'lane:0')).toMatchObject({ command: 'INCRBYFLOAT', behind: false, seq: 7 });
    expect(await target.get(b)).toBe('before');
    await asOperator(pipeline, (operator) => operator.skip({ kind: 'lane', lane: 0 }, 7, 'no such command'));
    await pipeline.caughtUp();
    expect(await target.get(b)).toBe('before inside');
    expect((await deadLetters(pipeline)).map(({ seq, command }) => [seq, command])).toEqual([
      [2, 'INCRBYFLOAT'],
      [7, 'INCRBYFLOAT'],
    ]);
  });

  test('at a gate: it stops, its lanes wait, the others go on; a skipped gate moves all its lanes', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, targetArgs: UNKNOWN });
    const target = pipeline.target.client();
    const [from, to, other] = [keyIn(0, 'from'), keyIn(1, 'to'), keyIn(2, 'other')];
    pipeline.worker();
    await log(pipeline, ['SADD', from, 'm'], ['SADD', to, 'n']);
    await pipeline.caughtUp();
    await log(pipeline, ['SMOVE', from, to, 'm'], ['SET', other, '1'], ['SADD', from, 'later']);
    const place = await until('the gate has stopped', async () =>
      Object.keys(await stops(pipeline)).find((at) => at.startsWith('gate:')),
    );
    expect(await stopAt(pipeline, place)).toMatchObject({
      command: 'SMOVE',
      key: from,
      seq: 3,
      behind: false,
    });
    await until('another lane goes on', async () => (await target.get(other)) === '1');
    expect(await target.smembers(from)).toEqual(['m']);
    await asOperator(pipeline, (operator) => operator.skip({ kind: 'gate' }, 3, 'no such command'));
    await pipeline.caughtUp();
    expect((await target.smembers(from)).sort()).toEqual(['later', 'm']);
    expect(await target.smembers(to)).toEqual(['n']);
    expect(await stops(pipeline)).toEqual({});
  });

  test('a malformed entry or a forbidden command: ingest stops in front of it, everything before is applied; skip goes on', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const target = pipeline.target.client();
    pipeline.worker();
    await log(pipeline, ['SET', 'k', '1'], ['CONFIG', 'SET', 'maxmemory', '1'], ['APPEND', 'k', '2']);
    const stop = await stopAt(pipeline, 'ingest');
    expect(stop).toMatchObject({ command: 'CONFIG', seq: 2, behind: false });
    await until('what stands before is applied', async () => (await target.get('k')) === '1');
    await asOperator(pipeline, (operator) => operator.skip({ kind: 'ingest' }, 2, 'not for us'));
    await pipeline.caughtUp();
    expect(await target.get('k')).toBe('12');

    await pipeline.source.client().xadd('binlog', '*', 'resp', '*2\r\n$3\r\nGET');
    await log(pipeline, ['APPEND', 'k', '3']);
    expect(await stopAt(pipeline, 'ingest')).toMatchObject({ seq: 4, behind: false });
    await asOperator(pipeline, (operator) => operator.skip({ kind: 'ingest' }, 4, 'cut short'));
    await pipeline.caughtUp();
    expect(await target.get('k')).toBe('123');
    expect((await pipeline.counters()).deadLettered).toBe(2);
  });

  test('--on-poison dead-letter: nothing stops, each of them is in the dead-letter stream and counted', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: UNKNOWN,
      args: ['--on-poison', 'dead-letter'],
    });
    const target = pipeline.target.client();
    const [a, from, to] = [keyIn(0, 'a'), keyIn(0, 'from'), keyIn(1, 'to')];
    pipeline.worker();
    await log(
      pipeline,
      ['SET', a, '1'],
      ['INCRBYFLOAT', a, '1'],
      ['APPEND', a, '2'],
      ['DEBUG', 'SEGFAULT'],
      ['SADD', from, 'm'],
      ['SMOVE', from, to, 'm'],
      ['APPEND', a, '3'],
      ['LPUSH', a, 'WRONGTYPE'],
      ['APPEND', a, '4'],
    );
    await pipeline.caughtUp();
    expect(await target.get(a)).toBe('1234');
    expect(await target.smembers(from)).toEqual(['m']);
    expect(await stops(pipeline)).toEqual({});
    const found = (await deadLetters(pipeline)).map(({ seq, command }) => `${seq} ${command}`);
    expect(found.sort()).toEqual(['2 INCRBYFLOAT', '4 DEBUG', '6 SMOVE']);
    expect(await pipeline.counters()).toMatchObject({ deadLettered: 3, divergences: 1 });
  });
});
