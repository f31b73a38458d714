// How the low-water mark moves: what is decided, without the reading and writing (processors/mark.ts). Pure.

import type { ResumePoint, Snapshot } from '../journal/journal.ts';
import { lowWaterMark } from '../journal/mark.ts';
import type { Mark } from '../target/control.ts';
import { checkpointSeqs, controlState, type Values } from './control-state.ts';

export interface MarkBase {
  readonly mark: Mark;
  readonly checkpoints: readonly number[];
}

/**
 * What a mark can be computed from: control keys that are whole and of this journal. `values`: identity, mark, and the
 * checkpoints of the lanes in force.
 */
export function markBase(
  inForce: { readonly id: string; readonly generation: string },
  values: Values,
): MarkBase | undefined {
  const state = controlState(values);
  if (state.kind !== 'known') return undefined;
  const { identity, mark } = state;
  if (identity.journal !== inForce.id || identity.generation !== inForce.generation) return undefined;
  const checkpoints = checkpointSeqs(values.slice(2), inForce.generation);
  if (checkpoints.includes(undefined)) return undefined;
  return { mark, checkpoints: checkpoints as number[] };
}

/** The seq that the mark may move up to; undefined when it stays. */
export function markReach(base: MarkBase, snapshot: Pick<Snapshot, 'head' | 'views'>): number | undefined {
  const reached = lowWaterMark(snapshot.head, snapshot.views, base.checkpoints);
  return reached === undefined || reached <= base.mark.mark ? undefined : reached;
}

/** `resume`: where the source can be resumed at or before `reached`. */
export function nextMark(
  base: MarkBase,
  reached: number,
  resume: ResumePoint | undefined,
  timeMs: number,
): Mark | undefined {
  // A journal that fell back between the two looks (its Redis lost a second) knows older positions only.
  if (resume === undefined || resume.seq < base.mark.seq) return undefined;
  const { position, seq, tails } = resume;
  return { generation: base.mark.generation, mark: reached, position, seq, tails: [...tails], timeMs };
}
