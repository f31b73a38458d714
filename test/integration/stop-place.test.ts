import { pino } from 'pino';
import { expect, test } from 'vitest';
import type { PipelineContext } from '../../processors/context.ts';
import { stopPlace } from '../../processors/poison.ts';
import { Journal } from '../../src/journal/journal.ts';
import { Records, type StopRecord } from '../../src/journal/records.ts';
import { RedisServer } from '../support/redis-server.ts';

test('the same stop of ingest is said once, by whoever meets it; another one, or one after a resume, is news', async () => {
  await using server = await RedisServer.start();
  const redis = server.client();
  const journal = new Journal('test', redis);
  const records = new Records(redis, journal.keys);
  const lines: string[] = [];
  const log = pino({ level: 'error' }, { write: (line) => lines.push(line) });
  const context = { redis, journal, records, log } as unknown as PipelineContext;
  const stop: StopRecord = {
    generation: '1.ab',
    seq: 7,
    position: '1-0',
    command: 'NOSUCH',
    key: null,
    reason: 'nobody knows it',
    hint: 'lanegate lane resume ingest',
    behind: false,
    atMs: 1,
  };
  await stopPlace(context, 'ingest', stop);
  await stopPlace(context, 'ingest', { ...stop, atMs: 2 });
  expect(lines).toHaveLength(1);
  expect((await records.stopAt('ingest', '1.ab'))?.atMs).toBe(2);
  await stopPlace(context, 'ingest', { ...stop, seq: 9 });
  await stopPlace(context, 'ingest', { ...stop, seq: 9, reason: 'another one' });
  expect(lines).toHaveLength(3);
  await records.clearStop('ingest');
  await stopPlace(context, 'ingest', { ...stop, seq: 9, reason: 'another one' });
  expect(lines).toHaveLength(4);
});
