// Makes entries of items: many small items of one database share an entry.
//
// Each item takes exactly one command of its entry: one that changes nothing a PING, which is counted and left out. So a
// position inside an entry is the place behind an item, and how items are gathered changes no seq.

import { formatKey } from '../../binlog/quoting.ts';
import { encodeCommand } from '../../binlog/resp.ts';
import type { PikaItem } from '../../pika/item.ts';
import { translateItem } from '../../pika/translate.ts';
import type { Entry, Position } from '../source.ts';

const ENTRY_BYTES = 32 * 1024;
const PING = encodeCommand(['PING']);

export interface BatchedItem {
  /** Database at the target. */
  readonly db: number;
  /** Undefined: bytes that are no item. */
  readonly item: PikaItem | undefined;
  /** Why they are none. */
  readonly malformed: string | undefined;
  /** The whole item, for the dead letter. */
  readonly bytes: Buffer;
}

/** `P` is a place of the source: it becomes a position only where one is asked for. */
export interface BatchedEntry<P> extends Entry {
  /** In front of the entry, and behind each of its items. */
  readonly places: readonly P[];
}

export class EntryBatch<P> {
  readonly #format: (place: P) => Position;
  #resp: Buffer[] = [];
  #bytes = 0;
  #places: P[] = [];
  #db = 0;
  #timeMs = 0;
  #entries: BatchedEntry<P>[] = [];
  #entriesBytes = 0;

  constructor(format: (place: P) => Position) {
    this.#format = format;
  }

  /** Bytes of the entries that `take` would give, and of the one that is begun. */
  get bytes(): number {
    return this.#entriesBytes + this.#bytes;
  }

  /** `before` and `after`: the places around the item. */
  add({ db, item, malformed, bytes }: BatchedItem, before: P, after: P): void {
    if (item === undefined) {
      this.#alone({ db, resp: bytes, timeMs: this.#timeMs, malformed }, before, after);
      return;
    }
    const timeMs = item.execTimeS * 1000;
    const translation = translateItem(item);
    if (translation.kind === 'cannot') {
      const { command, why } = translation;
      const key = translation.key === undefined ? null : formatKey(translation.key);
      const refused = { code: 'NOT_CARRIED', command, key };
      this.#alone({ db, resp: item.resp, timeMs, malformed: why, refused }, before, after);
      return;
    }
    if (this.#db !== db || this.#bytes >= ENTRY_BYTES) this.#close();
    const resp = translation.kind === 'commands' ? translation.resp : PING;
    if (this.#resp.length === 0) this.#places.push(before);
    this.#db = db;
    this.#timeMs = timeMs;
    this.#resp.push(resp);
    this.#bytes += resp.length;
    this.#places.push(after);
  }

  /** Everything so far as entries. */
  take(): BatchedEntry<P>[] {
    this.#close();
    const entries = this.#entries;
    this.#entries = [];
    this.#entriesBytes = 0;
    return entries;
  }

  /** An entry that takes one seq, and is refused there. */
  #alone(entry: Omit<Entry, 'position' | 'skip'>, before: P, after: P): void {
    this.#close();
    this.#push({ ...entry, position: this.#format(after), skip: 0, places: [before, after] });
  }

  #close(): void {
    const parts = this.#resp;
    if (parts.length === 0) return;
    const resp = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, this.#bytes);
    const places = this.#places;
    this.#resp = [];
    this.#bytes = 0;
    this.#places = [];
    const position = this.#format(places.at(-1) as P);
    this.#push({
      position,
      resp,
      skip: 0,
      db: this.#db,
      timeMs: this.#timeMs,
      malformed: undefined,
      places,
    });
  }

  #push(entry: BatchedEntry<P>): void {
    this.#entries.push(entry);
    this.#entriesBytes += entry.resp.length;
  }
}
