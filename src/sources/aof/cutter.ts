// Cuts the text of an AOF into entries: whole commands of one stretch of time, a MULTI ... EXEC never in two.
//
// It promises:
// 1. An entry's bytes are those of the file in one piece: its end is `from.offset + resp.length`. Only a transaction
//    that an annotation interrupts is copied without it, and that is then an entry of its own.
// 2. Nothing is lost between calls: what `cut` does not consume is cut again, with more bytes behind it.
// 3. Nothing is copied or made per command.

import { RespError, RespScanner } from '../../binlog/resp.ts';
import type { Entry } from '../source.ts';
import { contextOf } from './context.ts';
import { formatPlace, type Place } from './place.ts';

const HASH = 35;
const LF = 10;
const CR = 13;
const TIMESTAMP = /^#TS:(\d{1,11})\r?$/;
/** Annotations that servers write are shorter. */
const ANNOTATION_BYTES_MAX = 1_024;

/** An entry of a file. */
export interface FileEntry extends Entry {
  /** Directly in front of it. */
  readonly from: Place;
  /** Its bytes do not stand in the file like that. */
  readonly isMade: boolean;
}

export interface CutterOptions {
  readonly entryBytes: number;
  readonly transactionBytesMax: number;
  /** The log ends in front of the first command after this time, ms since 1970. */
  readonly untilMs: number | undefined;
  /** For commands in front of the first timestamp. */
  readonly timeMsDefault: number;
}

/** Why cutting cannot go on. `offset` is of the file. */
export type CutStop =
  | { readonly kind: 'until' }
  | { readonly kind: 'malformed'; readonly offset: number; readonly expected: string }
  | { readonly kind: 'transaction too large'; readonly offset: number };

export interface Cut {
  readonly entries: readonly FileEntry[];
  /** Bytes of the buffer that are done with. */
  readonly consumed: number;
  readonly stop: CutStop | undefined;
  /** What is not consumed begins with a MULTI. */
  readonly inTransaction: boolean;
}

class Refusal extends Error {
  readonly stop: CutStop;
  constructor(stop: CutStop) {
    super(stop.kind);
    this.stop = stop;
  }
}

export class Cutter {
  readonly #options: CutterOptions;
  readonly #scanner = new RespScanner();
  /** Behind everything that is consumed. */
  #place: Place;
  #entries: FileEntry[] = [];
  #buffer: Buffer = Buffer.alloc(0);
  /** File offset of the buffer's first byte. */
  #base = 0;
  /** Where the entry under way begins in the buffer. */
  #start = 0;
  /** Database behind the command under the scanner. */
  #db = 0;
  /** Where the open MULTI begins in the buffer, and its database; -1 outside. */
  #multi = -1;
  #multiDb = 0;
  /** Annotations inside of it, [start, end) each. */
  #holes: number[] = [];
  #holeSeconds: number | undefined;
  #skip: number;

  constructor(from: Place, options: CutterOptions) {
    this.#options = options;
    this.#place = { ...from, leftOut: 0, untilMs: undefined, taken: 0 };
    this.#skip = from.taken;
  }

  /** Behind everything that is consumed. */
  get place(): Place {
    return this.#place;
  }

  /** `buffer` begins at `place`. */
  cut(buffer: Buffer): Cut {
    this.#begin(buffer);
    let stop: CutStop | undefined;
    let at = 0;
    try {
      while (at < buffer.length) {
        const next = buffer[at] === HASH ? this.#annotation(at) : this.#command(at);
        if (next < 0) break;
        at = next;
      }
    } catch (error) {
      stop = this.#stopOf(error);
    }
    // What is behind a broken command or an open MULTI is not known to be whole.
    const inTransaction = this.#multi >= 0;
    if (inTransaction) this.#flush(this.#multi, this.#multiDb);
    else this.#flush(at, this.#db);
    return { entries: this.#entries, consumed: this.#place.offset - this.#base, stop, inTransaction };
  }

  #begin(buffer: Buffer): void {
    this.#entries = [];
    this.#buffer = buffer;
    this.#base = this.#place.offset;
    this.#start = 0;
    this.#db = this.#place.db;
    this.#multi = -1;
    this.#holes = [];
    this.#holeSeconds = undefined;
    this.#scanner.reset(buffer);
  }

  /** Returns the end of the command at `at`, -1 if the buffer ends before it does. */
  #command(at: number): number {
    const scanner = this.#scanner;
    scanner.end = at;
    try {
      scanner.next();
    } catch (error) {
      if (error instanceof RespError && isCutShort(error, this.#buffer))
        return this.#bounded(this.#buffer.length);
      throw error;
    }
    const { argc, end } = scanner;
    if (argc <= 2) this.#context(at, end);
    if (this.#multi >= 0) this.#bounded(end);
    else if (end - this.#start >= this.#options.entryBytes) this.#flush(end, this.#db);
    return end;
  }

  /** Always -1. @throws Refusal when the open MULTI weighs more than allowed by `end` */
  #bounded(end: number): number {
    if (this.#multi >= 0 && end - this.#multi > this.#options.transactionBytesMax)
      throw new Refusal({ kind: 'transaction too large', offset: this.#base + this.#multi });
    return -1;
  }

  /** Commands of one or two words may be SELECT, MULTI, EXEC or DISCARD. */
  #context(at: number, end: number): void {
    const word = contextOf(this.#scanner);
    if (word === undefined) return;
    if (word === 'MULTI') {
      if (this.#multi >= 0) throw this.#malformed(at, 'EXEC before the next MULTI');
      this.#multi = at;
      this.#multiDb = this.#db;
    } else if (word === 'EXEC') {
      if (this.#multi < 0) throw this.#malformed(at, 'MULTI before EXEC');
      this.#endTransaction(end);
    } else if (Number.isNaN(word)) {
      throw this.#malformed(at, 'SELECT with the number of a database');
    } else {
      this.#db = word;
    }
  }

  #endTransaction(end: number): void {
    const multi = this.#multi;
    this.#multi = -1;
    if (this.#holes.length === 0) return;
    this.#flush(multi, this.#multiDb);
    this.#flush(end, this.#db, this.#withoutHoles(multi, end));
    this.#holes = [];
    if (this.#holeSeconds !== undefined) this.#place = { ...this.#place, seconds: this.#holeSeconds };
    this.#holeSeconds = undefined;
  }

  /** Returns the end of the line at `at`, -1 if the buffer ends before it does. */
  #annotation(at: number): number {
    const feed = this.#buffer.indexOf(LF, at);
    const bytes = (feed < 0 ? this.#buffer.length : feed) - at;
    if (bytes > ANNOTATION_BYTES_MAX)
      throw this.#malformed(at, `an annotation of at most ${ANNOTATION_BYTES_MAX} bytes`);
    if (feed < 0) return -1;
    const end = feed + 1;
    const seconds = TIMESTAMP.exec(this.#buffer.toString('latin1', at, feed))?.[1];
    if (this.#multi >= 0) {
      this.#holes.push(at, end);
      if (seconds !== undefined) this.#holeSeconds = Number(seconds);
      return end;
    }
    this.#flush(at, this.#db);
    const { untilMs } = this.#options;
    if (seconds !== undefined && untilMs !== undefined && Number(seconds) * 1000 > untilMs)
      throw new Refusal({ kind: 'until' });
    this.#start = end;
    this.#place = { ...this.#place, offset: this.#base + end };
    if (seconds !== undefined) this.#place = { ...this.#place, seconds: Number(seconds) };
    return end;
  }

  /** Ends the entry under way at `end`, behind which `db` holds. */
  #flush(end: number, db: number, made?: Buffer): void {
    if (end <= this.#start) return;
    const from = this.#place;
    const start = this.#start;
    this.#place = { ...from, offset: this.#base + end, db };
    this.#start = end;
    const { timeMsDefault } = this.#options;
    this.#entries.push({
      from,
      position: formatPlace(this.#place),
      isMade: made !== undefined,
      resp: made ?? this.#buffer.subarray(start, end),
      skip: this.#skip,
      db: from.db,
      timeMs: from.seconds === undefined ? timeMsDefault : from.seconds * 1000,
      malformed: undefined,
    });
    this.#skip = 0;
  }

  #withoutHoles(from: number, end: number): Buffer {
    const pieces: Buffer[] = [];
    let at = from;
    for (let i = 0; i < this.#holes.length; i += 2) {
      pieces.push(this.#buffer.subarray(at, this.#holes[i]));
      at = this.#holes[i + 1] as number;
    }
    pieces.push(this.#buffer.subarray(at, end));
    return Buffer.concat(pieces);
  }

  #malformed(at: number, expected: string): Refusal {
    return new Refusal({ kind: 'malformed', offset: this.#base + at, expected });
  }

  #stopOf(error: unknown): CutStop {
    if (error instanceof Refusal) return error.stop;
    if (error instanceof RespError)
      return { kind: 'malformed', offset: this.#base + error.offset, expected: error.expected };
    throw error;
  }
}

/** The scanner ran out of bytes, and what there is was well formed. */
function isCutShort({ offset }: RespError, buffer: Buffer): boolean {
  return offset >= buffer.length || (offset === buffer.length - 1 && buffer[offset] === CR);
}
