// An RDB snapshot as a log: bytes in, in order, in chunks of any size; out come entries of whole commands that
// make the same keys at a target.
//
// It promises:
// 1. Where entries are cut depends on the file and the rules alone, never on how the bytes arrive: reading on
//    from any entry's place yields exactly the entries that followed it.
// 2. The value of a key is copied, not decoded, into a RESTORE, where the target takes it. Else it is rebuilt by
//    commands, in pieces of bounded size.
// 3. It never takes memory for a length that the file only claims. It holds one chunk of entries, the record it is
//    in (at most twice PAYLOAD_BYTES_MAX) or, in a rebuild, the largest single element of the value.
// 4. It is synchronous inside the bytes that are there, and waits only when they run out.

import { ByteWindow } from './byte-window.ts';
import { Crc64 } from './crc64.ts';
import { RdbError } from './rdb-error.ts';
import { RecordParser } from './record-parser.ts';

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
  const { from, rules, chunkBytes = CHUNK_BYTES, onNotice = ignore, onAux = ignore } = options;
  const crc = new Crc64();
  const window = new ByteWindow(bytes, from?.offset ?? 0, crc, sumAtStart(options));
  const version = from?.version ?? (await header(window));
  if (from === undefined) options.onHeader?.(version);
  const parser = new RecordParser(window, crc, { rules, version, from, chunkBytes, onNotice, onAux });
  for (;;) {
    const state = parser.run();
    const entries = parser.take(state === 'end');
    if (entries.length > 0) yield { entries };
    if (state === 'end') break;
    if (state === 'short') await window.fill(window.need);
  }
  await checksum(window, version);
  const tail = Buffer.from(window.buffer.subarray(window.at, window.end));
  return { offset: window.offset, version, keys: parser.keys, tail };
}

const CHUNK_BYTES = 262_144;
const HEADER_BYTES = 9;
const CHECKSUM_BYTES = 8;
/** Older files end with the EOF opcode. */
const CHECKSUM_SINCE = 5;

function ignore(): void {}

/** What the file's CRC64 is where reading starts; undefined if it is not to be checked. */
function sumAtStart({ checkCrc = true, from }: ReadRdbOptions): Buffer | undefined {
  if (!checkCrc || from?.crc === '') return undefined;
  return from === undefined ? Buffer.alloc(CHECKSUM_BYTES) : Buffer.from(from.crc, 'hex');
}

async function header(window: ByteWindow): Promise<number> {
  await window.fill(HEADER_BYTES);
  const text = window.buffer.toString('latin1', window.at, window.at + HEADER_BYTES);
  const match = /^(?:REDIS(\d{4})|VALKEY(\d{3}))$/.exec(text);
  const version = Number(match?.[1] ?? match?.[2] ?? 0);
  if (version === 0) throw window.bad("'REDIS' or 'VALKEY' and a version");
  window.at += HEADER_BYTES;
  return version;
}

async function checksum(window: ByteWindow, version: number): Promise<void> {
  if (version < CHECKSUM_SINCE) return;
  const sum = window.checksum();
  await window.fill(CHECKSUM_BYTES);
  const stored = window.buffer.subarray(window.at, window.at + CHECKSUM_BYTES);
  if (sum !== undefined && !stored.equals(NO_CHECKSUM) && !stored.equals(sum)) {
    throw new RdbError(window.offset, 'the CRC64 of what stands in front of it (the file is damaged)');
  }
  window.at += CHECKSUM_BYTES;
}

/** What a server with `rdbchecksum no` writes. */
const NO_CHECKSUM = Buffer.alloc(CHECKSUM_BYTES);

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
