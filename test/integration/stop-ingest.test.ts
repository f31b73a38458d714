import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { PipelineContext } from '../../processors/context.ts';
import { stopIngest } from '../../processors/poison.ts';
import { Journal } from '../../src/journal/journal.ts';
import { Records, type StopRecord } from '../../src/journal/records.ts';
import { RedisServer } from '../support/redis-server.ts';

const STOP: StopRecord = {
  generation: '1.ab',
  seq: 7,
  position: '1-0',
  command: 'SOURCE_RANGE_LOST',
  key: null,
  reason: 'the range is gone',
  hint: 'lanegate reset',
  behind: false,
  atMs: 1,
};

async function scene(server: RedisServer) {
  const redis = server.client();
  const journal = new Journal('test', redis);
  const records = new Records(redis, journal.keys);
  const lines: string[] = [];
  const log = pino({ level: 'error' }, { write: (line) => lines.push(line) });
  const context = { redis, journal, records, log } as unknown as PipelineContext;
  const start = { seq: 0, position: '1-0', tails: [0, 0] };
  const fixed = { generation: '1.ab', lanes: 2, lanesBefore: 2, timeMs: 0, holder: 'w1' };
  const made = await journal.rebuild({ ...fixed, replaces: undefined, id: 'j1', start });
  if (made === 'fenced') throw new Error('the journal was not made');
  return {
    redis,
    journal,
    records,
    lines,
    context,
    role: { journalId: 'j1', epoch: made.epoch, position: '1-0' },
  };
}

test('an ingest that holds the role stops it; the same stop again is no news', async () => {
  await using server = await RedisServer.start();
  const { context, records, role, lines } = await scene(server);
  expect(await stopIngest(context, STOP, role)).toBe('stopped');
  expect(await stopIngest(context, { ...STOP, atMs: 2 }, role)).toBe('stopped');
  expect(await records.stopAt('ingest', '1.ab')).toEqual({ ...STOP, atMs: 2 });
  expect(lines).toHaveLength(1);
  expect(await stopIngest(context, { ...STOP, seq: 8 }, role)).toBe('stopped');
  expect(lines).toHaveLength(2);
});

test('an ingest that was overtaken stops nobody: by epoch, by position, by another journal, by none', async () => {
  await using server = await RedisServer.start();
  const { context, redis, journal, records, role, lines } = await scene(server);
  const superseded = async () => {
    expect(await stopIngest(context, STOP, role)).toBe('superseded');
    expect(await records.stops()).toEqual(new Map());
  };
  // The successor has begun, and then the queue's Redis fell back to before that: the epoch is the same again.
  await journal.begin('j1', 'w2');
  await superseded();
  await redis.hset(journal.keys.state, 'epoch', role.epoch, 'position', '2-0');
  await superseded();
  await redis.hset(journal.keys.state, 'id', 'j2', 'position', role.position);
  await superseded();
  await redis.del(journal.keys.state);
  await superseded();
  expect(lines).toEqual([]);
  await redis.hset(journal.keys.state, 'id', 'j1', 'epoch', role.epoch, 'position', role.position);
  expect(await stopIngest(context, STOP, role)).toBe('stopped');
});

test('a stop of the successor is not replaced by that of the one before', async () => {
  await using server = await RedisServer.start();
  const { context, journal, records, role } = await scene(server);
  const begun = await journal.begin('j1', 'w2');
  if (typeof begun === 'string') throw new Error(begun);
  const own = { ...STOP, reason: 'met by the successor' };
  expect(await stopIngest(context, own, { ...role, epoch: begun.epoch })).toBe('stopped');
  expect(await stopIngest(context, STOP, role)).toBe('superseded');
  expect(await records.stopAt('ingest', '1.ab')).toEqual(own);
});
