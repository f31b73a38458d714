// A gate with a FLUSHDB or FLUSHALL at a target that runs it alone in a MULTI only (Pika): it cannot write the control keys
// again in the same EXEC. What is decided, without the reading and writing (processors/flush-gate.ts). Pure.
//
//   record   what the control keys are, and under which sentinel the flush will run, goes into the journal
//   place    SET sentinel at the target, and all control keys as they are, fenced on their standing as recorded. So whoever
//            fenced before that is fenced off; whoever writes identity or mark later reads the sentinel along, and waits
//   flush    FLUSHDB alone, fenced on the sentinel and on all control keys standing as recorded
//   restore  the control keys are written from the record, the checkpoints at the gate's seq
//   done     the record goes
//
// After a crash the target says how far it came: recorded and the sentinel there: not flushed. Recorded, the sentinel gone
// and the control keys with it: flushed; only they are missing. Between these two the target has none, and that means
// "a gate is under way" to everybody, where it otherwise means "stop". A FLUSHDB that is sent twice in between (by a
// process that was held up) erases nothing: nobody applies anything before the checkpoints are back (I3, I4).

import { randomBytes } from 'node:crypto';
import type { FlushIntent } from '../journal/flush-intent.ts';
import type { GateItem } from '../journal/item.ts';
import { type ControlKeys, formatCheckpoint, parseCheckpoint, parseIdentity } from '../target/control.ts';
import type { ControlWrite, Values } from './control-state.ts';

export type FlushStep = 'record' | 'place' | 'flush' | 'restore' | 'done' | 'foreign';

/** Keys to watch: the sentinel and behind it everything that the flush erases. */
export function flushFence(control: ControlKeys, lanes: number): string[] {
  return [control.sentinel, ...control.all(lanes)];
}

export function lanesOf(intent: FlushIntent): number {
  return intent.before.length - 2;
}

/** How far the recorded flush has come. `values`: those of `flushFence`. */
export function flushStep(intent: FlushIntent, values: Values): FlushStep {
  const [sentinel, ...control] = values;
  if (control.every((value) => value === null)) return sentinel === null ? 'restore' : 'foreign';
  const identity = parseIdentity(control[0] ?? '');
  if (identity === undefined) return 'foreign';
  const reached = control.slice(2).map((value) => parseCheckpoint(value ?? ''));
  const isPast = reached.every((ck) => ck?.generation === intent.generation && ck.seq >= intent.gate);
  if (identity.generation !== intent.generation || isPast) return 'done';
  if (control.some((value, at) => value !== intent.before[at])) return 'record';
  return sentinel === intent.sentinel ? 'flush' : 'place';
}

/** What to record for a gate at whose markers all lanes stand; undefined when that is not so. */
export function flushIntent(
  item: GateItem,
  command: FlushIntent['command'],
  values: Values,
): FlushIntent | undefined {
  const before = values.slice(1);
  if (before.some((value) => typeof value !== 'string')) return undefined;
  if (parseIdentity(before[0] ?? '')?.generation !== item.generation) return undefined;
  const stands = item.lanes.every((lane, at) => {
    const ck = parseCheckpoint(before[2 + lane] ?? '');
    return ck?.generation === item.generation && ck.seq >= (item.previous[at] ?? 0) && ck.seq < item.seq;
  });
  if (!stands || item.lanes.length !== before.length - 2) return undefined;
  const sentinel = `${item.generation}:${item.seq}:${randomBytes(8).toString('hex')}`;
  return { generation: item.generation, gate: item.seq, sentinel, command, before: before as string[] };
}

/**
 * The sentinel, and the control keys as they stand: written once more they break every fence that was opened before, also
 * those of whoever writes identity or mark (a flush inside EXEC breaks none at a Pika).
 */
export function placeWrites(control: ControlKeys, intent: FlushIntent): ControlWrite[] {
  const standing = control
    .all(lanesOf(intent))
    .map((key, at): ControlWrite => [key, intent.before[at] as string]);
  return [[control.sentinel, intent.sentinel], ...standing];
}

/** The control keys behind the gate. */
export function restoreWrites(control: ControlKeys, intent: FlushIntent): ControlWrite[] {
  const { generation, gate, before } = intent;
  return control.all(lanesOf(intent)).map((key, at): ControlWrite => {
    if (at < 2) return [key, before[at] as string];
    return [key, formatCheckpoint({ generation, seq: gate })];
  });
}
