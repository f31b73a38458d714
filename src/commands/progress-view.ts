import type { PipelineStatus, SnapshotStatus } from '../status.ts';
import { formatCount, formatDuration } from './format.ts';
import { snapshotText, type ViewOptions } from './status-view.ts';

/** Older samples weigh less; after this long a past rate is forgotten to a third. */
const SMOOTHING_MS = 5_000;

export interface Progress {
  /** Commands applied since the meter began. */
  readonly applied: number;
  readonly commandsPerSecond: number;
  readonly lagEntries: number;
  /** undefined while the lag does not shrink. */
  readonly msLeft: number | undefined;
  /** While a full sync or a copy is under way. */
  readonly snapshot: SnapshotStatus | undefined;
}

/** Turns the statuses of one `run --until caught-up` into rates. */
export class ProgressMeter {
  #appliedBefore: number | undefined;
  #last: PipelineStatus | undefined;
  #commandsPerMs: number | undefined;
  #entriesPerMs: number | undefined;

  /** `appliedBefore`: commands that had been applied when the run began; default: those of the first status. */
  constructor(appliedBefore?: number) {
    this.#appliedBefore = appliedBefore;
  }

  update(status: PipelineStatus): Progress {
    this.#appliedBefore ??= status.counters.applied;
    const last = this.#last;
    const ms = last === undefined ? 0 : status.time - last.time;
    if (last !== undefined && ms > 0) {
      const commands = Math.max(0, status.counters.applied - last.counters.applied);
      this.#commandsPerMs = smooth(this.#commandsPerMs, commands / ms, ms);
      this.#entriesPerMs = smooth(this.#entriesPerMs, (last.lagEntries - status.lagEntries) / ms, ms);
    }
    if (last === undefined || ms > 0) this.#last = status;
    return {
      applied: Math.max(0, status.counters.applied - this.#appliedBefore),
      commandsPerSecond: (this.#commandsPerMs ?? 0) * 1000,
      lagEntries: status.lagEntries,
      msLeft: timeLeft(status.lagEntries, this.#entriesPerMs ?? 0),
      snapshot:
        status.source.snapshot?.phase === 'streaming' ? undefined : (status.source.snapshot ?? undefined),
    };
  }
}

function smooth(before: number | undefined, sample: number, ms: number): number {
  if (before === undefined) return sample;
  const weight = Math.exp(-ms / SMOOTHING_MS);
  return before * weight + sample * (1 - weight);
}

function timeLeft(lagEntries: number, entriesPerMs: number): number | undefined {
  if (lagEntries === 0) return 0;
  return entriesPerMs > 0 ? lagEntries / entriesPerMs : undefined;
}

/** One line that fits the terminal, to be drawn over itself. */
export function renderProgress(progress: Progress, options: ViewOptions): string {
  const { applied, commandsPerSecond, lagEntries, msLeft, snapshot } = progress;
  const left = msLeft === undefined ? 'time left not known' : `${formatDuration(msLeft)} left`;
  const parts = [
    `${formatCount(applied)} commands applied`,
    `${formatCount(commandsPerSecond)} commands/s`,
    ...(snapshot === undefined
      ? [`${formatCount(lagEntries)} entries to go`, left]
      : [snapshotText(snapshot)]),
  ];
  const line = parts.join(options.colour ? ' · ' : ', ');
  return line.length <= options.width ? line : line.slice(0, Math.max(0, options.width));
}
