// What became slower than a stored run. Two machines, or one at two times, do not have the same speed: every figure is
// set against the ceiling of its own run. A rate is divided by it; a time is multiplied by it, which makes it the number
// of commands that redis-benchmark writes meanwhile. What has no ceiling in both runs is not compared.

import { ownCpuUs } from './figures.ts';
import type { GrowthPoint } from './growth.ts';
import type { Results } from './results.ts';

/** Less than this is noise. */
const TOLERANCE = 0.05;
/** For a figure that only one run stands behind, or whose runs of now and then overlap. */
const DOUBT = 0.15;

interface Figure {
  readonly kind: 'rate' | 'time';
  /** Of all runs that were made, for rates: the report's figure is their median. */
  readonly value: number;
  readonly runs: readonly number[];
  readonly ceiling: number;
}

export interface Change {
  readonly what: string;
  /** As ratios to the ceiling of their own run. */
  readonly before: number;
  readonly now: number;
  /** Above 1: now is better. */
  readonly speed: number;
  readonly verdict: 'slower' | 'perhaps slower' | 'same' | 'faster';
}

/** In the order of the report. */
export function compare(before: Results, now: Results): Change[] {
  const old = figuresOf(before);
  const changes: Change[] = [];
  for (const [what, figure] of figuresOf(now)) {
    const then = old.get(what);
    if (then !== undefined) changes.push(changeOf(what, then, figure));
  }
  return changes;
}

/** As lines for people, what is slower first. */
export function shownChanges(file: string, changes: readonly Change[]): string[] {
  if (changes.length === 0)
    return [`nothing to compare with ${file}: no part, with its ceiling, is in both runs`];
  const order = ['slower', 'perhaps slower', 'same', 'faster'] as const;
  const sorted = [...changes].sort((a, b) => order.indexOf(a.verdict) - order.indexOf(b.verdict));
  const slower = changes.filter(({ verdict }) => verdict === 'slower').length;
  return [
    `against ${file}, as ratios to the ceiling of each run; ${slower} of ${changes.length} became slower`,
    ...sorted.map(
      ({ what, before, now, speed, verdict }) =>
        `  ${verdict.padEnd(14)}  ${speed.toFixed(2)} x  ${what}: ${digits(before)} -> ${digits(now)}`,
    ),
  ];
}

function changeOf(what: string, before: Figure, now: Figure): Change {
  const [was, is] = [ratio(before, before.value), ratio(now, now.value)];
  const speed = now.kind === 'rate' ? is / was : was / is;
  return { what, before: was, now: is, speed, verdict: verdictOf(before, now, speed) };
}

function verdictOf(before: Figure, now: Figure, speed: number): Change['verdict'] {
  if (speed >= 1 - TOLERANCE) return speed > 1 + TOLERANCE ? 'faster' : 'same';
  const [was, is] = [before, now].map((figure) => figure.runs.map((run) => ratio(figure, run)));
  const areMany = before.runs.length > 1 && now.runs.length > 1;
  if (areMany && Math.max(...(is ?? [])) < Math.min(...(was ?? []))) return 'slower';
  if (!areMany) return speed < 1 - DOUBT ? 'slower' : 'perhaps slower';
  return speed < 1 - DOUBT ? 'perhaps slower' : 'same';
}

function ratio({ kind, ceiling }: Figure, value: number): number {
  return kind === 'rate' ? value / ceiling : value * ceiling;
}

function figuresOf(results: Results): Map<string, Figure> {
  const figures = new Map<string, Figure>();
  const growth = results.growth;
  for (const [axis, points] of [
    ['lanes', growth?.lanes],
    ['worker processes', growth?.workers],
    ['values of', growth?.values],
    ['pipelines', growth?.pipelines],
  ] as const)
    for (const point of points ?? []) figures.set(`growth, ${axis} ${point.label}`, pointFigure(point));
  const ceiling = results.ceiling?.perSecond;
  if (ceiling === undefined) return figures;
  const rate = (what: string, value: number, runs: readonly number[]) =>
    figures.set(what, { kind: 'rate', value, runs, ceiling });
  // A store of an older bench has fewer figures.
  const time = (what: string, seconds: number | undefined) => {
    if (seconds !== undefined) figures.set(what, { kind: 'time', value: seconds, runs: [seconds], ceiling });
  };
  for (const [what, drained] of [
    ['drain, 1 worker', results.drain?.oneWorker],
    ['drain, 2 workers', results.drain?.twoWorkers],
    ['drain, ingest and lanes apart', results.byRole],
    ['plain SETs', results.mix?.plain],
    ['mix with 1 % crossing commands', results.mix?.onePercent],
    ['mix with 30 % crossing commands', results.mix?.thirtyPercent],
    ['live: full', results.full],
    ['live: incremental', results.incremental],
    ['live: drain', results.pause],
  ] as const) {
    if (drained === undefined) continue;
    rate(what, drained.median.perSecond, drained.perSecondOfRuns);
    time(`${what}, CPU of lanegate and its queue`, ownCpuUs(drained.median.cpuUsPerCommand) / 1e6);
  }
  for (const { perSecond, spread } of results.latency ?? []) {
    // Under another load it is another figure.
    const visible = `XADD to visible at ${Math.round(perSecond / 1000)} k/s`;
    time(`${visible}, p50`, seconds(spread.p50Ms));
    time(`${visible}, p99`, seconds(spread.p99Ms));
  }
  time('one gate, p50', seconds(results.gates?.closed.p50Ms));
  return figures;
}

function pointFigure({ perSecond, perSecondOfRuns, ceilingPerSecond }: GrowthPoint): Figure {
  return { kind: 'rate', value: perSecond, runs: perSecondOfRuns, ceiling: ceilingPerSecond };
}

function seconds(ms: number | undefined): number | undefined {
  return ms === undefined ? undefined : ms / 1000;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(2);
}
