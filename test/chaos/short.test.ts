import { expect } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { CUT_AFTER_EXEC } from './network-faults.ts';
import { type ChaosOptions, type ChaosReport, runChaos } from './run.ts';

// `npm run chaos`, as short as it makes sense: one round without faults and one with those that provoke a guard for sure.

const SEED = Number(process.env.LANEGATE_SEED ?? 1);
const FAULTS = [
  'worker killed',
  'zombie at between-multi-and-exec',
  'killed at gate-after-exec',
  'killed at after-exec-before-reply',
  'queue emptied',
  'queue power loss',
  'target failed over to a lagging replica',
  'target out of memory',
  'target muted',
  CUT_AFTER_EXEC,
];

const PIKA_FAULTS = [
  'worker killed',
  'queue emptied',
  'source cut at a pattern',
  'source failed over to its slave',
  'source refuses a slave',
  'source repeats itself',
];

async function run(options: Pick<ChaosOptions, 'source' | 'roundMs' | 'only'>): Promise<ChaosReport> {
  const report = await runChaos({
    ...options,
    seed: SEED,
    workers: 2,
    lanes: 4,
    controlMs: 1_500,
    totalMs: 5_000,
    say: () => {},
  });
  expect(report.problems).toEqual([]);
  expect(report).toMatchObject({ rounds: 2, lost: 0, duplicated: 0 });
  return report;
}

for (const source of ['redis-stream', 'redis'] as const) {
  everyCase(
    `a short chaos run, source ${source}, seed ${SEED}: nothing is lost, nothing comes twice, the guards fire`,
    { timeout: 240_000 },
    async () => {
      const report = await run({ source, roundMs: 14_000, only: FAULTS });
      expect(report.commands).toBeGreaterThan(500);
      expect(report.replayed).toBe(source === 'redis-stream' ? report.commands : 0);
      const hits = Object.values(report.faults).filter(({ hit }) => hit > 0);
      expect(hits.length).toBeGreaterThan(4);
      expect(report.guards.journalMadeAnew).toBeGreaterThan(0);
      expect(report.guards.retries).toBeGreaterThan(0);
    },
  );
}

everyCase(
  `a short chaos run, source pika, seed ${SEED}: nothing is lost, nothing comes twice`,
  {
    timeout: 240_000,
  },
  async () => {
    const report = await run({ source: 'pika', roundMs: 6_000, only: PIKA_FAULTS });
    expect(report.commands).toBeGreaterThan(200);
    expect(report.replayed).toBe(report.commands);
    expect(Object.values(report.faults).filter(({ hit }) => hit > 0).length).toBeGreaterThan(1);
  },
);
