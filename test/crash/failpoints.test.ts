import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// One test per named place. The workload shows loss, repetition and order in its values; what must come out is what the
// same commands make when they are run one by one.

const WORKLOAD = { commands: 1200, global: 15, crossing: 60 };

interface Place {
  readonly failpoint: string;
  readonly meaning: string;
  /** The others are a step beside one of these. */
  readonly always?: true;
}

const PLACES: readonly Place[] = [
  { failpoint: 'after-initialise=kill', meaning: 'identity is written, the journal is not' },
  { failpoint: 'before-commit=kill@2', meaning: 'a round is made and not committed', always: true },
  {
    failpoint: 'after-commit-before-announce=kill@2',
    meaning: 'a round is committed and no lane knows',
  },
  { failpoint: 'between-multi-and-exec=kill@4', meaning: 'MULTI is open and nothing was sent' },
  {
    failpoint: 'after-exec-before-reply=kill@4',
    meaning: 'EXEC has run and nobody read its reply',
    always: true,
  },
  {
    failpoint: 'after-exec-before-finish=kill@4',
    meaning: 'the chunk is applied and the job is still active',
  },
  { failpoint: 'gate-after-pause=kill@2', meaning: 'the lanes are paused and the gate has not executed' },
  { failpoint: 'gate-after-exec=kill@2', meaning: 'the gate has executed and nobody knows', always: true },
  {
    failpoint: 'gate-after-exec-before-resume=kill@2',
    meaning: 'the gate has executed and the lanes are paused',
  },
  { failpoint: 'gate-after-resume=kill@2', meaning: 'the lanes are resumed and not announced' },
];

describe('a worker killed where it hurts most loses nothing and applies nothing twice', () => {
  for (const [at, { failpoint, meaning, always }] of PLACES.entries()) {
    (always ? test : everyCase)(`${failpoint}: ${meaning}`, async () => {
      await using pipeline = await Pipeline.start({ lanes: 4 });
      const entries = await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 100 + at });
      const doomed = pipeline.worker({ failpoint });
      const step = Math.ceil(entries.length / 10);
      for (let from = 0; from < entries.length; from += step) {
        await pipeline.append(entries.slice(from, from + step));
        await delay(from === 0 ? 500 : 120);
      }
      await Promise.race([doomed.exit(), delay(10_000)]);
      expect(doomed.reached).toEqual([failpoint.replace(/=.*/, '')]);
      pipeline.worker();
      await pipeline.caughtUp();
      expect(await pipeline.differences()).toEqual([]);
    });
  }
});

describe('ingest killed while it makes something anew', () => {
  test('during-rebuild=kill: the identity names a journal that is not there yet', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const entries = await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 150 });
    const cut = Math.floor(entries.length / 2);
    const first = pipeline.worker();
    await pipeline.append(entries.slice(0, cut));
    await pipeline.caughtUp();
    await first.kill();
    await pipeline.queue.client().flushall();
    const doomed = pipeline.worker({ failpoint: 'during-rebuild=kill' });
    await doomed.exit();
    expect(doomed.reached).toEqual(['during-rebuild']);
    pipeline.worker();
    await pipeline.append(entries.slice(cut));
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('during-relane=kill: the target has the new generation, the journal the old one', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const entries = await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 151 });
    const cut = Math.floor(entries.length / 2);
    const doomed = pipeline.worker({ failpoint: 'during-relane=kill' });
    await pipeline.append(entries.slice(0, cut));
    await pipeline.caughtUp();
    await pipeline.queue.client().hset('{lanegate-test}:control', 'relane', '7');
    await doomed.exit();
    expect(doomed.reached).toEqual(['during-relane']);
    pipeline.worker({ lanes: 7 });
    await pipeline.append(entries.slice(cut));
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect(await pipeline.target.client().exists('lanegate:test:ck:6')).toBe(1);
  });
});
