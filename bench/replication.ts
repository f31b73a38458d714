// A live source, three ways; a native replica of the same source does the same in the same run:
//
//   full         a worker is started on an empty target; until all keys of the source are applied
//   incremental  redis-benchmark writes at the source while lanegate follows; until its last write is applied
//   drain        the applier is stopped (SIGSTOP), redis-benchmark writes, the applier goes on; until all is applied

import { loadSets } from './ceiling.ts';
import { highest } from './drain.ts';
import { medianRun } from './figures.ts';
import { LiveSource, type NativeReplica, setsRun } from './live.ts';
import { cpuPerCommand } from './pipeline.ts';
import { say } from './say.ts';
import type { Bench } from './support.ts';

export interface ReplicationRun {
  readonly commands: number;
  readonly seconds: number;
  readonly perSecond: number;
  /** Of incremental: what the target got, and redis-benchmark wrote, a second while the loading lasted. */
  readonly whileLoading?: { readonly perSecond: number; readonly loaderPerSecond: number };
  readonly cpuUsPerCommand: Readonly<Record<string, number>>;
  /** Peak resident memory (VmHWM) by process, bytes. */
  readonly peakRssBytes: Readonly<Record<string, number>>;
}

export interface Replication {
  readonly median: ReplicationRun;
  readonly perSecondOfRuns: readonly number[];
  readonly peakRssBytes: Readonly<Record<string, number>>;
  readonly native: { readonly median: ReplicationRun; readonly perSecondOfRuns: readonly number[] };
}

/** Who follows: what is started, stopped and looked at. Both ways are measured by the same lines. */
interface Applier {
  /** Connects and takes a first snapshot; resolves when all of it is applied. */
  readonly attach: () => Promise<void>;
  readonly pause: () => void;
  readonly resume: () => void;
  readonly untilApplied: () => Promise<void>;
  /** SETs that the target has run. */
  readonly setsRun: () => Promise<number>;
  readonly check: () => Promise<void>;
  readonly cpu: () => Readonly<Record<string, number>>;
  readonly memory: () => Readonly<Record<string, number>>;
}

type Measure = (live: LiveSource, applier: Applier, commands: number) => Promise<ReplicationRun>;

export async function fullRuns(bench: Bench): Promise<Replication> {
  await using live = await LiveSource.start();
  say(`filling a live source with ${bench.settings.commands} keys`);
  await live.fill(bench.settings.commands);
  return await runsOf(bench, 'full', measureFull, () => live);
}

export function incrementalRuns(bench: Bench): Promise<Replication> {
  return runsOf(bench, 'incremental', measureIncremental);
}

export function pauseRuns(bench: Bench): Promise<Replication> {
  return runsOf(bench, 'drain', measurePause);
}

/** lanegate and the native replica in turn: a machine's speed drifts. Without `shared`, each has a source of its own. */
async function runsOf(
  bench: Bench,
  what: string,
  measure: Measure,
  shared?: () => LiveSource,
): Promise<Replication> {
  const runs: ReplicationRun[] = [];
  const natives: ReplicationRun[] = [];
  for (let i = 0; i < bench.settings.runs; i++) {
    for (const [kind, into] of [
      [lanegateOnce, runs],
      [nativeOnce, natives],
    ] as const) {
      const own = shared === undefined ? await LiveSource.start() : undefined;
      const live = own ?? (shared as () => LiveSource)();
      try {
        into.push(await kind(bench, live, what, measure));
      } finally {
        await own?.[Symbol.asyncDispose]();
      }
    }
  }
  const perSecond = (run: ReplicationRun) => run.perSecond;
  return {
    median: medianRun(runs, perSecond),
    perSecondOfRuns: runs.map(perSecond),
    peakRssBytes: highest(runs.map((run) => run.peakRssBytes)),
    native: { median: medianRun(natives, perSecond), perSecondOfRuns: natives.map(perSecond) },
  };
}

async function lanegateOnce(
  bench: Bench,
  live: LiveSource,
  what: string,
  measure: Measure,
): Promise<ReplicationRun> {
  await using pipeline = await live.pipeline(bench, what);
  const worker = () => {
    const [first] = pipeline.workers;
    if (first === undefined) throw new Error('no worker was started');
    return first;
  };
  const untilApplied = () => pipeline.untilApplied(0);
  return said(
    what,
    'lanegate',
    await measure(
      live,
      {
        attach: () => {
          pipeline.startWorker({ label: 'worker' });
          return untilApplied();
        },
        pause: () => worker().pause(),
        resume: () => worker().resume(),
        untilApplied,
        setsRun: () => setsRun(pipeline.target),
        check: () => live.check(pipeline),
        cpu: () => pipeline.cpu(),
        memory: () => pipeline.memory(),
      },
      bench.settings.commands,
    ),
  );
}

async function nativeOnce(
  bench: Bench,
  live: LiveSource,
  what: string,
  measure: Measure,
): Promise<ReplicationRun> {
  await using replica: NativeReplica = await live.native();
  return said(
    what,
    'native',
    await measure(
      live,
      {
        attach: () => replica.attach(),
        pause: () => replica.server.stop(),
        resume: () => replica.server.cont(),
        untilApplied: () => replica.untilCaughtUp(),
        setsRun: () => setsRun(replica.server),
        check: () => replica.check(),
        cpu: () => replica.cpu(),
        memory: () => replica.memory(),
      },
      bench.settings.commands,
    ),
  );
}

async function measureFull(_live: LiveSource, applier: Applier, keys: number): Promise<ReplicationRun> {
  return timed(applier, keys, () => applier.attach());
}

async function measureIncremental(
  live: LiveSource,
  applier: Applier,
  commands: number,
): Promise<ReplicationRun> {
  await applier.attach();
  const before = await applier.setsRun();
  let whileLoading: ReplicationRun['whileLoading'];
  const run = await timed(applier, commands, async () => {
    const startedMs = performance.now();
    const loaderPerSecond = await loadSets(live.server.port, { commands });
    const seconds = (performance.now() - startedMs) / 1000;
    whileLoading = { perSecond: ((await applier.setsRun()) - before) / seconds, loaderPerSecond };
    await applier.untilApplied();
  });
  return whileLoading === undefined ? run : { ...run, whileLoading };
}

async function measurePause(live: LiveSource, applier: Applier, commands: number): Promise<ReplicationRun> {
  await applier.attach();
  applier.pause();
  await loadSets(live.server.port, { commands });
  return timed(applier, commands, async () => {
    applier.resume();
    await applier.untilApplied();
  });
}

async function timed(applier: Applier, commands: number, work: () => Promise<void>): Promise<ReplicationRun> {
  const before = applier.cpu();
  const startedMs = performance.now();
  await work();
  const seconds = (performance.now() - startedMs) / 1000;
  const cpuUsPerCommand = cpuPerCommand(before, applier.cpu(), commands);
  await applier.check();
  return {
    commands,
    seconds,
    perSecond: commands / seconds,
    cpuUsPerCommand,
    peakRssBytes: applier.memory(),
  };
}

function said(what: string, who: string, run: ReplicationRun): ReplicationRun {
  say(`${what}, ${who}: ${Math.round(run.perSecond / 1000)} k/s`);
  return run;
}
