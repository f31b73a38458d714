import type { GateItem } from '../src/journal/item.ts';
import type { Batch } from '../src/target/plan.ts';

/** One process' try at one gate. */
export interface Attempt {
  readonly item: GateItem;
  readonly journalId: string;
  readonly generation: string;
  readonly signal: AbortSignal;
  readonly skips: Set<number>;
  readonly owner: string;
  paused: boolean;
  /** An EXEC of ours found that a watched key had changed. */
  fenced: boolean;
  /** A flush that was sent alone, from here, and has run. */
  flushed: Batch | undefined;
}
