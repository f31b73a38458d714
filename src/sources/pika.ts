// A live Pika master as source: its binlog is followed as a slave would (pika/link.ts), on the port for slaves.
//
// The position is the end of an item in each database's log, with the replication id. Acknowledgements follow the
// low-water mark: `marked` tells where it is, so that the master sends on; `acknowledge` what may be forgotten. Pika
// forgets whole files, so within the file that `acknowledge` named the mark is acknowledged, and not beyond.

import { join } from 'node:path';
import type { Endpoint } from '../runtime/endpoint.ts';
import type { StopError } from '../runtime/errors.ts';
import { COPY_WANTED, isCopyPosition, parseCopyPosition } from './pika/copy-position.ts';
import { type Attached, Copying } from './pika/copying.ts';
import { EntryMaker } from './pika/entries.ts';
import type { KeyReader } from './pika/key-reader.ts';
import { LINK_TIMINGS, type LinkTimings, PikaLink } from './pika/link.ts';
import type { Node } from './pika/messages.ts';
import {
  comparePlaces,
  coversPika,
  formatPikaPosition,
  isSameAnnouncement,
  type PikaPosition,
  type Place,
  parsePikaPosition,
  positionAt,
} from './pika/position.ts';
import { checkedPosition, databasesOf, givenPosition, type ReadLog } from './pika/read-log.ts';
import { refusedPlace } from './pika/refused-place.ts';
import { EverythingEmptied, type Repair } from './pika/repair.ts';
import { originsOf, Repairing } from './pika/repairing.ts';
import { PikaServer } from './pika/server.ts';
import { databaseNumbers } from './pika/url.ts';
import { readOne, readWindows, timeOf } from './pika/window.ts';
import type {
  Entry,
  From,
  LeftOutKey,
  Position,
  Source,
  SourceHead,
  SourceProgress,
  SourceStart,
  SourceTally,
} from './source.ts';

const CHUNK_BYTES = 1024 * 1024;
const BUFFER_BYTES_MAX = 64 * 1024 * 1024;
const SPOOL_BYTES_MAX = 16 * 1024 ** 3;
/** A file that no log has reached: TrySync refuses it and names the log's end. */
const BEYOND: Place = { filenum: 0xffff_ffff, offset: 0 };

export interface PikaOptions {
  readonly endpoint: Endpoint;
  /** In the order of their names; empty: all of the master's. */
  readonly databases: readonly string[];
  /** Number of a database at the target, where it is not the one in the name. */
  readonly databaseMap?: ReadonlyMap<string, number>;
  /** Whom the master takes us for. */
  readonly node?: Node | undefined;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  /** Received and not read, at which reading from the socket pauses. */
  readonly bufferBytesMax?: number;
  readonly timings?: Partial<LinkTimings>;
  readonly onNotice?: (text: string) => void;
  readonly now?: () => number;
  /** The pipeline. */
  readonly name?: string;
  /** Where the log of a copy is kept, and how much it may hold. */
  readonly dataDir?: string;
  readonly spoolBytesMax?: number;
  /** What the log gets wrong is read at the master; undefined: if that can be read. */
  readonly repair?: boolean | undefined;
}

export class PikaSource implements Source {
  readonly kind = 'pika';
  readonly identity: string;
  readonly display: string;
  readonly replication = false;
  readonly finite = false;
  readonly copiesFrom = COPY_WANTED;
  readonly #options: PikaOptions;
  readonly #server: PikaServer;
  readonly #copying: Copying;
  readonly #repairing: Repairing;
  #wasRead = false;
  readonly #maps = new WeakMap<Entry, EntryMaker>();
  #link: { readonly link: PikaLink; readonly start: PikaPosition } | undefined;
  /** Where the low-water mark is, as far as we were told. */
  #mark: PikaPosition | undefined;
  /** The master may forget what stands before this. */
  #floor: PikaPosition | undefined;
  #isWaitingForMark = false;

  constructor(options: PikaOptions) {
    this.#options = options;
    this.#server = new PikaServer(options.endpoint);
    this.display = options.endpoint.display;
    const { databases, databaseMap = new Map() } = options;
    // A failover changes the host and keeps the log. Which log it is, every position says.
    this.identity = `pika:${databases.join(',') || '*'}`;
    databaseNumbers(databases, databaseMap);
    const {
      endpoint,
      dataDir = '.lanegate',
      name = 'default',
      onNotice = () => {},
      now = Date.now,
    } = options;
    this.#repairing = new Repairing({
      endpoint,
      wanted: options.repair,
      onNotice,
      ends: () => this.#server.ends(),
      now,
    });
    this.#copying = new Copying({
      endpoint,
      spoolRoot: join(dataDir, 'spool', name),
      spoolBytesMax: options.spoolBytesMax ?? SPOOL_BYTES_MAX,
      attach: (from, signal) => this.#attachAll(from, signal, false),
      ends: () => this.#server.ends(),
      onNotice,
      onLeftOut: (db, key, why) => this.#repairing.leaveOut(db, key, why),
      now,
    });
  }

  async resolve(from: From): Promise<SourceStart> {
    if (isCopyPosition(from)) return { position: from };
    const link = await this.#open(new AbortController().signal);
    try {
      const databases = databasesOf(this.#log(link));
      const log = link.master.replicationId;
      if (from !== 'beginning' && from !== 'now') return { position: givenPosition(from, log, databases) };
      const places = new Map<string, Place>();
      for (const db of databases) {
        places.set(db, from === 'now' ? await endOf(link, db) : await this.#beginningOf(link, db));
      }
      return { position: formatPikaPosition(positionAt(log, places)) };
    } finally {
      await link.close();
    }
  }

  async head(): Promise<SourceHead> {
    const ends = await this.#server.ends();
    const { databases } = this.#options;
    const wanted = databases.length === 0 ? [...ends.keys()] : databases;
    const places = new Map(wanted.flatMap((db) => [[db, ends.get(db) ?? BEYOND] as const]));
    return { position: formatPikaPosition(positionAt('', places)) };
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    this.#wasRead = true;
    // The target may have gone back behind it since.
    this.#mark = undefined;
    let at = position;
    let link: PikaLink | undefined;
    let readers: ReadonlyMap<string, KeyReader> | undefined;
    try {
      if (isCopyPosition(at)) {
        for await (const entries of this.#copying.read(parseCopyPosition(at), signal)) {
          yield entries;
          at = entries.at(-1)?.position ?? at;
        }
        if (signal.aborted) return;
      }
      const from = parsePikaPosition(at);
      readers = await this.#repairing.readers(from, signal);
      const { link: attached, start, numbers } = await this.#attachAll(from, signal, readers !== undefined);
      link = attached;
      this.#link = { link, start };
      this.#tell();
      const repair = readers && this.#repairing.repairOf(start, readers);
      await repair?.recall(link, () => this.#tell());
      for await (const entries of this.#entries(link, new EntryMaker(numbers, repair), repair, start)) {
        yield entries;
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof EverythingEmptied) throw await this.#copying.anew(error.message);
      throw error;
    } finally {
      if (this.#link?.link === link) this.#link = undefined;
      this.#isWaitingForMark = false;
      for (const reader of readers?.values() ?? []) void reader.close();
      await link?.close();
    }
  }

  /** Looks once whether the log goes on behind `position`. @throws StopError as `read` would */
  async verify(position: Position): Promise<void> {
    if (isCopyPosition(position)) return;
    const link = await this.#open(new AbortController().signal);
    try {
      for (const [db, place] of checkedPosition(parsePikaPosition(position), this.#log(link)).places) {
        const reply = await link.trySync(db, place);
        if (reply.outcome !== 'accepted') throw refusedPlace(this.display, db, place, reply);
      }
    } finally {
      await link.close();
    }
  }

  positionInside(entry: Entry, taken: number): Position {
    const inCopy = this.#copying.positionInside(entry, taken);
    if (inCopy !== undefined) return inCopy;
    const maker = this.#maps.get(entry);
    if (maker === undefined) throw new Error('the entry is not of this source');
    return maker.positionInside(entry, taken);
  }

  async acknowledge(position: Position): Promise<void> {
    await this.#copying.release(isCopyPosition(position) ? parseCopyPosition(position) : undefined);
    if (isCopyPosition(position)) return;
    this.#floor = parsePikaPosition(position);
    this.marked(position);
  }

  marked(position: Position): void {
    if (isCopyPosition(position)) return;
    this.#mark = parsePikaPosition(position);
    this.#tell();
  }

  wantsMark(): boolean {
    return this.#isWaitingForMark || (this.#link?.link.unacknowledged ?? 0) > 0;
  }

  covers(position: Position, head: Position): boolean {
    return coversPika(position, head);
  }

  entriesBehind(): number | undefined {
    return undefined;
  }

  /** Known of what was received and not read yet. */
  async timeBehind(): Promise<number | undefined> {
    const { link, start } = this.#link ?? {};
    if (link === undefined || start === undefined) return undefined;
    const items = [...start.places.keys()].flatMap((db) => link.peek(db) ?? []);
    return items.length === 0 ? undefined : Math.min(...items.map(timeOf)) * 1000;
  }

  async serverId(): Promise<string | undefined> {
    return await this.#server.runId();
  }

  /** A slave that is gone leaves nothing behind. */
  async forget(apply = false): Promise<readonly string[]> {
    if (apply) await this.#copying.forget();
    return [];
  }

  tally(): SourceTally {
    return this.#repairing.tally;
  }

  takeLeftOut(): readonly LeftOutKey[] {
    return this.#repairing.takeLeftOut();
  }

  progress(): SourceProgress | undefined {
    return this.#copying.progress(this.#wasRead);
  }

  async close(): Promise<void> {
    await this.#server.close();
    await this.#link?.link.close();
  }

  async #open(signal: AbortSignal): Promise<PikaLink> {
    const { endpoint, node, timings, bufferBytesMax = BUFFER_BYTES_MAX } = this.#options;
    const { host, port, password, display } = endpoint;
    const all = { ...LINK_TIMINGS, ...timings };
    return await PikaLink.open({ host, port, display, password, node, timings: all, bufferBytesMax }, signal);
  }

  async *#entries(
    link: PikaLink,
    maker: EntryMaker,
    repair: Repair | undefined,
    start: PikaPosition,
  ): AsyncGenerator<readonly Entry[], void> {
    const { chunkBytes = CHUNK_BYTES, now = Date.now } = this.#options;
    const source = {
      link,
      maker,
      repair,
      chunkBytes,
      now,
      ends: () => this.#server.ends(),
      isMarked: (at: PikaPosition) => this.#isMarked(at),
    };
    const chunks = start.places.size === 1 ? readOne(source, start) : readWindows(source, start);
    for await (const entries of chunks) {
      for (const entry of entries) this.#maps.set(entry, maker);
      yield entries;
    }
  }

  #isMarked(at: PikaPosition): boolean {
    this.#isWaitingForMark = this.#mark === undefined || !isSameAnnouncement(this.#mark, at);
    return !this.#isWaitingForMark;
  }

  /** Tells the master of what is below the mark, but of no file that it must keep. */
  #tell(): void {
    if (this.#link === undefined || this.#mark === undefined) return;
    const { link, start } = this.#link;
    for (const [db, place] of start.places) {
      const mark = this.#mark.places.get(db);
      if (mark === undefined) continue;
      const { filenum } = this.#floor?.places.get(db) ?? place;
      const lastOfFile = { filenum, offset: Number.MAX_SAFE_INTEGER };
      link.acknowledge(db, comparePlaces(mark, lastOfFile) < 0 ? mark : lastOfFile);
    }
    link.poke();
  }

  #log({ master }: PikaLink): ReadLog {
    return { master, wanted: this.#options.databases, display: this.display };
  }

  /** All databases, at these places; at the ends of their logs without. `repairs`: from where a repair reads them. */
  async #attachAll(from: PikaPosition | undefined, signal: AbortSignal, repairs: boolean): Promise<Attached> {
    const link = await this.#open(signal);
    try {
      const start = from === undefined ? await this.#atEnds(link) : checkedPosition(from, this.#log(link));
      const numbers = databaseNumbers(start.places.keys(), this.#options.databaseMap ?? new Map());
      const since = new Map(originsOf(start, repairs));
      for (const [db, place] of start.places) {
        const origin = since.get(db) ?? place;
        const refused = await this.#attach(link, db, origin);
        if (refused === undefined) continue;
        // What it needs of the log in front of the place is a matter of a moment, unless keys are stale.
        const again =
          origin === place || start.through.has(db) ? refused : await this.#attach(link, db, place);
        if (again !== undefined) throw again;
        since.set(db, place);
      }
      return { link, start: { ...start, since }, numbers };
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  async #atEnds(link: PikaLink): Promise<PikaPosition> {
    const places = new Map<string, Place>();
    for (const db of databasesOf(this.#log(link))) places.set(db, await endOf(link, db));
    return positionAt(link.master.replicationId, places);
  }

  /** From the floor, so that the master keeps what is not below the mark; what was read before is not delivered again. */
  async #attach(link: PikaLink, db: string, place: Place): Promise<StopError | undefined> {
    // A copy tells the master only of what it reads: more than a window of items in front of it, and none would come.
    const floor = this.#copying.isUnderWay ? undefined : this.#floor?.places.get(db);
    if (floor !== undefined && comparePlaces(floor, place) < 0) {
      const reply = await link.trySync(db, floor);
      if (reply.outcome === 'accepted') {
        link.begin(db, reply.session, floor, place);
        return undefined;
      }
    }
    const reply = await link.trySync(db, place);
    if (reply.outcome !== 'accepted') return refusedPlace(this.display, db, place, reply);
    link.begin(db, reply.session, place, place);
    return undefined;
  }

  /** The oldest file that is still there, by bisection: older ones are purged, newer ones are not. */
  async #beginningOf(link: PikaLink, db: string): Promise<Place> {
    let [low, high] = [0, (await endOf(link, db)).filenum];
    while (low < high) {
      const filenum = Math.floor((low + high) / 2);
      const { outcome } = await link.trySync(db, { filenum, offset: 0 });
      if (outcome === 'purged') low = filenum + 1;
      else high = filenum;
    }
    if (low > 0)
      this.#options.onNotice?.(
        `the binlog of ${db} at ${this.display} begins with file ${low}: what was written before is not in it`,
      );
    return { filenum: low, offset: 0 };
  }
}

async function endOf(link: PikaLink, db: string): Promise<Place> {
  const { end } = await link.trySync(db, BEYOND);
  if (end === undefined) throw new Error(`the master did not say where the log of ${db} ends`);
  return end;
}
