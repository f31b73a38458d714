// The results for people: rows of what, figure, ratio to the ceiling of the same run, and the goal.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Drain } from './drain.ts';
import { ownCpuUs } from './figures.ts';
import { cellsOf, costs, markdownTable, mib, ms, of, pair, peaks, type Row, rate } from './format.ts';
import type { Gates } from './gates.ts';
import type { Machine } from './machine.ts';
import { growthLines, growthPlot } from './report-growth.ts';
import { hasLive, liveRows } from './report-live.ts';
import type { Results } from './results.ts';

/** Each block stands between its markers, and is written by a run that measured something of it. */
const BLOCKS = ['figures', 'live', 'growth'] as const;
const PLOT = 'docs/growth.svg';

function machineLines(results: Results): string[] {
  const {
    cores,
    cpu,
    memoryBytes,
    kernel,
    node,
    redis,
    lanegate,
    loadAtStart,
    startedAt,
    pageFaultUs,
  }: Machine = results.machine;
  const extra = [...results.nodeArgs, ...results.workerArgs].join(' ');
  return [
    `${cores} cores, ${cpu}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB; ${kernel}; Node ${node}; Redis ${redis}`,
    `lanegate ${lanegate}; ${startedAt}; load average at start ${loadAtStart.toFixed(2)}; a fresh page of memory costs ${pageFaultUs.toFixed(1)} us`,
    `${results.commands} commands; medians of ${results.runs}${extra === '' ? '' : `; with ${extra}`}`,
    ...results.failures.map((failure) => `NOT MEASURED: ${failure.split('\n', 1)[0]}`),
  ];
}

function rowsOf(results: Results): Row[] {
  const ceiling = results.ceiling?.perSecond;
  const { drain, byRole, latency, gates, mix } = results;
  const rows = ceilingRows(results);
  if (drain) {
    rows.push(...drainRows('drain, 1 worker', drain.oneWorker, ceiling, '>= 0.65 of the ceiling'));
    if (drain.twoWorkers)
      rows.push(...drainRows('drain, 2 workers', drain.twoWorkers, ceiling, '>= 0.65 of the ceiling'));
  }
  if (byRole) rows.push(...drainRows('drain, ingest and lanes apart', byRole, ceiling, undefined));
  for (const { spread, floor, perSecond } of latency ?? []) {
    const what = `XADD to visible at ${Math.round(perSecond)} commands/s`;
    const goals =
      perSecond > 4_000 ? { p50: '<= 3 ms', p99: '<= 15 ms' } : { p50: '<= 5 ms', p99: '<= 25 ms' };
    rows.push({ what: `${what}, p50`, figure: ms(spread.p50Ms), goal: goals.p50 });
    rows.push({ what: `${what}, p99`, figure: ms(spread.p99Ms), goal: goals.p99 });
    rows.push({ what: "the probe's own share (RPUSH to BLPOP), p50 / p99", figure: pair(floor) });
  }
  if (gates) rows.push(...gateRows(gates));
  if (mix) {
    const plain = mix.plain.median.perSecond;
    const against = (drained: Drain) => `${(drained.median.perSecond / plain).toFixed(2)} of plain`;
    rows.push({
      what: 'plain SETs, as many as in the mixes',
      figure: rate(plain),
      ratio: of(plain, ceiling),
    });
    for (const [share, drained, goal] of [
      ['1 %', mix.onePercent, undefined],
      ['30 %', mix.thirtyPercent, '>= 0.7 of plain'],
    ] as const) {
      const what = `mix with ${share} crossing commands (${drained.median.gates} gates)`;
      const row = { what, figure: rate(drained.median.perSecond), ratio: against(drained) };
      rows.push(goal === undefined ? row : { ...row, goal });
    }
  }
  return rows;
}

function ceilingRows({ ceiling }: Results): Row[] {
  if (ceiling === undefined) return [];
  return [{ what: 'ceiling: redis-benchmark', figure: rate(ceiling.perSecond), ratio: '1' }];
}

function hasFigures({ drain, byRole, latency, gates, mix }: Results): boolean {
  return [drain, byRole, latency, gates, mix].some((one) => one !== undefined);
}

function drainRows(what: string, drain: Drain, ceiling: number | undefined, goal: string | undefined): Row[] {
  const { median, perSecondOfRuns, peakRssBytes } = drain;
  const runs = perSecondOfRuns.map((perSecond) => (perSecond / 1000).toFixed(0)).join(', ');
  const main = {
    what,
    figure: `${rate(median.perSecond)} (runs: ${runs})`,
    ratio: of(median.perSecond, ceiling),
  };
  return [
    goal === undefined ? main : { ...main, goal },
    {
      what: '  first applied to all applied / from process start',
      figure: `${median.seconds.toFixed(2)} s / ${median.secondsFromStart.toFixed(2)} s`,
    },
    { what: '  CPU per command, us', figure: costs(median.cpuUsPerCommand) },
    {
      what: '    of which lanegate and its queue',
      figure: ownCpuUs(median.cpuUsPerCommand).toFixed(2),
      goal: '<= 2.2',
    },
    {
      what: '  peak RSS, MiB',
      figure: `${peaks(peakRssBytes)} (used_memory_peak ${mib(median.queueUsedPeakBytes)})`,
      goal: 'worker <= 250 MB',
    },
  ];
}

function gateRows({ closed, paced, pacedGatesPerSecond, backlog, merged }: Gates): Row[] {
  const paces = paced.map(
    ({ flushesPerSecond, gatesPerSecond, spread }) =>
      `${flushesPerSecond.toFixed(0)}: ${gatesPerSecond.toFixed(0)} (${pair(spread)})`,
  );
  return [
    {
      what: 'gates over 8 lanes, one at a time',
      figure: `${closed.gatesPerSecond.toFixed(0)}/s`,
      goal: '>= 250/s',
    },
    { what: '  one gate, XADD to behind it, p50 / p99', figure: pair(closed), goal: 'p50 <= 5 ms' },
    { what: '  CPU per gate, us', figure: costs(closed.cpuUsPerGate) },
    { what: 'gates, paced: highest pace kept, unmerged', figure: `${pacedGatesPerSecond.toFixed(0)}/s` },
    { what: '  FLUSHDB/s: gates/s (p50 / p99)', figure: paces.join('; ') },
    {
      what: `gates from a backlog, unmerged (${backlog.gates} of ${backlog.flushes})`,
      figure: `${backlog.gatesPerSecond.toFixed(0)}/s`,
    },
    {
      what: `FLUSHDBs from a dense backlog (${merged.flushes} in ${merged.gates} gates)`,
      figure: `${merged.flushesPerSecond.toFixed(0)}/s`,
    },
  ];
}

function table(rows: readonly Row[]): string {
  const cells = [['what', 'figure', 'ratio', 'goal'], ...rows.map(cellsOf)];
  const widths = [0, 1, 2, 3].map((at) => Math.max(...cells.map((row) => (row[at] as string).length)));
  return cells
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] as number))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Everything that was measured, for a terminal. */
export function report(results: Results): string {
  const lines = [...machineLines(results), '', table([...rowsOf(results), ...liveRows(results)])];
  if (results.growth) lines.push('', ...growthLines(results.growth));
  return lines.join('\n');
}

/** Replaces what stands between the markers of BENCHMARKS.md in the folder `root`, and the plot. */
export function writeMarkdown(root: string, results: Results): void {
  const path = join(root, 'BENCHMARKS.md');
  let text = readFileSync(path, 'utf8');
  for (const block of BLOCKS) {
    const lines = blockLines(block, results);
    if (lines === undefined) continue;
    const begin = `<!-- ${block}: written by \`npm run bench -- --write\` -->`;
    const end = `<!-- end of ${block} -->`;
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`${path} has no markers for ${block}`);
    text = `${text.slice(0, from)}${begin}\n\n${lines.join('\n')}\n\n${text.slice(to)}`;
  }
  writeFileSync(path, text);
  if (results.growth) writeFileSync(join(root, PLOT), growthPlot(results.growth));
}

function blockLines(block: (typeof BLOCKS)[number], results: Results): string[] | undefined {
  const machine = machineLines(results).map((line) => `- ${line}`);
  const rowLines = (rows: readonly Row[]) => [
    ...machine,
    '',
    ...markdownTable(['what', 'figure', 'ratio', 'goal'], rows.map(cellsOf)),
  ];
  if (block === 'figures') return hasFigures(results) ? rowLines(rowsOf(results)) : undefined;
  if (block === 'live')
    return hasLive(results) ? rowLines([...ceilingRows(results), ...liveRows(results)]) : undefined;
  if (results.growth === undefined) return undefined;
  return [...machine, ...growthLines(results.growth), '', `![How the rate of a drain changes](${PLOT})`];
}
