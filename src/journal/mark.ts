// What the checkpoints and one snapshot of the journal say together. Pure.
//
// The low-water mark is the highest seq such that everything at or below it is applied: not the smallest
// checkpoint, which an idle lane would hold back for ever. It is undefined while the journal has a gap.

/** One lane of a snapshot. */
export interface LaneView {
  readonly lane: number;
  readonly tail: number;
  readonly inBytes: number;
  readonly outBytes: number;
  /** Replies are read through this seq; undefined when the journal does not know. */
  readonly seen: number | undefined;
  readonly awake: string;
  /** First item behind the checkpoint that was asked with; undefined when there is none. */
  readonly next:
    | {
        readonly kind: 'batch' | 'marker';
        readonly generation: string;
        readonly seq: number;
        readonly previous: number;
        readonly first: number;
        readonly bytesBefore: number;
        readonly timeMs: number;
      }
    | undefined;
}

/** True iff the journal holds everything of this lane behind its checkpoint. */
export function laneIsWhole(view: LaneView, checkpoint: number): boolean {
  if (checkpoint >= view.tail) return true;
  return view.next !== undefined && view.next.previous <= checkpoint;
}

/** Lanes that the journal cannot bring up to their tails. */
export function lanesWithGap(views: readonly LaneView[], checkpoints: readonly number[]): number[] {
  return views.filter((view) => !laneIsWhole(view, checkpoints[view.lane] ?? -1)).map((view) => view.lane);
}

/** The low-water mark, or undefined while some lane has a gap. */
export function lowWaterMark(
  head: number,
  views: readonly LaneView[],
  checkpoints: readonly number[],
): number | undefined {
  let mark = head;
  for (const view of views) {
    const checkpoint = checkpoints[view.lane];
    if (checkpoint === undefined || !laneIsWhole(view, checkpoint)) return undefined;
    if (checkpoint >= view.tail || view.next === undefined) continue;
    // A checkpoint inside the item was left by another cut of the same log: what follows it is unapplied.
    mark = Math.min(mark, Math.max(view.next.first - 1, Math.min(checkpoint, view.next.seq - 1)));
  }
  return mark;
}
