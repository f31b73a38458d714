// How long a backlog takes. The clock of the rate runs from the first applied command to the last one, so that the
// start of Node is not in it; the time from the start of the first process stands beside it. Both are seen by
// looking at the checkpoints and at the journal's head every 10 ms.

import { medianRun } from './figures.ts';
import { cpuPerCommand } from './pipeline.ts';
import { say } from './say.ts';
import type { Bench, Filled } from './support.ts';
import { fillSets } from './workload.ts';

export interface DrainRun {
  readonly commands: number;
  /** First applied to all applied. */
  readonly seconds: number;
  readonly perSecond: number;
  /** Start of the first process to all applied. */
  readonly secondsFromStart: number;
  /** CPU from the first applied command to the last, us per command, by process. */
  readonly cpuUsPerCommand: Readonly<Record<string, number>>;
  /** Peak resident memory (VmHWM) by process, bytes. */
  readonly peakRssBytes: Readonly<Record<string, number>>;
  readonly queueUsedPeakBytes: number;
  readonly gates: number;
}

export interface Drain {
  readonly median: DrainRun;
  readonly perSecondOfRuns: readonly number[];
  /** Of any run. */
  readonly peakRssBytes: Readonly<Record<string, number>>;
}

export type Workers = readonly { readonly label: string; readonly roles?: string }[];

export const ONE: Workers = [{ label: 'worker' }];
export const TWO: Workers = [{ label: 'worker-1' }, { label: 'worker-2' }];
/** The same work in two processes, to tell what each part costs. */
export const BY_ROLE: Workers = [
  { label: 'ingest', roles: 'ingest' },
  { label: 'lanes', roles: 'lanes,gate' },
];

/** The stream is filled once; its figures are measured by `drainOnce` as often as wanted. */
export function fillDrain(bench: Bench): Promise<Filled> {
  say(`filling the stream with ${bench.settings.commands} SETs`);
  return fillSets(bench, 'binlog', bench.settings.commands);
}

export async function drainRuns(bench: Bench, filled: Filled, workers: Workers): Promise<Drain> {
  const runs: DrainRun[] = [];
  for (let i = 0; i < bench.settings.runs; i++) runs.push(await drainOnce(bench, filled, workers));
  return {
    median: medianRun(runs, (run) => run.perSecond),
    perSecondOfRuns: runs.map((run) => run.perSecond),
    peakRssBytes: highest(runs.map((run) => run.peakRssBytes)),
  };
}

export async function drainOnce(
  bench: Bench,
  filled: Filled,
  workers: Workers,
  profileDir?: string,
): Promise<DrainRun> {
  await using pipeline = await bench.pipeline(filled.key);
  const startedMs = performance.now();
  for (const worker of workers)
    pipeline.startWorker(profileDir === undefined ? worker : { ...worker, profileDir });
  let first: { atMs: number; cpu: Readonly<Record<string, number>> } | undefined;
  await pipeline.untilApplied(filled.seqs, ({ sum }) => {
    if (sum > 0) first ??= { atMs: performance.now(), cpu: pipeline.cpu() };
  });
  const doneMs = performance.now();
  const cpu = pipeline.cpu();
  if (first === undefined) throw new Error('nothing was applied');
  const { atMs, cpu: cpuBefore } = first;
  const seconds = (doneMs - atMs) / 1000;
  await pipeline.check(filled.keys);
  const run: DrainRun = {
    commands: filled.commands,
    seconds,
    perSecond: filled.commands / seconds,
    secondsFromStart: (doneMs - startedMs) / 1000,
    cpuUsPerCommand: cpuPerCommand(cpuBefore, cpu, filled.commands),
    peakRssBytes: pipeline.memory(),
    queueUsedPeakBytes: await pipeline.queuePeakBytes(),
    gates: await pipeline.counter('gates'),
  };
  say(
    `${filled.key}, ${workers.map(({ label }) => label).join(' + ')}: ${Math.round(run.perSecond / 1000)} k/s`,
  );
  return run;
}

export function highest(runs: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const peaks: Record<string, number> = {};
  for (const run of runs) {
    for (const [label, bytes] of Object.entries(run)) peaks[label] = Math.max(peaks[label] ?? 0, bytes);
  }
  return peaks;
}
