// From XADD to visible at the target, under a steady load. The load is single-command entries; every 10 ms a probe is
// among them. The bench's own event loop and BLPOP's way back are in the figures: `floor` says how much they are.

import { setTimeout as delay } from 'node:timers/promises';
import { type Spread, spreadOf } from './figures.ts';
import { Probe } from './probe.ts';
import { say } from './say.ts';
import { type Bench, KEYSPACE } from './support.ts';

/** Commands a second: a common load, and a high one. */
export const RATES = [2_000, 5_000] as const;
const WARM_UP_MS = 2_000;
const MEASURED_MS = 10_000;
const PROBE_EVERY_MS = 10;
const FLOOR_PROBES = 200;
const VALUE = 'x'.repeat(100);

export interface Latency {
  /** Commands a second that were really appended. */
  readonly perSecond: number;
  readonly spread: Spread;
  readonly floor: Spread;
}

export async function latencyOnce(bench: Bench, ratePerSecond: number): Promise<Latency> {
  const key = 'binlog-latency';
  await bench.source.client().del(key);
  await using pipeline = await bench.pipeline(key);
  pipeline.startWorker({ label: 'worker' });
  await pipeline.untilReady();
  await using probe = new Probe(pipeline);
  const floor: number[] = [];
  for (let i = 0; i < FLOOR_PROBES; i++) floor.push(await probe.floor());
  await load(probe, ratePerSecond, WARM_UP_MS);
  const { latencies, appended, ms } = await load(probe, ratePerSecond, MEASURED_MS);
  const result = { perSecond: (appended / ms) * 1000, spread: spreadOf(latencies), floor: spreadOf(floor) };
  say(
    `latency at ${ratePerSecond} commands/s: p50 ${result.spread.p50Ms.toFixed(2)} ms, p99 ${result.spread.p99Ms.toFixed(2)} ms`,
  );
  await bench.source.client().del(key);
  return result;
}

/** Probes count as part of the load. */
async function load(
  probe: Probe,
  ratePerSecond: number,
  forMs: number,
): Promise<{ latencies: number[]; appended: number; ms: number }> {
  const startedMs = performance.now();
  const waiting: Promise<number>[] = [];
  let appended = 0;
  let elapsedMs = 0;
  while (elapsedMs < forMs) {
    while (waiting.length * PROBE_EVERY_MS <= elapsedMs) {
      waiting.push(probe.probe());
      appended++;
    }
    while (appended < (elapsedMs / 1000) * ratePerSecond) {
      probe.append([['SET', `key:${Math.floor(Math.random() * KEYSPACE)}`, VALUE]]);
      appended++;
    }
    await delay(1);
    elapsedMs = performance.now() - startedMs;
  }
  return { latencies: await Promise.all(waiting), appended, ms: elapsedMs };
}
