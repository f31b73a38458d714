/**
 * What the sequencer routes as a whole: a command, a part of a split command, or the inside of a MULTI ... EXEC.
 * `lanes` is sorted; 'all' for what needs every lane.
 */
export interface Unit {
  readonly lanes: readonly number[] | 'all';
  readonly commands: readonly UnitCommand[];
  /** The seq that a gate for this unit carries: the unit's last, that of EXEC for a transaction. */
  readonly seq: number;
  readonly first: number;
  readonly timeMs: number;
  readonly bytes: number;
  readonly erases: boolean;
  readonly swapped: readonly number[];
  readonly title: string;
}

export interface UnitCommand {
  readonly seq: number;
  readonly db: number;
  readonly bytes: Buffer;
}

/** What stops ingest at one command. */
export interface Poison {
  readonly seq: number;
  readonly code: string;
  readonly command: string;
  readonly key: string | null;
  readonly reason: string;
  /** The raw bytes, for the dead letter. */
  readonly bytes: Buffer;
}

export function crosses(unit: Unit): boolean {
  return unit.lanes === 'all' || unit.lanes.length > 1;
}
