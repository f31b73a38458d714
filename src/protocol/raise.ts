// How a generation follows another: what is decided, without the reading and writing (processors/generation.ts). Pure.
//
// Numbers go on above everything that was used, in the journal or at the target; the new generation's checkpoints, mark
// and tails all stand there. That is for people, who then never meet a number twice; safety rests on the generation: a
// checkpoint of another one lets nothing through, whatever the numbers.

import { encodeCommand } from '../binlog/resp.ts';
import type { LaneView } from '../journal/mark.ts';
import { type ControlKeys, type Identity, type Mark, parseIdentity } from '../target/control.ts';
import { type ControlWrite, checkpointSeqs, controlWrites, type Values } from './control-state.ts';

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

/**
 * What a raise rests on: the checkpoints of drained lanes, which must stand where they were read, or those of lanes that
 * may still move. What moves needs no fence: an EXEC of the old generation is itself fenced on a checkpoint that the
 * raise replaces.
 */
export type Standing = Checkpoints | 'moving';

/** Keys that the EXEC is fenced on, and keys that are read along with them. */
export function raiseFence(
  control: ControlKeys,
  lanes: number,
  standing: Standing,
): { watched: string[]; along: string[] } {
  const held = [control.identity, control.mark];
  const checkpoints = control.checkpoints(lanes);
  return standing === 'moving'
    ? { watched: held, along: checkpoints }
    : { watched: [...held, ...checkpoints], along: [] };
}

/**
 * The checkpoints to number above; undefined when the raise must not be: another has come first, or a lane has moved.
 * `values`: those of all control keys, as the fence has read them.
 */
export function raiseFrom(values: Values, identity: Identity, standing: Standing): Checkpoints | undefined {
  if (parseIdentity(values[0] ?? '')?.journal !== identity.journal) return undefined;
  const found = checkpointSeqs(values.slice(2, 2 + identity.lanes), identity.generation);
  if (standing === 'moving') return found;
  return found.every((seq, lane) => seq === standing[lane]) ? found : undefined;
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
