// How a generation follows another: what is decided, without the reading and writing (processors/generation.ts). Pure.
//
// Numbers go on above everything that was used, in the journal or at the target; the new generation's checkpoints, mark
// and tails all stand there.

import { encodeCommand } from '../binlog/resp.ts';
import type { LaneView } from '../journal/mark.ts';
import {
  type ControlKeys,
  type Identity,
  type Mark,
  parseCheckpoint,
  parseIdentity,
} from '../target/control.ts';
import { type ControlWrite, controlWrites, type Values } from './control-state.ts';

type Checkpoints = readonly (number | undefined)[];

export interface RaiseTo {
  readonly lanes: number;
  readonly routing: string;
  readonly generation: string;
  readonly journal: string;
}

/** Where reading goes on, and up to which seq the journal has used numbers. */
export interface RaiseAt {
  readonly head: number;
  readonly position: string;
  readonly headTimeMs: number;
}

export interface Raised {
  readonly identity: Identity;
  readonly mark: Mark;
}

/** Lanes that hold a new mapping back. */
export function undrained(
  snapshot: { readonly head: number; readonly views: readonly LaneView[] },
  checkpoints: Checkpoints,
): number[] {
  return (
    snapshot.views
      // Above the head: applied, and not read again yet since the journal was made anew. Its position is not where that ends.
      .filter(
        ({ lane, tail }) => (checkpoints[lane] ?? -1) < tail || (checkpoints[lane] ?? 0) > snapshot.head,
      )
      .map((view) => view.lane)
  );
}

export function raised(identity: Identity, at: RaiseAt, checkpoints: Checkpoints, to: RaiseTo): Raised {
  const seq = Math.max(at.head, ...checkpoints.map((checkpoint) => checkpoint ?? 0));
  const { generation } = to;
  const tails = Array.from({ length: to.lanes }, () => seq);
  return {
    identity: { ...identity, ...to },
    mark: { generation, mark: seq, position: at.position, seq, tails, timeMs: at.headTimeMs },
  };
}

/** `values`: those of all control keys, as the EXEC is fenced on them. */
export function stillUnraised(values: Values, identity: Identity, checkpoints: Checkpoints): boolean {
  if (parseIdentity(values[0] ?? '')?.journal !== identity.journal) return false;
  const now = values.slice(2, 2 + identity.lanes).map((value) => parseCheckpoint(value ?? '')?.seq);
  return now.every((seq, lane) => seq === checkpoints[lane]);
}

/** What the EXEC does: checkpoints of lanes that are no more go, everything else is written. */
export function raiseWrites(
  control: ControlKeys,
  before: Identity,
  next: Raised,
): { parts: Buffer[]; sets: ControlWrite[] } {
  const gone = control.checkpoints(before.lanes).slice(next.identity.lanes);
  return {
    parts: gone.length === 0 ? [] : [encodeCommand(['DEL', ...gone])],
    sets: controlWrites(control, next, next.mark.seq),
  };
}
