// The results for people: rows of what, figure, ratio to the ceiling of the same run, and the goal.

import { readFileSync, writeFileSync } from 'node:fs';
import type { Drain } from './drain.ts';
import type { Spread } from './figures.ts';
import type { Gates } from './gates.ts';
import type { Machine } from './machine.ts';
import type { Results } from './results.ts';

const BEGIN = '<!-- figures: written by `npm run bench -- --write` -->';
const END = '<!-- end of figures -->';

interface Row {
  readonly what: string;
  readonly figure: string;
  readonly ratio?: string;
  readonly goal?: string;
}

export function machineLines(machine: Machine, results: Results): string[] {
  const { cores, cpu, memoryBytes, kernel, node, redis, lanegate, loadAtStart, startedAt } = machine;
  const extra = [...results.nodeArgs, ...results.workerArgs].join(' ');
  return [
    `${cores} cores, ${cpu}, ${(memoryBytes / 2 ** 30).toFixed(0)} GiB; ${kernel}; Node ${node}; Redis ${redis}`,
    `lanegate ${lanegate}; ${startedAt}; load average at start ${loadAtStart.toFixed(2)}`,
    `${results.commands} commands; medians of ${results.runs}${extra === '' ? '' : `; with ${extra}`}`,
    ...results.failures.map((failure) => `NOT MEASURED: ${failure.split('\n', 1)[0]}`),
  ];
}

export function rowsOf(results: Results): Row[] {
  const ceiling = results.ceiling?.perSecond;
  const { drain, byRole, latency, gates, mix } = results;
  const rows: Row[] = [];
  if (ceiling !== undefined)
    rows.push({ what: 'ceiling: redis-benchmark', figure: rate(ceiling), ratio: '1' });
  if (drain) {
    rows.push(...drainRows('drain, 1 worker', drain.oneWorker, ceiling, '>= 0.5 of the ceiling'));
    if (drain.twoWorkers)
      rows.push(...drainRows('drain, 2 workers', drain.twoWorkers, ceiling, '>= 0.5 of the ceiling'));
  }
  if (byRole) rows.push(...drainRows('drain, ingest and lanes apart', byRole, ceiling, undefined));
  if (latency) {
    const { spread, floor, perSecond } = latency;
    const what = `XADD to visible at ${Math.round(perSecond)} commands/s`;
    rows.push({ what: `${what}, p50`, figure: ms(spread.p50Ms), goal: '<= 5 ms' });
    rows.push({ what: `${what}, p99`, figure: ms(spread.p99Ms), goal: '<= 25 ms' });
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
      ['30 %', mix.thirtyPercent, '>= 0.5 of plain'],
    ] as const) {
      const what = `mix with ${share} crossing commands (${drained.median.gates} gates)`;
      const row = { what, figure: rate(drained.median.perSecond), ratio: against(drained) };
      rows.push(goal === undefined ? row : { ...row, goal });
    }
  }
  return rows;
}

function drainRows(what: string, drain: Drain, ceiling: number | undefined, goal: string | undefined): Row[] {
  const { median, perSecondOfRuns, peakRssBytes } = drain;
  const runs = perSecondOfRuns.map((perSecond) => (perSecond / 1000).toFixed(0)).join(', ');
  const costs = Object.entries(median.cpuUsPerCommand).map(([label, us]) => `${label} ${us.toFixed(2)}`);
  const peaks = Object.entries(peakRssBytes).map(([label, bytes]) => `${label} ${mib(bytes)}`);
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
    { what: '  CPU per command, us', figure: costs.join(', ') },
    {
      what: '  peak RSS, MiB',
      figure: `${peaks.join(', ')} (used_memory_peak ${mib(median.queueUsedPeakBytes)})`,
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
      goal: '>= 100/s',
    },
    { what: '  one gate, XADD to behind it, p50 / p99', figure: pair(closed) },
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

export function table(rows: readonly Row[]): string {
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

/** Replaces what stands between the markers of BENCHMARKS.md. */
export function writeMarkdown(path: string, results: Results): void {
  const text = readFileSync(path, 'utf8');
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
  if (begin < 0 || end < begin) throw new Error(`${path} has no markers for the figures`);
  const rows = rowsOf(results).map((row) => `| ${cellsOf(row).join(' | ')} |`);
  const figures = [
    ...machineLines(results.machine, results).map((line) => `- ${line}`),
    '',
    '| what | figure | ratio | goal |',
    '|---|---|---|---|',
    ...rows,
  ];
  writeFileSync(path, `${text.slice(0, begin)}${BEGIN}\n\n${figures.join('\n')}\n\n${text.slice(end)}`);
}

function cellsOf({ what, figure, ratio = '', goal = '' }: Row): string[] {
  return [what, figure, ratio, goal];
}

function rate(perSecond: number): string {
  return `${(perSecond / 1000).toFixed(perSecond < 10_000 ? 1 : 0)} k/s`;
}

function of(perSecond: number, ceiling: number | undefined): string {
  return ceiling === undefined ? '' : (perSecond / ceiling).toFixed(2);
}

function pair({ p50Ms, p99Ms }: Spread): string {
  return `${p50Ms.toFixed(2)} / ${p99Ms.toFixed(2)} ms`;
}

function ms(value: number): string {
  return `${value.toFixed(2)} ms`;
}

function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}
