import { join } from 'node:path';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { Pipeline, WorkerChild } from '../support/pipeline.ts';
import { RedisServer } from '../support/redis-server.ts';
import { logWorkload } from '../support/workload.ts';

// The target of one pipeline is the live source of another: its log is full of the first one's bookkeeping, in the
// transactions that carry the data.

function second(pipeline: Pipeline, name: string, target: RedisServer, queue: RedisServer): string[] {
  return [
    ...[
      'worker',
      '--name',
      name,
      '--source',
      pipeline.target.url,
      '--target',
      target.url,
      '--queue',
      queue.url,
    ],
    ...[
      '--data-dir',
      join(pipeline.dir, name),
      '--lanes',
      '3',
      '--lock-ms',
      '2000',
      '--watchdog-ms',
      '300',
      '--expiry-grace-ms',
      '0',
    ],
  ];
}

test('a pipeline behind a pipeline takes the data and leaves the bookkeeping of the first one out', async () => {
  await using pipeline = await Pipeline.start({ lanes: 4, targetArgs: ['--repl-diskless-sync-delay', '0'] });
  await using target = await RedisServer.start();
  await using queue = await RedisServer.start({ args: ['--appendonly', 'yes'] });
  const load = await logWorkload(pipeline.oracle.client(), {
    seed: 91,
    commands: 400,
    global: 10,
    crossing: 60,
  });
  pipeline.worker();
  await pipeline.append(load.slice(0, load.length / 2));
  await pipeline.caughtUp();
  const behind = new WorkerChild(
    second(pipeline, 'behind', target, queue),
    join(pipeline.dir, 'b'),
    undefined,
  );
  try {
    await until(
      'the copy is there',
      async () => (await compareServers(pipeline.target.url, target.url)).length === 0,
    );
    await pipeline.append(load.slice(load.length / 2));
    await pipeline.caughtUp();
    await until(
      'it follows',
      async () => (await compareServers(pipeline.oracle.url, target.url)).length === 0,
    );
  } catch (cause) {
    const left = JSON.stringify((await compareServers(pipeline.oracle.url, target.url)).slice(0, 10));
    throw new Error(`${left}\n${behind.output.slice(-3_000)}`, { cause });
  } finally {
    await behind.kill('SIGTERM');
  }
  expect(await target.client().keys('lanegate:test:*')).toEqual([]);
  expect(await queue.client().hgetall('{lanegate-behind}:stops')).toEqual({});
  expect(Number(await queue.client().hget('{lanegate-behind}:counters', 'ignored'))).toBeGreaterThan(10);
});

everyCase('a second pipeline of the same name is told to take another one', async () => {
  await using pipeline = await Pipeline.start({ lanes: 2, targetArgs: ['--repl-diskless-sync-delay', '0'] });
  await using target = await RedisServer.start();
  await using queue = await RedisServer.start({ args: ['--appendonly', 'yes'] });
  pipeline.worker();
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'k', '1']] }]);
  await pipeline.caughtUp();
  const same = new WorkerChild(second(pipeline, 'test', target, queue), join(pipeline.dir, 's'), undefined);
  try {
    const env = { LANEGATE_NAME: 'test', LANEGATE_QUEUE: queue.url };
    const reason = await until('ingest has stopped', async () => {
      const { stdout } = await lanegate(['errors', '--json'], { env });
      return (JSON.parse(stdout) as { stops: { reason: string }[] }).stops[0]?.reason;
    });
    expect(reason).toMatch(/the pipeline's own keys; .* give this one another --name/);
  } finally {
    await same.kill();
  }
});
