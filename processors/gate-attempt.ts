import type { GateItem } from '../src/journal/item.ts';
import type { Batch } from '../src/target/plan.ts';
import type { FenceValues } from '../src/target/session.ts';

/** `failed`: it has executed, and its lanes are stopped behind it. */
export type GateEnd = 'executed' | 'failed' | 'already executed' | 'waiting' | 'claimed' | 'stopped' | 'void';

/** One process' try at one gate. */
export interface Attempt {
  readonly item: GateItem;
  readonly journalId: string;
  readonly generation: string;
  readonly signal: AbortSignal;
  readonly skips: Set<number>;
  readonly owner: string;
  /** Key of the claim on the gate. */
  readonly claim: string;
  /** Until then the gates directly behind it are tried as well. */
  readonly aheadUntilMs: number;
  /** When stops, skips and pauses were looked at. */
  readonly openedAtMs: number;
  paused: boolean;
  /** An EXEC of ours found that a watched key had changed. */
  fenced: boolean;
  /** A flush that was sent alone, from here, and has run. */
  flushed: Batch | undefined;
  /** The gate's fence, set with the EXEC of the gate before it. */
  fence: Promise<FenceValues> | undefined;
  /** The gate before it, executed from here, while it is accounted for. */
  before: Promise<unknown> | undefined;
}
