import type { RoundLimits } from './round-builder.ts';
import type { Poison } from './unit.ts';

export interface SequencerLimits extends RoundLimits {
  readonly roundBytesMax: number;
  /** A MULTI ... EXEC. */
  readonly transactionBytesMax: number;
  /** A single command; any without it. */
  readonly commandBytesMax?: number;
}

/** A MULTI ... EXEC above --transaction-bytes, under the number of its MULTI: half of a transaction is none. */
export function transactionTooLarge(seq: number, position: string, max: number): Poison {
  return {
    seq,
    code: 'TRANSACTION_TOO_LARGE',
    command: 'MULTI',
    key: null,
    reason: `a MULTI ... EXEC of more than ${max} bytes (--transaction-bytes takes a larger one)`,
    position,
    // Up to its end, which is not reached yet.
    bytes: Buffer.alloc(0),
  };
}

/** What the journal's server would not take in one value. */
export function commandTooLarge(bytes: number, max: number): { code: string; reason: string } {
  const reason = `a command of ${bytes} bytes, and more than ${max} bytes do not fit into one item of the journal (512 MiB, what Redis takes as one value, less the larger of --round-bytes and --segment-bytes)`;
  return { code: 'COMMAND_TOO_LARGE', reason };
}
