// A live Pika master as source: its binlog is followed as a slave would (pika/link.ts), on the port for slaves.
//
// The position is the end of an item in each database's log, with the replication id. Acknowledgements follow the
// low-water mark: `marked` tells where it is, so that the master sends on; `acknowledge` what may be forgotten. Pika
// forgets whole files, so within the file that `acknowledge` named the mark is acknowledged, and not beyond.

import { join } from 'node:path';
import type { Endpoint } from '../runtime/endpoint.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import { COPY_WANTED, isCopyPosition, parseCopyPosition } from './pika/copy-position.ts';
import { type Attached, Copying } from './pika/copying.ts';
import { EntryMaker } from './pika/entries.ts';
import { LINK_TIMINGS, type LinkTimings, PikaLink } from './pika/link.ts';
import type { Node } from './pika/messages.ts';
import {
  comparePlaces,
  coversPika,
  formatPikaPosition,
  formatPlaces,
  type PikaPosition,
  type Place,
  type Places,
  parsePikaPosition,
} from './pika/position.ts';
import { refusedPlace } from './pika/refused-place.ts';
import { PikaServer } from './pika/server.ts';
import { databaseNumbers } from './pika/url.ts';
import { readOne, readWindows, timeOf } from './pika/window.ts';
import type { Entry, From, Position, Source, SourceHead, SourceProgress, SourceStart } from './source.ts';

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
    this.#copying = new Copying({
      endpoint,
      spoolRoot: join(dataDir, 'spool', name),
      spoolBytesMax: options.spoolBytesMax ?? SPOOL_BYTES_MAX,
      attach: (from, signal) => this.#attachAll(from, signal),
      ends: () => this.#server.ends(),
      onNotice,
      now,
    });
  }

  async resolve(from: From): Promise<SourceStart> {
    if (isCopyPosition(from)) return { position: from };
    const link = await this.#open(new AbortController().signal);
    try {
      const databases = this.#databasesOf(link);
      const log = link.master.replicationId;
      if (from !== 'beginning' && from !== 'now') return { position: this.#given(from, log, databases) };
      const places = new Map<string, Place>();
      for (const db of databases) {
        places.set(db, from === 'now' ? await endOf(link, db) : await this.#beginningOf(link, db));
      }
      return { position: formatPikaPosition({ log, places, window: undefined, announced: false }) };
    } finally {
      await link.close();
    }
  }

  async head(): Promise<SourceHead> {
    const ends = await this.#server.ends();
    const { databases } = this.#options;
    const wanted = databases.length === 0 ? [...ends.keys()] : databases;
    const places = new Map(wanted.flatMap((db) => [[db, ends.get(db) ?? BEYOND] as const]));
    return { position: formatPikaPosition({ log: '', places, window: undefined, announced: false }) };
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    this.#wasRead = true;
    // The target may have gone back behind it since.
    this.#mark = undefined;
    let at = position;
    let link: PikaLink | undefined;
    try {
      if (isCopyPosition(at)) {
        for await (const entries of this.#copying.read(parseCopyPosition(at), signal)) {
          yield entries;
          at = entries.at(-1)?.position ?? at;
        }
        if (signal.aborted) return;
      }
      const { link: attached, start, numbers } = await this.#attachAll(parsePikaPosition(at), signal);
      link = attached;
      this.#link = { link, start };
      this.#tell();
      for await (const entries of this.#entries(link, new EntryMaker(numbers), start)) {
        yield entries;
        if (signal.aborted) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    } finally {
      if (this.#link?.link === link) this.#link = undefined;
      this.#isWaitingForMark = false;
      await link?.close();
    }
  }

  /** Looks once whether the log goes on behind `position`. @throws StopError as `read` would */
  async verify(position: Position): Promise<void> {
    if (isCopyPosition(position)) return;
    const link = await this.#open(new AbortController().signal);
    try {
      for (const [db, place] of this.#checked(parsePikaPosition(position), link).places) {
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
    if (apply) await this.#copying.release(undefined);
    return [];
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
    start: PikaPosition,
  ): AsyncGenerator<readonly Entry[], void> {
    const { chunkBytes = CHUNK_BYTES, now = Date.now } = this.#options;
    const source = {
      link,
      maker,
      chunkBytes,
      ends: () => this.#server.ends(),
      isMarked: (window: Places) => this.#isMarked(window),
    };
    const chunks = start.places.size === 1 ? readOne(source, start) : readWindows(source, start, now);
    for await (const entries of chunks) {
      for (const entry of entries) this.#maps.set(entry, maker);
      yield entries;
    }
  }

  #isMarked(window: Places): boolean {
    const marked = this.#mark?.window;
    this.#isWaitingForMark = marked === undefined || formatPlaces(marked) !== formatPlaces(window);
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

  #databasesOf(link: PikaLink): readonly string[] {
    const { databases } = this.#options;
    const there = link.master.databases;
    const missing = databases.filter((db) => !there.includes(db));
    if (missing.length > 0) {
      throw new StopError('PIKA_DATABASE', `${this.display} has no ${missing.join(', ')}`, {
        hint: `name databases that it has in ?db=: ${there.join(', ')}`,
      });
    }
    return databases.length > 0 ? databases : [...there].sort();
  }

  /** A position that an operator wrote, made whole. */
  #given(from: Position, log: string, databases: readonly string[]): Position {
    const given = parsePikaPosition(from);
    const missing = databases.filter((db) => !given.places.has(db));
    const strange = [...given.places.keys()].filter((db) => !databases.includes(db));
    if (missing.length > 0 || strange.length > 0) {
      throw new ConfigurationError([
        `--from: the position must name the databases that are read: ${databases.join(', ')}`,
      ]);
    }
    return formatPikaPosition({ ...given, log: given.log || log, window: undefined, announced: false });
  }

  #checked(given: PikaPosition, link: PikaLink): PikaPosition {
    const { replicationId } = link.master;
    if (given.log !== '' && replicationId !== '' && given.log !== replicationId) {
      throw new StopError(
        'PIKA_OTHER_LOG',
        `${this.display} has the replication id ${replicationId}, and the log that was read is ${given.log}`,
        { hint: "point --source at that log's master, or a slave of it; or start over: lanegate reset" },
      );
    }
    const databases = this.#databasesOf(link);
    const missing = [...given.places.keys()].filter((db) => !databases.includes(db));
    const added = databases.filter((db) => !given.places.has(db));
    if (missing.length > 0 || added.length > 0) {
      throw new StopError(
        'PIKA_DATABASE',
        `the databases of ${this.display} are ${databases.join(', ')}, and those that were read ${[...given.places.keys()].join(', ')}`,
        { hint: 'give the master the databases that it had; or start over: lanegate reset' },
      );
    }
    return { ...given, log: given.log || replicationId };
  }

  /** All databases, at these places; at the ends of their logs without. */
  async #attachAll(from: PikaPosition | undefined, signal: AbortSignal): Promise<Attached> {
    const link = await this.#open(signal);
    try {
      const start = from === undefined ? await this.#atEnds(link) : this.#checked(from, link);
      const numbers = databaseNumbers(start.places.keys(), this.#options.databaseMap ?? new Map());
      for (const [db, place] of start.places) await this.#attach(link, db, place);
      return { link, start, numbers };
    } catch (error) {
      await link.close();
      throw error;
    }
  }

  async #atEnds(link: PikaLink): Promise<PikaPosition> {
    const places = new Map<string, Place>();
    for (const db of this.#databasesOf(link)) places.set(db, await endOf(link, db));
    return { log: link.master.replicationId, places, window: undefined, announced: false };
  }

  /** From the floor, so that the master keeps what is not below the mark; what was read before is not delivered again. */
  async #attach(link: PikaLink, db: string, place: Place): Promise<void> {
    const floor = this.#floor?.places.get(db);
    if (floor !== undefined && comparePlaces(floor, place) < 0) {
      const reply = await link.trySync(db, floor);
      if (reply.outcome === 'accepted') return link.begin(db, reply.session, floor, place);
    }
    const reply = await link.trySync(db, place);
    if (reply.outcome === 'accepted') return link.begin(db, reply.session, place, place);
    throw refusedPlace(this.display, db, place, reply);
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
