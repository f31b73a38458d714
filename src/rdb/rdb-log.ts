// An RDB snapshot as a log: bytes in, in order, in chunks of any size; out come entries of whole commands that
// make the same keys at a target.
//
// It promises:
// 1. Where entries are cut depends on the file and the rules alone, never on how the bytes arrive: reading on
//    from any entry's place yields exactly the entries that followed it.
// 2. The value of a key is copied, not decoded, into a RESTORE, where the target takes it. Else it is rebuilt by
//    commands, in pieces of bounded size.
// 3. It never takes memory for a length that the file only claims.

/** What the target takes. Part of every position inside a snapshot: with other rules the entries would be cut elsewhere. */
export interface RestoreRules {
  /** The highest RDB version that its RESTORE accepts; 0 where there is no RESTORE. */
  readonly rdbVersion: number;
  /** Its proto-max-bulk-len. Values above it, or above our own 64 MiB, are rebuilt by commands. */
  readonly bulkBytesMax: number;
}

/** Directly behind an entry. */
export interface RdbPlace {
  /** Where `bytes` have to begin on resume: behind a whole key, or in front of the one whose first pieces are out. */
  readonly offset: number;
  readonly db: number;
  /** Entries of the value at `offset` that are already out. */
  readonly piece: number;
  /** RDB version of the file. */
  readonly version: number;
  /** CRC64 of the file up to `offset`, 16 hex digits; empty where it is not checked. */
  readonly crc: string;
}

export interface RdbEntry {
  readonly place: RdbPlace;
  readonly db: number;
  /** Whole RESP arrays, back to back. */
  readonly resp: Buffer;
  /** Keys that are complete with this entry. */
  readonly keys: number;
}

export interface RdbChunk {
  /** Never empty; all in all about `chunkBytes`. */
  readonly entries: readonly RdbEntry[];
}

export interface RdbEnd {
  /** Behind the EOF opcode and the checksum. */
  readonly offset: number;
  readonly version: number;
  /** Keys that this call has yielded. */
  readonly keys: number;
  /** Bytes that were read beyond `offset`. */
  readonly tail: Buffer;
}

export interface ReadRdbOptions {
  readonly rules: RestoreRules;
  /** Read on behind this place of an earlier run; `bytes` then begin at `from.offset`. */
  readonly from?: RdbPlace;
  readonly chunkBytes?: number;
  /** Check the CRC64 at the file's end (default true). Files written with `rdbchecksum no` have none. */
  readonly checkCrc?: boolean;
  readonly onHeader?: (version: number) => void;
  /** repl-id, repl-offset, repl-stream-db, ctime, used-mem ... Not called again for those in front of `from`. */
  readonly onAux?: (name: string, value: string) => void;
  /** One sentence for the log about what is left out. */
  readonly onNotice?: (text: string) => void;
}

/**
 * Reads one snapshot. Never closes `bytes`: what follows the snapshot there is its owner's.
 * @throws RdbError where the bytes are no RDB; StopError for a value that the target cannot take
 */
export async function* readRdb(
  bytes: AsyncIterable<Buffer>,
  options: ReadRdbOptions,
): AsyncGenerator<RdbChunk, RdbEnd> {
  throw new Error(`not written yet: ${options.rules.rdbVersion} ${typeof bytes}`);
}

/** A place in at most 80 printable characters without blanks. */
export function formatPlace(place: RdbPlace): string {
  return [place.version, place.offset, place.db, place.piece, place.crc].join(':');
}

/** Undefined if `text` is none. */
export function parsePlace(text: string): RdbPlace | undefined {
  const match = /^(\d{1,4}):(\d{1,16}):(\d{1,10}):(\d{1,10}):([0-9a-f]{16})?$/.exec(text);
  if (match === null) return undefined;
  const [version, offset, db, piece] = match.slice(1, 5).map(Number) as [number, number, number, number];
  return { version, offset, db, piece, crc: match[5] ?? '' };
}
