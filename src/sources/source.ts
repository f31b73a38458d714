/**
 * What every source of a binlog offers. A source knows how to read on from a position and what a position
 * means; it knows nothing of lanes, sequence numbers or the target.
 */

/** A source's own resume point. Opaque outside the source; printable, at most 512 bytes, no control characters. */
export type Position = string;

/** One element of the source log: whole commands as RESP arrays. */
export interface Entry {
  /** Resume point directly behind this entry. */
  readonly position: Position;
  /** RESP arrays of bulk strings, back to back, or what could not be read as such (`malformed`). */
  readonly resp: Buffer;
  /** Commands at the head of `resp` that an earlier run has already taken (resume inside an entry). */
  readonly skip: number;
  /** Database in which the entry starts. */
  readonly db: number;
  /** When the source ran it, ms since 1970: relative deadlines count from here. */
  readonly timeMs: number;
  /** Why the entry cannot be read; then `resp` holds whatever bytes there are, for the dead letter. */
  readonly malformed: string | undefined;
  /** Of a malformed entry: what its only command is, where that can be read. The key is printable. */
  readonly refused?: { readonly code: string; readonly command: string; readonly key: string | null };
}

export interface SourceStart {
  /** Where reading starts. */
  readonly position: Position;
}

export interface SourceHead {
  /** The newest position of the source's log, comparable with `isAtOrBehind`. */
  readonly position: Position;
}

/** Where `--from` points at the pipeline's first start. */
export type From = 'beginning' | 'now' | Position;

export interface Source {
  readonly kind: string;
  /** Names the log itself (not the host it is on now): part of the pipeline's identity. */
  readonly identity: string;
  /** For people and logs, without secrets. */
  readonly display: string;

  /** Connects and finds the start for a first run. Retries nothing: throws on connection loss. */
  resolve(from: From): Promise<SourceStart>;
  /** The newest position now (for `--until caught-up` and lag). */
  head(): Promise<SourceHead>;
  /**
   * Reads on behind `position`. Yields chunks (arrays) of entries, in order, never an empty chunk;
   * waits without bound for new ones. Ends only by abort (returns) or by throwing: StopError for what an
   * operator must decide (lost range, log rewound, wrong type), anything else for connection trouble
   * (the caller opens again at its own position, with backoff).
   */
  read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]>;
  /** The position inside an entry: behind its first `taken` commands. `entry` was yielded by `read`. */
  positionInside(entry: Entry, taken: number): Position;
  /** Tells the source that everything up to `position` is durable at the target. Idempotent, may be repeated. */
  acknowledge(position: Position): Promise<void>;
  /**
   * Tells it where the low-water mark in the target is, also while `acknowledge` is held back: for a source that sends on
   * only as far as it is heard. Nothing may be forgotten for it.
   */
  marked?(position: Position): void;
  /** True while it waits for the low-water mark to move on; then it is told sooner than at the next look. */
  wantsMark?(): boolean;
  /** True iff `position` has everything that `head` has. */
  covers(position: Position, head: Position): boolean;
  /** Entries between `position` and `head`; undefined when the source cannot count them. */
  entriesBehind(position: Position, head: Position): number | undefined;
  /** When the source ran the first entry behind `position`, ms since 1970; undefined when there is none. */
  timeBehind(position: Position): Promise<number | undefined>;
  /** run_id and such of the server behind it, for the checks that two roles are not one server. */
  serverId(): Promise<string | undefined>;
  /** Removes what `acknowledge` created at the source (`lanegate reset`); returns what was removed, for people. */
  forget(apply: boolean): Promise<readonly string[]>;
  close(): Promise<void>;
}
