// A copy of a Pika's data while its master goes on writing, made over RESP and the binlog alone. The method is DBLog's
// (watermarks), with this rule: at any time each key of the target is either
//   exact   it is what the log, read up to `at`, has led to; items that change it are passed on
//   stale   it may be anything; items that change it are dropped, and it will be read from the master
//   ahead   it was read at `through`, beyond `at`; items up to there are dropped, and then it is exact
// An item is passed on only if all its keys are exact. If not, it is dropped, and those of its keys that were exact become
// stale: so RENAME and the like need no thought, and a non-idempotent command is neither lost nor doubled.
//
//   scan    every key of the database is stale, so nothing is passed on. SCAN's pages are read and written to the target.
//           What the log touches meanwhile is remembered as stale: it may have been read before or after. When the pages
//           are over, the log is read on to where it ends then: what was read cannot hold more than that, because keys are
//           read in one MULTI with INFO, which waits until the writes that it sees are logged (key-reader.ts).
//   settle  what SCAN has read and the log has not touched is exact. The stale keys are few; they are read in the same way,
//           and the end of the log that INFO told is their `through`.
//   settled the copy is over when every database is so at once; the log goes on where it is read.
//
// FLUSHDB is passed on at any time, and the database is scanned anew: what it holds then is what was written since, and
// what Pika logged in front of its FLUSHDB though it was written behind it. FLUSHALL does the same for all of them.
// A large key is read in pieces while it is stale. It becomes exact if no item touched it between the first piece and the
// end of the log that a last transaction on it tells; after some vain tries it is read at once.
// A key that SCAN has not met may have gone in a write that is not logged yet. An item of that key alone then does nothing;
// one of several keys (RENAME) is passed on only if each of them was read in a settling.
// What a log does not tell (an APPEND logged as an empty value) makes its key stale. So nothing of it is to be repaired later (repair.ts).

import { encodeCommand } from '../../binlog/resp.ts';
import { type CopyRecord, type CopySpool, type StoredRecord, tells } from './copy-spool.ts';
import type { CopiedDatabase, CopyDelta } from './copy-state.ts';
import { effectOf, type ItemEffect } from './item-effect.ts';
import type { KeyReader, ReadKey } from './key-reader.ts';
import type { PikaLink, ReceivedItem } from './link.ts';
import { comparePlaces, type Place, type Places } from './position.ts';
import { NOTHING } from './read-item.ts';
import { Recent } from './recent.ts';
import { timeOf } from './window.ts';

const BATCH_KEYS = 64;
const RECORD_BYTES = 256 * 1024;
const FOLLOW_BYTES = 1024 * 1024;
const LARGE_TRIES = 5;
const CONFIRMED_MAX = 100_000;
const FLUSHALL = encodeCommand(['FLUSHALL']);

export interface CopyOptions {
  readonly spool: CopySpool;
  readonly link: PikaLink;
  /** Database of the target for each one of the source. */
  readonly numbers: ReadonlyMap<string, number>;
  readonly reader: (db: string) => KeyReader;
  readonly ends: () => Promise<Places>;
  /** A key that the target cannot hold. */
  readonly onLeftOut: (db: string, key: Buffer, why: string) => void;
  readonly now: () => number;
}

export class Copy {
  readonly #options: CopyOptions;
  /** A large key that is being read in pieces, and whether the log has touched it since. */
  #watched: { readonly db: string; readonly key: string; touched: boolean } | undefined;
  readonly #tries = new Map<string, number>();
  /** `<db> <key>` of keys that were read while settling; forgetting them costs another reading. */
  readonly #confirmed = new Set<string>();
  /** For the repair of what comes behind the copy. */
  readonly #recent = new Map<string, Recent>();

  constructor(options: CopyOptions) {
    this.#options = options;
  }

  /** The first record of a new log: the target is emptied, and each database is read from its place on. */
  static firstRecord(log: string, places: Places, timeMs: number): CopyRecord {
    const begin: CopyDelta = { kind: 'begin', log, places: [...places] };
    return { db: 0, timeMs, keys: 0, resp: FLUSHALL, deltas: [begin] };
  }

  /** Goes on to the end of the copy. What it yields is durable. */
  async *run(): AsyncGenerator<readonly StoredRecord[], void> {
    const { spool, ends, now } = this.#options;
    const { state } = spool;
    if (state.ended) return;
    const databases = [...state.databases.keys()];
    do {
      for (const db of databases) yield* this.#settle(db);
      // One moment for all: a FLUSHALL stands in the log of one database, and empties the others too.
      const places = await ends();
      for (const db of databases) yield* this.#follow(db, endIn(places, db));
    } while (!databases.every((db) => state.isExact(db)));
    const end: CopyDelta = { kind: 'end' };
    yield await this.#append([{ db: 0, timeMs: now(), keys: 0, resp: NOTHING, deltas: [end] }]);
  }

  async *#settle(db: string): AsyncGenerator<readonly StoredRecord[], void> {
    const one = this.#options.spool.state.of(db);
    for (;;) {
      if (one.ahead !== undefined) {
        yield* this.#follow(db, one.ahead.through);
        if (one.ahead !== undefined) await this.#append([this.#silent(db, { kind: 'met', db })]);
      } else if (one.cursor !== undefined) {
        yield* this.#scanPage(db, one, one.cursor);
        yield* this.#follow(db, undefined);
      } else if (one.stale.size > 0) yield* this.#readStale(db, one);
      else return;
    }
  }

  async *#scanPage(
    db: string,
    one: CopiedDatabase,
    from: string,
  ): AsyncGenerator<readonly StoredRecord[], void> {
    const reader = this.#options.reader(db);
    const run = await reader.runId();
    // Another run of the server may know nothing of the cursor.
    const { cursor, keys } = await reader.scan(one.run === run ? from : '0');
    const wanted = keys.filter((key) => !one.stale.has(key.toString('latin1')));
    const large: Buffer[] = [];
    const changed: string[] = [];
    for (let at = 0; at < wanted.length; at += BATCH_KEYS) {
      const read = await reader.read(wanted.slice(at, at + BATCH_KEYS));
      for (const value of read.keys) {
        if (value.kind === 'large') large.push(value.key);
        else if (value.kind === 'changed') changed.push(value.key.toString('latin1'));
      }
      yield await this.#append(this.#recordsOf(db, read.keys));
    }
    for (const key of large) {
      yield* this.#writePieces(db, key);
      // Until what the pieces saw is logged.
      await reader.ends(key);
    }
    const { emptied } = one;
    if (cursor === undefined) yield* this.#follow(db, endIn(await this.#options.ends(), db));
    // Meanwhile the scan may have begun again.
    if (one.emptied !== emptied) return;
    const deltas: CopyDelta[] = [
      { kind: 'scanned', db, cursor: cursor ?? null, run, keys: wanted.length },
      { kind: 'stale', db, keys: changed },
    ];
    await this.#append([this.#silent(db, ...deltas)]);
  }

  async *#readStale(db: string, one: CopiedDatabase): AsyncGenerator<readonly StoredRecord[], void> {
    const keys = firstOf(one.stale, BATCH_KEYS).map((key) => Buffer.from(key, 'latin1'));
    const { keys: read, ends } = await this.#options.reader(db).read(keys);
    const whole = read.filter(({ kind }) => kind === 'whole');
    const large = read.find(({ kind }) => kind === 'large');
    if (whole.length > 0) yield* this.#writeAhead(db, whole, ends);
    else if (large !== undefined) yield* this.#readLarge(db, large.key);
  }

  async *#writeAhead(
    db: string,
    read: readonly ReadKey[],
    ends: Places,
  ): AsyncGenerator<readonly StoredRecord[], void> {
    const through = endIn(ends, db);
    const keys = read.map(({ key }) => key.toString('latin1'));
    if (this.#confirmed.size > CONFIRMED_MAX) this.#confirmed.clear();
    for (const key of keys) this.#confirmed.add(`${db} ${key}`);
    const fresh: CopyDelta = { kind: 'fresh', db, keys, through };
    yield await this.#append(this.#recordsOf(db, read, fresh));
  }

  async *#readLarge(db: string, bytes: Buffer): AsyncGenerator<readonly StoredRecord[], void> {
    const reader = this.#options.reader(db);
    const key = bytes.toString('latin1');
    const tries = (this.#tries.get(key) ?? 0) + 1;
    this.#tries.set(key, tries);
    if (tries > LARGE_TRIES) {
      const { keys, ends } = await reader.read([bytes], true);
      if (keys[0]?.kind === 'whole') yield* this.#writeAhead(db, keys, ends);
      return;
    }
    this.#watched = { db, key, touched: false };
    try {
      yield* this.#writePieces(db, bytes);
      const through = endIn(await reader.ends(bytes), db);
      yield* this.#follow(db, through);
      if (this.#watched.touched) return;
      await this.#append([this.#silent(db, { kind: 'fresh', db, keys: [key], through: null })]);
      this.#tries.delete(key);
    } finally {
      this.#watched = undefined;
    }
  }

  async *#writePieces(db: string, key: Buffer): AsyncGenerator<readonly StoredRecord[], void> {
    const head = { db: this.#numberOf(db), timeMs: this.#options.now(), keys: 0, deltas: [] };
    for await (const commands of this.#options.reader(db).pieces(key))
      yield await this.#append([{ ...head, resp: Buffer.concat(commands) }]);
  }

  /** Reads the log of `db` up to `end`, or some of what is there. */
  async *#follow(db: string, end: Place | undefined): AsyncGenerator<readonly StoredRecord[], void> {
    const { link, spool } = this.#options;
    const one = spool.state.of(db);
    for (;;) {
      if (end !== undefined && comparePlaces(one.at, end) >= 0) return;
      // Nor is a scan of hours gone on with beside a link that has ended: while none is attached, the master may purge.
      await link.until(() => end === undefined || link.peek(db) !== undefined);
      let bytes = 0;
      const items = link.shiftWhile(db, (item) => {
        const fits = bytes < FOLLOW_BYTES && (end === undefined || comparePlaces(item.end, end) <= 0);
        bytes += item.bytes.length;
        return fits;
      });
      // The first one behind `end` is here: there is none up to it.
      if (items.length === 0) return;
      const stored = await this.#append(this.#passOn(db, one, items));
      link.acknowledge(db, one.at);
      if (stored.length > 0) yield stored;
      // More may come for ever.
      if (end === undefined) return;
    }
  }

  #passOn(db: string, one: CopiedDatabase, items: readonly ReceivedItem[]): CopyRecord[] {
    const records: CopyRecord[] = [];
    let parts: Buffer[] = [];
    let deltas: CopyDelta[] = [];
    let timeMs = this.#options.now();
    const recent = this.#recent.get(db) ?? new Recent(one.since);
    this.#recent.set(db, recent);
    const change = (delta: CopyDelta) => {
      this.#options.spool.state.apply(delta);
      deltas.push(delta);
    };
    const close = () => {
      change({ kind: 'read', db, at: one.at, since: recent.start });
      records.push({ db: this.#numberOf(db), timeMs, keys: 0, resp: Buffer.concat(parts), deltas });
      [parts, deltas] = [[], []];
    };
    for (const item of items) {
      const { bytes, end } = item;
      if (one.ahead !== undefined && comparePlaces(end, one.ahead.through) > 0) change({ kind: 'met', db });
      const effect = effectOf(bytes);
      if (effect.kind === 'malformed') {
        close();
        const { why: malformed, bytes: resp } = effect;
        one.at = end;
        const read: CopyDelta = { kind: 'read', db, at: end, since: recent.start };
        records.push({ db: this.#numberOf(db), timeMs, keys: 0, resp, malformed, deltas: [read] });
        continue;
      }
      if (effect.kind !== 'nothing') timeMs = effect.timeS * 1000;
      recent.push(item, timeOf(item));
      const resp = this.#judge(db, one, effect, change);
      if (resp !== undefined) parts.push(resp);
      one.at = end;
      if (sizeOf(parts) >= RECORD_BYTES) close();
    }
    if (parts.length > 0 || deltas.length > 0 || records.length === 0) close();
    else records.push(this.#silent(db, { kind: 'read', db, at: one.at, since: recent.start }));
    return records;
  }

  /** What is passed on of the item. */
  #judge(
    db: string,
    one: CopiedDatabase,
    effect: Exclude<ItemEffect, { kind: 'malformed' }>,
    change: (delta: CopyDelta) => void,
  ): Buffer | undefined {
    switch (effect.kind) {
      case 'nothing':
        return undefined;
      case 'empties': {
        this.#confirmed.clear();
        const everywhere = effect.what === 'everything';
        const emptied = everywhere ? this.#options.spool.state.databases.keys() : [db];
        for (const name of emptied) {
          change({ kind: 'again', db: name });
          if (this.#watched?.db === name) this.#watched.touched = true;
        }
        return effect.resp;
      }
      case 'all':
        // What was read behind it must not see it now.
        if (one.ahead !== undefined) {
          change({ kind: 'stale', db, keys: [...one.ahead.keys] });
          change({ kind: 'met', db });
        }
        if (this.#watched?.db === db) this.#watched.touched = true;
        return effect.resp;
    }
    const { keys } = effect;
    if (this.#watched?.db === db && keys.includes(this.#watched.key)) this.#watched.touched = true;
    const exact = keys.filter(
      (key) => one.cursor === undefined && !one.stale.has(key) && !one.ahead?.keys.has(key),
    );
    const isSure = keys.length === 1 || keys.every((key) => this.#confirmed.has(`${db} ${key}`));
    if (effect.kind === 'keys' && exact.length === keys.length && isSure) return effect.resp;
    const stale = one.cursor === undefined ? exact : keys.filter((key) => !one.stale.has(key));
    if (stale.length > 0) change({ kind: 'stale', db, keys: stale });
    return undefined;
  }

  #recordsOf(db: string, read: readonly ReadKey[], ...deltas: readonly CopyDelta[]): CopyRecord[] {
    const head = { db: this.#numberOf(db), timeMs: this.#options.now() };
    const records: CopyRecord[] = [];
    let parts: Buffer[] = [];
    let keys = 0;
    const close = (said: readonly CopyDelta[]) => {
      records.push({ ...head, keys, resp: Buffer.concat(parts), deltas: said });
      [parts, keys] = [[], 0];
    };
    for (const value of read) {
      if (value.kind !== 'whole') continue;
      if (value.lost !== undefined) this.#options.onLeftOut(db, value.key, value.lost);
      parts.push(...value.commands);
      keys++;
      if (sizeOf(parts) >= RECORD_BYTES) close([]);
    }
    for (const delta of deltas) this.#options.spool.state.apply(delta);
    close(deltas);
    return records;
  }

  #silent(db: string, ...deltas: readonly CopyDelta[]): CopyRecord {
    for (const delta of deltas) this.#options.spool.state.apply(delta);
    const head = { db: this.#numberOf(db), timeMs: this.#options.now(), keys: 0 };
    return { ...head, resp: Buffer.alloc(0), deltas };
  }

  /** Those that have commands. */
  async #append(records: readonly CopyRecord[]): Promise<readonly StoredRecord[]> {
    const stored = await this.#options.spool.append(records);
    return stored.filter(tells);
  }

  #numberOf(db: string): number {
    return this.#options.numbers.get(db) ?? 0;
  }
}

function endIn(ends: Places, db: string): Place {
  const end = ends.get(db);
  if (end === undefined) throw new Error(`INFO names no binlog of ${db}`);
  return end;
}

function firstOf<T>(set: ReadonlySet<T>, count: number): T[] {
  const found: T[] = [];
  for (const one of set) {
    if (found.length === count) break;
    found.push(one);
  }
  return found;
}

function sizeOf(parts: readonly Buffer[]): number {
  return parts.reduce((sum, { length }) => sum + length, 0);
}
