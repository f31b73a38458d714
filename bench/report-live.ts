// The rows of live sources: each figure against the ceiling, and against the native replica of the same run.

import { costs, of, peaks, type Row, rate, thousands } from './format.ts';
import type { Replication } from './replication.ts';
import type { Results } from './results.ts';

export function hasLive({ full, incremental, pause }: Results): boolean {
  return [full, incremental, pause].some((one) => one !== undefined);
}

export function liveRows({ ceiling, full, incremental, pause }: Results): Row[] {
  const rows: Row[] = [];
  const against = ceiling?.perSecond;
  if (full) rows.push(...rowsOf('live source: full', 'keys', full, against, '>= 0.6 of native'));
  if (incremental)
    rows.push(
      ...rowsOf('live source: incremental', 'commands', incremental, against, '>= 0.38 of the ceiling'),
    );
  if (pause)
    rows.push(
      ...rowsOf(
        'live source: drain',
        'commands',
        pause,
        against,
        '>= 0.65 of the ceiling, >= 0.55 of native',
      ),
    );
  return rows;
}

function rowsOf(
  what: string,
  unit: string,
  { median, perSecondOfRuns, peakRssBytes, native }: Replication,
  ceiling: number | undefined,
  goal: string,
): Row[] {
  const runs = (all: readonly number[]) => `runs: ${all.map(thousands).join(', ')}`;
  const nativePerSecond = native.median.perSecond;
  const share = `${of(median.perSecond, nativePerSecond)} of native`;
  const toCeiling = (perSecond: number) => of(perSecond, ceiling);
  const rows: Row[] = [
    {
      what,
      figure: `${rate(median.perSecond)} in ${median.seconds.toFixed(2)} s (${runs(perSecondOfRuns)})`,
      ratio: [toCeiling(median.perSecond), share].filter((text) => text !== '').join('; '),
      goal,
    },
    {
      what: '  native REPLICAOF',
      figure: `${rate(nativePerSecond)} in ${native.median.seconds.toFixed(2)} s (${runs(native.perSecondOfRuns)})`,
      ratio: toCeiling(nativePerSecond),
    },
  ];
  const { whileLoading } = median;
  if (whileLoading) {
    const { perSecond, loaderPerSecond } = whileLoading;
    rows.push({
      what: '  while the loading lasts: got by the target, written at the source',
      figure: `${rate(perSecond)}, ${rate(loaderPerSecond)}`,
      ratio: [toCeiling(perSecond), toCeiling(loaderPerSecond)].filter((text) => text !== '').join('; '),
    });
  }
  rows.push(
    { what: `  CPU per ${unit.slice(0, -1)}, us`, figure: costs(median.cpuUsPerCommand) },
    { what: '    native', figure: costs(native.median.cpuUsPerCommand) },
    { what: '  peak RSS, MiB', figure: peaks(peakRssBytes) },
  );
  return rows;
}
