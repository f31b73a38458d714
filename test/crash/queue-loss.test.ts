import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { aofBytes, Feed, loseAofBehind, until, wipe } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// The queue's Redis is a window and a buffer: whatever it loses, the source and the target's control keys are enough (I5).

const WORKLOAD = { commands: 2000, global: 8, crossing: 60 };
const JOURNAL = '{lanegate-test}:journal';

async function loaded(seed: number): Promise<{ pipeline: Pipeline; feed: Feed }> {
  const pipeline = await Pipeline.start({ lanes: 4 });
  const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed }));
  pipeline.worker();
  pipeline.worker();
  await feed.while(0.15, () => until('the journal is written', () => journalHead(pipeline)));
  return { pipeline, feed };
}

async function journalHead(pipeline: Pipeline): Promise<number> {
  return Number((await pipeline.queue.client().hget(JOURNAL, 'head')) ?? 0);
}

async function journalId(pipeline: Pipeline): Promise<string> {
  return (await pipeline.queue.client().hget(JOURNAL, 'id')) ?? '';
}

async function ends(pipeline: Pipeline, feed: Feed): Promise<void> {
  await feed.rest();
  await pipeline.caughtUp(40_000);
  expect(await pipeline.differences()).toEqual([]);
}

describe("the queue's Redis fails under load", () => {
  test('killed and restarted, then with its AOF cut, twice', async () => {
    const { pipeline, feed } = await loaded(401);
    await using _ = pipeline;
    const { queue } = pipeline;
    await feed.while(0.15, async () => {
      await queue.kill();
      await delay(200);
      await queue.restart();
    });
    for (let round = 0; round < 2; round++) {
      await feed.while(0.15, async () => {
        const bytes = await aofBytes(queue);
        await until('much is written', async () => (await aofBytes(queue)) > bytes + 20_000);
        await queue.kill();
        const lost = await loseAofBehind(queue, bytes, { torn: true });
        expect(lost).toBeGreaterThan(0);
        await queue.restart();
      });
    }
    await ends(pipeline, feed);
  });

  everyCase('flushed, twice in a row', async () => {
    const { pipeline, feed } = await loaded(402);
    await using _ = pipeline;
    for (let round = 0; round < 2; round++) {
      await feed.while(0.2, async () => {
        const before = await journalId(pipeline);
        await pipeline.queue.client().flushall();
        await until('a journal is made anew', async () => {
          const now = await journalId(pipeline);
          return now !== '' && now !== before;
        });
      });
    }
    await ends(pipeline, feed);
  });

  test('replaced by an empty server, twice in a row', async () => {
    const { pipeline, feed } = await loaded(403);
    await using _ = pipeline;
    for (let round = 0; round < 2; round++) {
      await feed.while(0.2, async () => {
        const before = await journalId(pipeline);
        await pipeline.queue.kill();
        await wipe(pipeline.queue);
        await pipeline.queue.restart();
        await until('a journal is made anew', async () => {
          const now = await journalId(pipeline);
          return now !== '' && now !== before;
        });
      });
    }
    await ends(pipeline, feed);
  });

  test('out of memory for a while: rounds and jobs are refused, then taken', async () => {
    const { pipeline, feed } = await loaded(404);
    await using _ = pipeline;
    const queue = pipeline.queue.client();
    for (let round = 0; round < 3; round++) {
      await feed.while(0.2, async () => {
        await queue.config('SET', 'maxmemory', '1');
        await delay(250);
        await queue.config('SET', 'maxmemory', '0');
        await delay(100);
      });
    }
    await ends(pipeline, feed);
  });
});
