// What stands directly in front of a gate, in the lanes of the gate, and is little, joins the gate: a lane that applies one
// command and then meets the others pays a transaction of its own for it. It keeps its seq and its lane, by which it
// is judged like any command of a segment. Where the gate has to wait, its lanes take back what is theirs
// (`leadOfLane`).

import { RespScanner } from '../binlog/resp.ts';
import { type GateItem, type IndexedCommand, itemBytes, type LaneItem, readIndex } from '../journal/item.ts';
import { BatchBuilder } from './batch-builder.ts';
import { BufferPool } from './buffer-pool.ts';
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
    for (const command of placed({ buffer, db, timeMs, deadlineMs }, index)) lead.push({ ...command, lane });
  }
  return { lead: lead.sort((one, other) => one.seq - other.seq), taken };
}

/**
 * What joined `gate` from this lane and is not applied, as a batch in front of its marker: a gate that waits for another lane
 * must not hold it back. Undefined if there is nothing.
 */
export function leadOfLane(
  gate: GateItem,
  lane: number,
  marker: LaneItem,
  checkpoint: number,
): LaneItem | undefined {
  const { generation, timeMs, deadlineMs, commands: buffer } = gate;
  const batch = new BatchBuilder('lane', new BufferPool());
  for (const command of placed({ buffer, db: gate.db, timeMs, deadlineMs }, readIndex(gate.index, 'gate'))) {
    const { origin, start, end, seq, tied, lanes } = command;
    // From the first one that crosses on, everything waits for the gate.
    if (lanes?.length !== 1) break;
    if (lanes[0] === lane && seq > checkpoint) batch.add(origin, start, end, seq, tied);
  }
  if (batch.count === 0) return undefined;
  const { first, last, count, db, dbLast, dbMax } = batch;
  const { previous, bytesBefore } = marker;
  const what = { kind: 'batch', generation, seq: last, previous, first, count, db, dbLast, dbMax } as const;
  const bytes = { index: batch.index.take(), commands: batch.takeCommands() };
  // In the lane's log it weighs nothing.
  return { ...what, timeMs, deadlineMs, ...bytes, bytesBefore: bytesBefore - itemBytes(bytes) };
}

/** The commands of an item without the SELECTs that were put in: whoever writes them puts in its own. */
function* placed(start: Origin, index: readonly IndexedCommand[]) {
  const scanner = new RespScanner();
  scanner.reset(start.buffer);
  let origin = start;
  let behindSelect: boolean | undefined;
  for (const { seq, inserted, continues, lanes } of index) {
    scanner.next();
    if (inserted) {
      origin = { ...origin, db: Number(scanner.arg(1).toString('latin1')) };
      behindSelect = continues;
      continue;
    }
    const tied = behindSelect ?? continues;
    behindSelect = undefined;
    yield { origin, start: scanner.start, end: scanner.end, seq, tied, lanes };
  }
}
