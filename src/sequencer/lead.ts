// What stands directly in front of a gate, in the lanes of the gate, and is little, joins the gate: a lane that applies one
// command and then meets the others pays a transaction of its own for it. It keeps its seq and its lane, by which it
// is judged like any command of a segment.

import { RespScanner } from '../binlog/resp.ts';
import { readIndex } from '../journal/item.ts';
import type { BatchBuilder } from './batch-builder.ts';
import type { Origin } from './command-list.ts';

export interface LeadCommand {
  readonly origin: Origin;
  readonly start: number;
  readonly end: number;
  readonly seq: number;
  /** Belongs to the same MULTI ... EXEC as the one before it. */
  readonly tied: boolean;
  readonly lane: number;
}

const NOTHING = Buffer.alloc(0);
const scanner = new RespScanner();

/** Empties the open batches of `lanes`. What they held, in the order of the log; the bytes are those of `taken`. */
export function takeLead(
  batches: readonly BatchBuilder[],
  lanes: readonly number[],
): { readonly lead: LeadCommand[]; readonly taken: Buffer[] } {
  const lead: LeadCommand[] = [];
  const taken: Buffer[] = [];
  for (const lane of lanes) {
    const batch = batches[lane] as BatchBuilder;
    if (batch.count === 0) continue;
    const { timeMs, deadlineMs, first, db } = batch;
    const index = readIndex(batch.index.take(), first);
    const buffer = batch.takeCommands();
    taken.push(buffer);
    scanner.reset(buffer);
    let origin: Origin = { buffer, db, timeMs, deadlineMs };
    let behindSelect: boolean | undefined;
    for (const { seq, inserted, continues } of index) {
      scanner.next();
      if (inserted) {
        // The gate's batch puts in its own.
        origin = { ...origin, db: Number(scanner.arg(1).toString('latin1')) };
        behindSelect = continues;
        continue;
      }
      const { start, end } = scanner;
      lead.push({ origin, start, end, seq, tied: behindSelect ?? continues, lane });
      behindSelect = undefined;
    }
  }
  scanner.reset(NOTHING);
  return { lead: lead.sort((one, other) => one.seq - other.seq), taken };
}
