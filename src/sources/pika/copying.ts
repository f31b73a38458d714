// A copy as a source reads it: what its spool holds, then what goes on being copied, and in the end where the log goes on.
//
//   copy                  nothing is there: a spool is made --> LogReplaced(copy:<spool>:0)    the caller makes that durable
//   copy:<spool>:<n>      the spool goes on here; not on this machine, or the log is gone behind it: another copy, LogReplaced

import type { Endpoint } from '../../runtime/endpoint.ts';
import { StopError } from '../../runtime/errors.ts';
import { Spool } from '../redis-link/spool.ts';
import { type Entry, LogReplaced, type Position, type SourceProgress } from '../source.ts';
import { Copy, type CopyOptions } from './copy.ts';
import { type CopyPlace, formatCopyPosition } from './copy-position.ts';
import { CopySpool, type StoredRecord, tells } from './copy-spool.ts';
import { KeyReader } from './key-reader.ts';
import type { PikaLink } from './link.ts';
import { formatPikaPosition, type PikaPosition, type Places, positionAt } from './position.ts';

export interface CopyingOptions {
  readonly endpoint: Endpoint;
  readonly spoolRoot: string;
  readonly spoolBytesMax: number;
  /** A link whose databases are attached at these places, at the ends of their logs without. */
  readonly attach: (from: PikaPosition | undefined, signal: AbortSignal) => Promise<Attached>;
  readonly ends: () => Promise<Places>;
  readonly onNotice: (text: string) => void;
  readonly onLeftOut: CopyOptions['onLeftOut'];
  readonly now: () => number;
}

export interface Attached {
  readonly link: PikaLink;
  readonly start: PikaPosition;
  readonly numbers: ReadonlyMap<string, number>;
}

const GONE = ['PIKA_PURGED', 'PIKA_LARGER', 'PIKA_REFUSED', 'PIKA_OTHER_LOG'];

export class Copying {
  readonly #options: CopyingOptions;
  readonly #starts = new WeakMap<Entry, { readonly spool: string; readonly start: number }>();
  #open: CopySpool | undefined;
  #loadedBytes = 0;
  #keys = 0;
  #isCopying = false;
  /** The copy that was read here. */
  #last: string | undefined;
  #isTidied = false;
  readonly #openedAtMs = Date.now();

  constructor(options: CopyingOptions) {
    this.#options = options;
  }

  /** The copy behind `place`; the position of its last entry is where the log goes on. @throws LogReplaced */
  async *read(place: CopyPlace, signal: AbortSignal): AsyncGenerator<readonly Entry[], void> {
    const copy = await this.#find(place);
    this.#open = copy;
    this.#last = copy.id;
    this.#isCopying = true;
    this.#isTidied = false;
    this.#loadedBytes = place.offset;
    let skip = place.taken;
    const made = (records: readonly StoredRecord[]) =>
      records.map((record) => {
        const entry = this.#entryOf(copy, record, skip);
        skip = 0;
        return entry;
      });
    try {
      for await (const record of copy.read(place.offset)) {
        if (signal.aborted) return;
        if (tells(record)) yield made([record]);
      }
      if (copy.state.ended) return;
      for await (const records of this.#goOn(copy, signal)) {
        if (records.length > 0) yield made(records);
        if (signal.aborted) return;
      }
    } finally {
      this.#isCopying = false;
      this.#open = undefined;
      await copy.close();
    }
  }

  positionInside(entry: Entry, taken: number): Position | undefined {
    const found = this.#starts.get(entry);
    return found && formatCopyPosition(found.spool, found.start, taken);
  }

  /** Everything up to `place` is durable at the target; undefined: the whole copy. */
  async release(place: CopyPlace | undefined): Promise<void> {
    if (place !== undefined) {
      if (place.spool === this.#open?.id) await this.#open?.release(place.offset);
      return;
    }
    if (this.#isCopying || this.#isTidied) return;
    this.#isTidied = true;
    // A later one is another's, which began it since.
    const { spoolRoot, spoolBytesMax } = this.#options;
    const own = this.#last === undefined ? undefined : await Spool.find(spoolRoot, this.#last, spoolBytesMax);
    await Spool.removeOlderThan(spoolRoot, this.#last ?? Spool.idAt(this.#openedAtMs));
    await own?.remove();
  }

  /** All copies of this pipeline on this machine. */
  async forget(): Promise<void> {
    await Spool.removeAll(this.#options.spoolRoot);
  }

  get isUnderWay(): boolean {
    return this.#isCopying;
  }

  progress(isRead: boolean): SourceProgress | undefined {
    if (!isRead) return undefined;
    return {
      phase: this.#open?.isFull ? 'full' : this.#isCopying ? 'loading' : 'streaming',
      receivedBytes: this.#open?.end ?? this.#loadedBytes,
      totalBytes: undefined,
      loadedBytes: this.#loadedBytes,
      keys: this.#open?.state.keys ?? this.#keys,
      spooledBytes: this.#open?.bytes ?? 0,
    };
  }

  async #find({ spool: id, offset }: CopyPlace): Promise<CopySpool> {
    const { spoolRoot, spoolBytesMax } = this.#options;
    const spool = id === undefined ? undefined : await Spool.find(spoolRoot, id, spoolBytesMax);
    if (spool === undefined) {
      throw await this.anew(
        id === undefined
          ? 'a copy of the data begins'
          : `the copy ${id} is not on this machine: another one begins`,
      );
    }
    const copy = await CopySpool.open(spool);
    if (copy.has(offset)) {
      // The caller has made this position durable: whatever came before is over.
      await spool.removeOlder();
      return copy;
    }
    await copy.close();
    throw await this.anew(`the copy ${id} is not whole on this machine: another one begins`);
  }

  /** A copy to begin with, for the caller to throw. */
  async anew(reason: string): Promise<LogReplaced> {
    const spool = await Spool.create(this.#options.spoolRoot, this.#options.spoolBytesMax);
    this.#options.onNotice(reason);
    return new LogReplaced(formatCopyPosition(spool.id, 0), reason);
  }

  async *#goOn(spool: CopySpool, signal: AbortSignal): AsyncGenerator<readonly StoredRecord[], void> {
    const { endpoint, ends, onLeftOut, now } = this.#options;
    const { state } = spool;
    const { link, start, numbers } = await this.#attach(spool, signal);
    const readers = new Map([...start.places.keys()].map((db) => [db, new KeyReader(endpoint, db)]));
    const stop = () => {
      spool.stop();
      for (const one of readers.values()) void one.close();
    };
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (!state.begun) {
        const first = Copy.firstRecord(start.log, start.places, now());
        for (const delta of first.deltas) state.apply(delta);
        yield await spool.append([first]);
      }
      const reader = (db: string) => readers.get(db) as KeyReader;
      yield* new Copy({ spool, link, numbers, reader, ends, onLeftOut, now }).run();
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      await link.close();
    }
  }

  async #attach({ id, state }: CopySpool, signal: AbortSignal): Promise<Attached> {
    const { log, places } = state;
    const from = state.begun ? positionAt(log, places) : undefined;
    try {
      return await this.#options.attach(from, signal);
    } catch (error) {
      if (!(error instanceof StopError) || !GONE.includes(error.code) || from === undefined) throw error;
      throw await this.anew(`the copy ${id} cannot go on: ${error.message}; another one begins`);
    }
  }

  #entryOf({ id, state }: CopySpool, record: StoredRecord, skip: number): Entry {
    const { resp, db, timeMs, malformed, refused, start, end, last } = record;
    this.#loadedBytes = end;
    this.#keys = state.keys;
    const behind = { ...positionAt(state.log, state.places), since: state.since };
    const position = last ? formatPikaPosition(behind) : formatCopyPosition(id, end);
    const entry: Entry = {
      position,
      resp,
      skip,
      db,
      timeMs,
      malformed,
      ...(refused === undefined ? {} : { refused }),
    };
    this.#starts.set(entry, { spool: id, start });
    return entry;
  }
}
