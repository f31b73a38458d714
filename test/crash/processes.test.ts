import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Feed, until } from '../support/faults.ts';
import { Pipeline, type WorkerChild } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

const WORKLOAD = { commands: 1500, global: 10, crossing: 60 };

async function holder(pipeline: Pipeline): Promise<string> {
  return (await pipeline.queue.client().hget(`{lanegate-${pipeline.name}}:journal`, 'holder')) ?? '';
}

async function holderIsOneOf(pipeline: Pipeline, workers: readonly WorkerChild[]): Promise<boolean> {
  const pid = (await holder(pipeline)).split('-').at(-2);
  return workers.some((worker) => String(worker.process.pid) === pid);
}

describe('processes of a pipeline come and go', () => {
  test('all of them killed at once, again and again, lose nothing and apply nothing twice', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const entries = await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 301 });
    const feed = new Feed(pipeline, entries);
    for (let round = 0; round < 3; round++) {
      const workers = [pipeline.worker(), pipeline.worker()];
      await feed.while(0.3, () => until('one of them holds ingest', () => holderIsOneOf(pipeline, workers)));
      await delay(150);
      await Promise.all(workers.map((worker) => worker.kill()));
    }
    pipeline.worker();
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('SIGTERM under load: exit code 0 within the grace period, and another takes everything over at once', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const entries = await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 302 });
    const feed = new Feed(pipeline, entries);
    let current = pipeline.worker();
    await feed.while(0.2, () => until('it holds ingest', () => holderIsOneOf(pipeline, [current])));
    // A rolling restart: each time a new one comes, and the old one goes.
    for (let round = 0; round < 3; round++) {
      const next = pipeline.worker();
      await until('the next one is registered', async () =>
        (await pipeline.queue.client().hkeys(`{lanegate-${pipeline.name}}:workers`)).some((id) =>
          id.includes(`-${next.process.pid}-`),
        ),
      );
      await feed.while(0.2, async () => {
        const asked = performance.now();
        current.signal('SIGTERM');
        const exited = current.exit().then((code) => ({ code, ms: performance.now() - asked }));
        await until('the next one holds ingest', () => holderIsOneOf(pipeline, [next]));
        const takeoverMs = performance.now() - asked;
        const { code, ms } = await exited;
        expect(code).toBe(0);
        expect(ms).toBeLessThan(10_000);
        expect(takeoverMs).toBeLessThan(3_000);
      });
      current = next;
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect((await pipeline.counters()).fenced ?? 0).toBe(0);
    expect((await pipeline.counters()).unverified ?? 0).toBe(0);
  });
});
