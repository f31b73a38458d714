import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload, random } from '../support/workload.ts';

const SEED = Number(process.env.LANEGATE_SEED ?? 1);

describe('what lanegate applied equals the same commands run one by one', () => {
  for (const [workers, seed] of [
    [1, SEED],
    [2, SEED + 1],
    [3, SEED + 2],
  ] as const) {
    everyCase(`with ${workers} workers, seed ${seed}`, async () => {
      await using pipeline = await Pipeline.start({ lanes: 1 + (seed % 8) });
      const entries = await logWorkload(pipeline.oracle.client(), { seed, commands: 3000 });
      for (let at = 0; at < workers; at++) pipeline.worker();
      const cut = Math.floor(entries.length / 2);
      await pipeline.append(entries.slice(0, cut));
      await delay(200);
      await pipeline.append(entries.slice(cut));
      await pipeline.caughtUp();
      expect(await pipeline.differences()).toEqual([]);
    });
  }

  test(`with workers killed at random, seed ${SEED + 3}`, async () => {
    await using pipeline = await Pipeline.start({ lanes: 5 });
    const next = random(SEED + 3);
    const entries = await logWorkload(pipeline.oracle.client(), { seed: SEED + 3, commands: 6000 });
    pipeline.worker();
    pipeline.worker();
    const step = Math.ceil(entries.length / 12);
    for (let at = 0; at < entries.length; at += step) {
      await pipeline.append(entries.slice(at, at + step));
      await delay(200 + next() * 700);
      const alive = pipeline.workers.filter((worker) => worker.running);
      await alive[Math.floor(next() * alive.length)]?.kill();
      pipeline.worker();
    }
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });
});
