import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { Command } from '../support/workload.ts';

// What a start meets: trouble that passes is waited for as it is later on, and what the processes of a pipeline must agree
// on they do not decide by who happens to ingest.

async function log(pipeline: Pipeline, ...commands: Command[]): Promise<void> {
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
}

async function status(pipeline: Pipeline) {
  const env = { LANEGATE_NAME: pipeline.name, LANEGATE_QUEUE: pipeline.queue.url };
  return JSON.parse((await lanegate(['status', '--json'], { env })).stdout) as {
    state: string;
    target: { waiting: { sinceMs: number; code: string; hint: string } | null };
    workers: { roles: string[] }[];
  };
}

everyCase(
  'a target that is read-only at a start, the first one and a later one, is waited for; status says since when and why',
  async () => {
    await using pipeline = await Pipeline.start({ lanes: 2 });
    const target = pipeline.target.client();
    for (const round of [1, 2]) {
      await target.replicaof('127.0.0.1', 1);
      const worker = pipeline.worker();
      await log(pipeline, ['RPUSH', 'list', String(round)]);
      const first = await until('status says why', async () => (await status(pipeline)).target.waiting);
      expect(first).toMatchObject({ code: 'READONLY', hint: expect.stringContaining('REPLICAOF NO ONE') });
      // It goes on waiting, since when it began to.
      await until('it has tried again', async () => Date.now() - first.sinceMs > 1_500);
      const later = await status(pipeline);
      expect([later.state, later.target.waiting?.sinceMs, later.workers.length]).toEqual([
        'waiting',
        first.sinceMs,
        1,
      ]);
      expect(worker.running).toBe(true);
      await target.replicaof('NO', 'ONE');
      await pipeline.caughtUp();
      await until('nobody waits', async () => (await status(pipeline)).target.waiting === null);
      expect(await target.llen('list')).toBe(round);
      await worker.kill('SIGTERM');
      expect(await worker.exit()).toBe(0);
    }
  },
);

test('a queue that takes no writes at a start is waited for; a later start needs no room in it', async () => {
  await using pipeline = await Pipeline.start({ lanes: 2 });
  for (const [round, says] of ["waiting for the queue's Redis: OOM", 'worker started'].entries()) {
    await pipeline.queue.client().config('SET', 'maxmemory', 1);
    const worker = pipeline.worker();
    await until(says, () => worker.output.includes(says));
    await log(pipeline, ['RPUSH', 'list', String(round)]);
    await pipeline.queue.client().config('SET', 'maxmemory', 0);
    await pipeline.caughtUp();
    // Said once, however often it was tried.
    expect(worker.output.match(/waiting for the queue's Redis/g)?.length ?? 0).toBe(round === 0 ? 1 : 0);
    await worker.kill();
  }
  expect(await pipeline.target.client().lrange('list', 0, -1)).toEqual(['0', '1']);
});

test('a target that is away while the queue takes no writes is waited for, and said once', async () => {
  await using pipeline = await Pipeline.start({ lanes: 2 });
  await pipeline.queue.client().config('SET', 'maxmemory', 1);
  await pipeline.target.kill();
  const worker = pipeline.worker();
  await until('it says so', () => worker.output.includes('waiting for the target'));
  await delay(1_000);
  expect([worker.running, worker.output.match(/waiting for the target/g)?.length]).toEqual([true, 1]);
  await pipeline.target.restart();
  await pipeline.queue.client().config('SET', 'maxmemory', 0);
  await log(pipeline, ['RPUSH', 'list', '1']);
  await pipeline.caughtUp();
  expect((await status(pipeline)).target.waiting).toBeNull();
});

everyCase(
  'a process that would apply other commands than those that run is refused; once they have ended it may begin',
  async () => {
    await using pipeline = await Pipeline.start({ lanes: 2 });
    const first = pipeline.worker({ args: ['--deny', 'APPEND'] });
    await log(pipeline, ['SET', 'k', '1']);
    await pipeline.caughtUp();
    const other = pipeline.worker();
    expect(await other.exit()).toBe(1);
    expect(other.output).toMatch(/has other options for which commands are applied \(--allow, --deny/);
    expect(other.output).toMatch(/stop the others first/);

    // The same ones in another order, and a process that never ingests, are welcome.
    pipeline.worker({ args: ['--deny', 'APPEND', '--roles', 'ingest,lanes'] });
    const helper = pipeline.worker({ args: ['--roles', 'lanes,gate'] });
    await until(
      'both are there',
      async () => (await status(pipeline)).workers.filter(({ roles }) => roles.length > 0).length === 3,
    );

    // It takes the place of those that end while it waits.
    const next = pipeline.worker();
    await until('it waits', () => next.output.includes('waiting for its end'));
    for (const worker of pipeline.workers)
      if (worker !== next && worker !== helper) await worker.kill('SIGTERM');
    await log(pipeline, ['APPEND', 'k', '2']);
    await pipeline.caughtUp();
    expect(await pipeline.target.client().get('k')).toBe('12');
    expect([first.running, next.running]).toEqual([false, true]);
  },
);
