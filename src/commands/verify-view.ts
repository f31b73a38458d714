import { KINDS } from '../verify/look.ts';
import type { VerifyProgress, VerifyResult } from '../verify/verify.ts';
import { escapeControl, formatCount, formatDuration } from './format.ts';

/** Older samples weigh less; after this long a past rate is forgotten to a third. */
const SMOOTHING_MS = 5_000;
const MEANING = {
  missing: 'at the source only',
  extra: 'at the target only',
  type: 'another type (source / target)',
  ttl: 'another TTL (source / target)',
  value: 'another value',
} as const;

export interface VerifyReport extends VerifyResult {
  readonly seconds: number;
}

/** How fast the scans go, and how long they will take. */
export class ScanMeter {
  #last: { readonly atMs: number; readonly done: number } | undefined;
  #keysPerMs: number | undefined;

  update({ done }: VerifyProgress, nowMs: number): number {
    const last = this.#last;
    const ms = last === undefined ? 0 : nowMs - last.atMs;
    if (last !== undefined && ms > 0) {
      const sample = Math.max(0, done - last.done) / ms;
      const weight = this.#keysPerMs === undefined ? 0 : Math.exp(-ms / SMOOTHING_MS);
      this.#keysPerMs = (this.#keysPerMs ?? 0) * weight + sample * (1 - weight);
    }
    if (last === undefined || ms > 0) this.#last = { atMs: nowMs, done };
    return (this.#keysPerMs ?? 0) * 1000;
  }
}

/** `41 %, 1,200,000 keys scanned, 250,000 keys/s, 7 s left, 3 differ so far` */
export function progressText(progress: VerifyProgress, keysPerSecond: number): string {
  const { phase, done, total, candidates, round } = progress;
  const differ = candidates === 0 ? [] : [`${formatCount(candidates)} differ so far`];
  if (phase === 'looking again') return [`round ${round}`, ...differ].join(', ');
  const percent = total === 0 ? 100 : Math.floor((done / total) * 100);
  const left =
    keysPerSecond === 0
      ? 'time left not known'
      : `${formatDuration(((total - done) / keysPerSecond) * 1000)} left`;
  const rate = `${formatCount(keysPerSecond)} keys/s`;
  return [`${percent} %`, `${formatCount(done)} keys scanned`, rate, left, ...differ].join(', ');
}

/** A table for people; keys are escaped, values are not in it. */
export function renderReport(report: VerifyReport, sample: number): string {
  const { keys, compared, equal, differences, first, rounds, seconds } = report;
  const total = KINDS.reduce((sum, kind) => sum + differences[kind], 0);
  const some = sample < 1 ? ` (a sample of ${sample})` : '';
  const lines = [
    `${formatCount(keys)} keys at the source, ${formatCount(compared)} compared${some} in ${formatDuration(seconds * 1000)}`,
    `  ${'equal'.padEnd(8)} ${formatCount(equal).padStart(12)}`,
    ...KINDS.map(
      (kind) => `  ${kind.padEnd(8)} ${formatCount(differences[kind]).padStart(12)}  ${MEANING[kind]}`,
    ),
  ];
  if (total > 0) {
    const width = Math.min(48, Math.max(...first.map(({ key }) => key.length)));
    lines.push(
      '',
      `the first ${formatCount(first.length)} of ${formatCount(total)}, in each of ${rounds} rounds:`,
    );
    for (const { db, key, kind, detail } of first)
      lines.push(
        `  db ${String(db).padEnd(3)} ${key.padEnd(width)}  ${kind.padEnd(8)} ${escapeControl(detail)}`,
      );
  }
  lines.push(total === 0 ? 'both sides are equal' : `both sides differ in ${formatCount(total)} keys`, '');
  return lines.join('\n');
}
