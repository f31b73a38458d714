import { pino } from 'pino';
import { expect } from 'vitest';
import { startBoard } from '../../src/roles/board.ts';
import { BoardQueues, describeJob } from '../support/board-queues.ts';
import { BrowserPage, browserTest } from '../support/browser.ts';
import { pipelineStatus } from '../support/pipeline-status.ts';
import { RedisServer } from '../support/redis-server.ts';

const log = pino({ level: 'silent' });
const LOGIN = { username: 'operator', password: 'correct horse battery' };

browserTest('the board in a browser shows the queues, a paused lane and what a job does', async () => {
  await using redis = await RedisServer.start();
  await using queues = await BoardQueues.create(redis, 4);
  await queues.named('lane-3').pause();
  const job = await queues.named('lane-3').add('apply', { from: 1200, to: 1890, commands: 87, ms: 4 });
  const board = await startBoard({
    host: '127.0.0.1',
    port: 0,
    write: false,
    user: LOGIN.username,
    password: LOGIN.password,
    queues: queues.all,
    status: async () => pipelineStatus(),
    ready: async () => true,
    describeJob,
    log,
  });
  await using _board = { [Symbol.asyncDispose]: () => board.close() };

  await using browser = await BrowserPage.open(`${board.url}/`, LOGIN);
  for (const name of ['lane-0', 'lane-1', 'lane-2', 'lane-3', 'gate', 'ingest']) await browser.sees(name);
  await browser.sees(/paused/i);

  await browser.page.getByText('lane-3').first().click();
  await browser.sees('lane 3: seq 1200..1890, 87 commands, 11 KiB, 4 ms');

  await browser.page.goto(`${board.url}/queue/lane-3/${job.id}`);
  await browser.sees('lane 3: seq 1200..1890, 87 commands, 11 KiB, 4 ms');
  await browser.sees('1890');

  expect(browser.foreignRequests).toEqual([]);
  expect(browser.errors.filter((error) => !error.includes('fonts.googleapis.com'))).toEqual([]);
});
