// Gates over all lanes, four ways, because "gates a second" depends on whether several may share one rendezvous:
//
//   closed    one at a time: a SET in every lane, FLUSHDB, a probe behind it; the next when the probe is seen
//   paced     the same entries at a fixed rate, whatever the pipeline does; highest rate that it keeps up with
//   backlog   a log in which FLUSHDBs stand so far apart (1,030 SETs) that each one is a gate of its own
//   merged    a log of FLUSHDBs with 8 SETs between, which the sequencer is free to close into segments

import { setTimeout as delay } from 'node:timers/promises';
import { drainOnce, ONE } from './drain.ts';
import { type Spread, spreadOf } from './figures.ts';
import { cpuPerCommand, type Pipeline } from './pipeline.ts';
import { Probe } from './probe.ts';
import { say } from './say.ts';
import type { Bench } from './support.ts';
import { fillFlushes, keyOfEachLane } from './workload.ts';

const CLOSED_GATES = 1500;
const CLOSED_WARM_UP = 500;
const PACED_MS = 4_000;
const PACES = [25, 50, 100, 150, 200, 300, 400] as const;
/** Of the appended FLUSHDBs, at least so many have a gate of their own. */
const UNMERGED_MIN = 0.95;
/** What a probe may take at most while the pipeline keeps up (99 %). */
const KEEPS_UP_MS = 250;
const HOPELESS_MS = 1_000;
const BACKLOG = { flushes: 500, between: 1_030 };
const MERGED = { flushes: 20_000, between: 8 };

export interface Pace {
  readonly flushesPerSecond: number;
  /** Gates that were executed, by the pipeline's own counter. */
  readonly gatesPerSecond: number;
  /** Executed gates to appended FLUSHDBs: below 1, some shared one. */
  readonly gatesPerFlush: number;
  readonly spread: Spread;
  readonly keepsUp: boolean;
}

export interface Gates {
  /** From XADD of FLUSHDB until the command behind it is visible. */
  readonly closed: Spread & {
    readonly gatesPerSecond: number;
    readonly cpuUsPerGate: Readonly<Record<string, number>>;
  };
  readonly paced: readonly Pace[];
  /** Of the highest pace that it keeps up with and that is not merged; 0 if there is none. */
  readonly pacedGatesPerSecond: number;
  readonly backlog: { readonly gatesPerSecond: number; readonly gates: number; readonly flushes: number };
  readonly merged: { readonly flushesPerSecond: number; readonly gates: number; readonly flushes: number };
}

const FLUSH = [...keyOfEachLane().map((key) => ['SET', key, 'v']), ['FLUSHDB']];

export async function gatesOnce(bench: Bench): Promise<Gates> {
  const { closed, paced } = await rendezvous(bench);
  const fit = paced.filter(({ keepsUp, gatesPerFlush }) => keepsUp && gatesPerFlush >= UNMERGED_MIN);
  const backlog = await drained(bench, 'binlog-gates', BACKLOG);
  const merged = await drained(bench, 'binlog-merged', MERGED);
  return {
    closed,
    paced,
    pacedGatesPerSecond: Math.max(0, ...fit.map(({ gatesPerSecond }) => gatesPerSecond)),
    backlog: {
      gatesPerSecond: backlog.gates / backlog.seconds,
      gates: backlog.gates,
      flushes: BACKLOG.flushes,
    },
    merged: {
      flushesPerSecond: MERGED.flushes / merged.seconds,
      gates: merged.gates,
      flushes: MERGED.flushes,
    },
  };
}

async function rendezvous(bench: Bench): Promise<Pick<Gates, 'closed' | 'paced'>> {
  const key = 'binlog-rendezvous';
  await bench.source.client().del(key);
  await using pipeline = await bench.pipeline(key);
  pipeline.startWorker({ label: 'worker' });
  await pipeline.untilReady();
  await using probe = new Probe(pipeline);
  for (let i = 0; i < CLOSED_WARM_UP; i++) await probe.probe(FLUSH);
  const latencies: number[] = [];
  const cpuBefore = pipeline.cpu();
  for (let i = 0; i < CLOSED_GATES; i++) latencies.push(await probe.probe(FLUSH));
  const spread = spreadOf(latencies);
  const cpuUsPerGate = cpuPerCommand(cpuBefore, pipeline.cpu(), CLOSED_GATES);
  const closed = { ...spread, gatesPerSecond: 1_000 / spread.meanMs, cpuUsPerGate };
  say(`gates, closed loop: ${closed.gatesPerSecond.toFixed(0)}/s, p50 ${spread.p50Ms.toFixed(1)} ms`);
  const paced: Pace[] = [];
  for (const pace of PACES) {
    const result = await paceOnce(pipeline, probe, pace);
    paced.push(result);
    // Faster only takes longer from here on.
    if (result.spread.p99Ms > HOPELESS_MS) break;
  }
  await bench.source.client().del(key);
  return { closed, paced };
}

async function paceOnce(pipeline: Pipeline, probe: Probe, pace: number): Promise<Pace> {
  const before = await pipeline.counter('gates');
  const startedMs = performance.now();
  const waiting: Promise<number>[] = [];
  for (let elapsedMs = 0; elapsedMs < PACED_MS; elapsedMs = performance.now() - startedMs) {
    while (waiting.length <= (elapsedMs / 1000) * pace) waiting.push(probe.probe(FLUSH));
    await delay(1);
  }
  const latencies = await Promise.all(waiting);
  const seconds = (performance.now() - startedMs) / 1000;
  // The counter is written behind the EXEC that the last probe saw.
  await delay(100);
  const gates = (await pipeline.counter('gates')) - before;
  const spread = spreadOf(latencies);
  const result = {
    flushesPerSecond: latencies.length / seconds,
    gatesPerSecond: gates / seconds,
    gatesPerFlush: gates / latencies.length,
    spread,
    keepsUp: spread.p99Ms <= KEEPS_UP_MS,
  };
  say(`gates, ${pace}/s: ${result.gatesPerSecond.toFixed(0)} gates/s, p99 ${spread.p99Ms.toFixed(1)} ms`);
  return result;
}

async function drained(bench: Bench, key: string, what: { flushes: number; between: number }) {
  const filled = await fillFlushes(bench, key, what);
  const run = await drainOnce(bench, filled, ONE);
  await bench.source.client().del(key);
  return run;
}
