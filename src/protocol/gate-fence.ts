// What a gate's EXEC is fenced on, and what it writes: decided here, sent by processors/gate.ts. Pure.
//
// FLUSHALL and FLUSHDB erase the control keys, SWAPDB moves them away and others' in: a gate with such a command is fenced
// on identity and mark as well, and puts all of them back in the same EXEC.

import { encodeCommand } from '../binlog/resp.ts';
import type { GateItem } from '../journal/item.ts';
import { selectCommand } from '../sequencer/batch-builder.ts';
import { type ControlKeys, formatCheckpoint, parseCheckpoint } from '../target/control.ts';
import { type Batch, type GatePlan, planGate } from '../target/plan.ts';
import type { ControlWrite, Values } from './control-state.ts';

/** Keys to watch: the checkpoints of the gate's lanes, and behind them what it erases. */
export function gateFence(control: ControlKeys, item: GateItem): string[] {
  const held = item.erases ? [control.identity, control.mark] : [];
  return [...item.lanes.map((lane) => control.checkpoint(lane)), ...held];
}

/** Plans with the values of the watched keys. */
export function planFenced(
  item: GateItem,
  values: Values,
  db: number,
  limits: Parameters<typeof planGate>[3],
): GatePlan | { readonly kind: 'control keys gone' } {
  const checkpoints = item.lanes.flatMap((_, at) => parseCheckpoint(values[at] ?? '') ?? []);
  const held = values.slice(item.lanes.length);
  if (checkpoints.length < item.lanes.length || held.some((value) => typeof value !== 'string'))
    return { kind: 'control keys gone' };
  return planGate(item, checkpoints, db, limits);
}

/** Ends the batch so that it leaves the control keys as they must be; returns what is set behind it. */
export function gateWrites(
  control: ControlKeys,
  item: GateItem,
  values: Values,
  batch: Batch,
  through: number,
): ControlWrite[] {
  const { generation } = item;
  const sets = item.lanes.map((lane, at): ControlWrite => {
    const before = parseCheckpoint(values[at] ?? '')?.seq ?? 0;
    return [control.checkpoint(lane), formatCheckpoint({ generation, seq: Math.max(before, through) })];
  });
  if (!item.erases) return sets;
  for (const db of item.swapped) {
    batch.parts.push(selectCommand(db), encodeCommand(['DEL', ...control.all(item.lanes.length)]));
    batch.count += 2;
    batch.dbLast = db;
  }
  const [identity, mark] = values.slice(item.lanes.length);
  sets.push([control.identity, String(identity)], [control.mark, String(mark)]);
  return sets;
}
