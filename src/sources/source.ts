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
  /**
   * True: in another reading, what stands behind this entry may come in another order, unless that reading begins here or
   * later. Nothing behind it may be applied already when it is yielded.
   */
  readonly beginsOrder?: true;
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
  /** The source does not say where its log ends; every position covers this one. */
  readonly unknown?: true;
}

/**
 * Thrown by `read`: the log behind the position is gone for good, or never began. Another log begins at
 * `position` and replaces all that the target holds: its first command is a FLUSHALL. The caller makes
 * `position` durable and reads there, at the same source.
 */
export class LogReplaced extends Error {
  override readonly name = 'LogReplaced';
  readonly position: Position;

  constructor(position: Position, reason: string) {
    super(reason);
    this.position = position;
  }
}

/**
 * What a source with a snapshot is doing:
 * - `connecting`: to the source, or again after a break.
 * - `waiting`: for the source to begin its snapshot.
 * - `receiving`: the snapshot arrives, and none of it is read yet.
 * - `loading`: the snapshot is read, whether or not it still arrives.
 * - `streaming`: the commands behind the snapshot are read.
 * - `full`: as much waits to be read as may; nothing more is taken from the source until it is.
 */
export type SourcePhase = 'connecting' | 'waiting' | 'receiving' | 'loading' | 'streaming' | 'full';

export interface SourceProgress {
  readonly phase: SourcePhase;
  /** Bytes of the snapshot that are here. */
  readonly receivedBytes: number;
  /** Bytes of the whole snapshot; undefined when the source does not say. */
  readonly totalBytes: number | undefined;
  /** Bytes of the snapshot that were yielded as entries. */
  readonly loadedBytes: number;
  /** Keys of the snapshot that were yielded by this process. */
  readonly keys: number;
  /** Bytes on disk that wait to be read or acknowledged. */
  readonly spooledBytes: number;
}

/** What a source has done beyond its log, in this process. */
export interface SourceTally {
  /** Keys that were read again at the source and written, because the log is wrong about them. */
  readonly repaired: number;
  /** Keys that were found and that the target cannot hold. */
  readonly leftOut: number;
}

/** A key that the target cannot hold. */
export interface LeftOutKey {
  /** Of the source. */
  readonly db: string;
  /** As people read it. */
  readonly key: string;
  readonly reason: string;
  readonly atMs: number;
}

/** Where `--from` points at the pipeline's first start. */
export type From = 'beginning' | 'now' | Position;

/** Where a first run starts that nobody told. */
export function defaultFrom(source: Pick<Source, 'copiesFrom'>, keepsData: boolean): From {
  return keepsData ? 'beginning' : (source.copiesFrom ?? 'beginning');
}

export interface Source {
  readonly kind: string;
  /** Names the log itself (not the host it is on now): part of the pipeline's identity. */
  readonly identity: string;
  /** For people and logs, without secrets. */
  readonly display: string;
  /** True: the log has an end; `head` stays where it is, and what follows it is for a source that is opened later. */
  readonly finite: boolean;
  /**
   * True: the log is what a master tells its replicas. Conditions of EXPIRE are decided, and the DEL of an
   * expired key is in the log.
   */
  readonly replication: boolean;

  /**
   * The `--from` that begins with a copy of all data, which replaces what the target holds: the default, unless that is to
   * be kept.
   */
  readonly copiesFrom?: From;

  /** Connects and finds the start for a first run. Retries nothing: throws on connection loss. */
  resolve(from: From): Promise<SourceStart>;
  /** The newest position now (for `--until caught-up` and lag). */
  head(): Promise<SourceHead>;
  /**
   * Reads on behind `position`. Yields chunks (arrays) of entries, in order, never an empty chunk;
   * waits without bound for new ones. The bytes of a chunk are good until the next one is asked for. Ends only
   * by abort (returns) or by throwing: StopError for what an operator must decide (lost range, log rewound,
   * wrong type), LogReplaced where another log takes this one's place, anything else for connection trouble
   * (the caller opens again at its own position, with backoff).
   */
  read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]>;
  /** The position inside an entry: behind its first `taken` commands. `entry` was yielded by `read`. */
  positionInside(entry: Entry, taken: number): Position;
  /**
   * Looks once whether everything behind `position` is still there. @throws StopError as `read` would.
   * A source without it can tell only by reading.
   */
  verify?(position: Position): Promise<void>;
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
  /** False when the source's log has been named anew since `head`, which must be asked for again; absent: never. */
  comparable?(position: Position, head: Position): boolean;
  /** Entries between `position` and `head`; undefined when the source cannot count them. */
  entriesBehind(position: Position, head: Position): number | undefined;
  /** When the source ran the first entry behind `position`, ms since 1970; undefined when there is none. */
  timeBehind(position: Position): Promise<number | undefined>;
  /** run_id and such of the server behind it, for the checks that two roles are not one server. */
  serverId(): Promise<string | undefined>;
  /** Removes what `acknowledge` created at the source (`lanegate reset`); returns what was removed, for people. */
  forget(apply: boolean): Promise<readonly string[]>;
  /** How far a snapshot has come; undefined before `read` is first called. Only of sources that have one. */
  progress?(): SourceProgress | undefined;
  /** Only of sources that do more than their log says. */
  tally?(): SourceTally;

  /** Keys that were left out since the last call; of very many, some. */
  takeLeftOut?(): readonly LeftOutKey[];
  close(): Promise<void>;
}
