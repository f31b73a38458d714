// How cost grows: one table, and the same figures drawn.

import { markdownTable, mib, of, pair, peaks, rate, thousands } from './format.ts';
import type { Growth, GrowthPoint } from './growth.ts';
import { type Chart, plot } from './plot.ts';

const HEAD = [
  ...['what', 'rate', 'MiB/s', 'of the ceiling', 'CPU per command, us: workers / queue'],
  ...['peak RSS, MiB: worker / queue', 'one command at a time, p50 / p99'],
];

export function growthLines(growth: Growth): string[] {
  const { commands, runs, seconds, backlog } = growth;
  const rows = axesOf(growth).flatMap(({ title, points }) =>
    points.map((point) => cellsOf(`${title}: ${point.label}`, point)),
  );
  return [
    `- ${commands} commands of 100 bytes where nothing else is said; medians of ${runs}; all of it took ${seconds.toFixed(0)} s`,
    '',
    ...markdownTable(HEAD, rows),
    '',
    `A backlog of ${mib(backlog.bytes)} MiB (values of 1 KiB) drains at ${rate(backlog.perSecond)}, ${mib(backlog.bytesPerSecond)} MiB/s;`,
    `peak RSS, MiB: ${peaks(backlog.peakRssBytes)} (used_memory_peak ${mib(backlog.queueUsedPeakBytes)}).`,
  ];
}

export function growthPlot(growth: Growth): string {
  const charts = axesOf(growth).map(
    ({ title, points }): Chart => ({
      title,
      points: points.map(({ label, perSecond, ceilingPerSecond }) => ({
        label,
        value: perSecond / ceilingPerSecond,
        note: perSecond < 10_000 ? `${perSecond.toFixed(0)}/s` : `${thousands(perSecond)} k/s`,
      })),
    }),
  );
  return plot('How the rate of a drain changes', 'share of the ceiling of redis-benchmark', charts);
}

function axesOf({ lanes, workers, values, pipelines }: Growth) {
  return [
    { title: 'lanes', points: lanes },
    { title: 'worker processes', points: workers },
    { title: 'bytes of a value', points: values },
    { title: 'pipelines on one queue', points: pipelines },
  ];
}

function cellsOf(what: string, point: GrowthPoint): string[] {
  const { perSecond, bytesPerSecond, ceilingPerSecond, workersUsPerCommand, queueUsPerCommand } = point;
  return [
    what,
    rate(perSecond),
    mib(bytesPerSecond),
    of(perSecond, ceilingPerSecond),
    `${workersUsPerCommand.toFixed(2)} / ${queueUsPerCommand.toFixed(2)}`,
    `${mib(point.workerRssBytes)} / ${mib(point.queueRssBytes)}`,
    point.single === undefined ? '' : pair(point.single),
  ];
}
