// A running server as source: lanegate is one of its replicas. What that means for a reader:
//
//   read(wanted), or a position that the source's backlog does not reach
//        FULLRESYNC --> a link and a spool begin --> LogReplaced(snap:...:start)       the caller makes that durable
//   read(snap:...)      FLUSHALL, the keys of the spooled snapshot, then the stream
//   read(<replid>:...)  CONTINUE --> the stream
//
// The link (redis-link/link.ts) receives on its own while nobody reads, and lives on for a while between two reads. A
// position in a snapshot is good as long as its spool is here and whole; else there is another full sync.

import { join } from 'node:path';
import { RdbError } from '../rdb/rdb-error.ts';
import type { RestoreRules } from '../rdb/rdb-log.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError, StopError } from '../runtime/errors.ts';
import { type Attached, type AttachOptions, attachAnew, attachAt } from './redis-link/attach.ts';
import { SourceControl } from './redis-link/control.ts';
import { CommandCutter } from './redis-link/cutter.ts';
import { placeInside } from './redis-link/inside.ts';
import type { Link } from './redis-link/link.ts';
import { placeOfNow } from './redis-link/now.ts';
import {
  areOfOneHistory,
  coversPlace,
  formatSnapshot,
  formatStream,
  type Place,
  parsePlace,
  type SnapshotPlace,
  type StreamPlace,
  WANTED,
} from './redis-link/position.ts';
import { readSnapshot } from './redis-link/snapshot-entries.ts';
import { SnapshotFile } from './redis-link/snapshot-file.ts';
import { Spool } from './redis-link/spool.ts';
import {
  type Entry,
  type From,
  LogReplaced,
  type Position,
  type Source,
  type SourceHead,
  type SourceProgress,
  type SourceStart,
} from './source.ts';

const CHUNK_BYTES = 1024 * 1024;
const MEMORY_BYTES_MAX = 16 * 1024 * 1024;
const SPOOL_BYTES_MAX = 16 * 1024 ** 3;
const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;
const SILENCE_MS_MAX = 60_000;
const TELL_MS = 1_000;
/** A link that nobody reads from ends after this: another process may have taken over. */
const LINGER_MS = 30_000;

export interface RedisLinkOptions {
  readonly endpoint: Endpoint;
  /** What the log is called in the identity. */
  readonly logName: string;
  /** The pipeline. */
  readonly name: string;
  /** Where the spool is kept. */
  readonly dataDir: string;
  /** What the target takes; asked for when a snapshot begins. */
  readonly restoreRules: () => Promise<RestoreRules>;
  readonly spoolBytesMax?: number | undefined;
  /** Bytes of the stream that wait in memory for the reader. */
  readonly memoryBytesMax?: number | undefined;
  readonly transactionBytesMax?: number | undefined;
  readonly chunkBytes?: number | undefined;
  /** How often the source is told what is acknowledged. */
  readonly tellMs?: number | undefined;
  /** Silence of the source after which the link is given up. */
  readonly silenceMsMax?: number | undefined;
  /** The port that the source shows for this replica; 0 for none. */
  readonly announcePort?: number | undefined;
  readonly onNotice?: ((text: string) => void) | undefined;
}

export class RedisLinkSource implements Source {
  readonly kind = 'redis-link';
  readonly finite = false;
  readonly replication = true;
  readonly copiesFrom = 'beginning';
  readonly identity: string;
  readonly display: string;
  readonly #options: RedisLinkOptions;
  readonly #attaching: AttachOptions;
  readonly #control: SourceControl;
  #link: Link | undefined;
  #linger: NodeJS.Timeout | undefined;
  /** The log that the link has begun, until it is read: whoever asks for the same place again is told the same. */
  #offer: { readonly instead: Position; readonly replaced: LogReplaced } | undefined;
  /** The link whose leftovers are removed. */
  #tidied: Link | undefined;
  #isReading = false;
  #wasRead = false;
  #acknowledged: StreamPlace | undefined;
  #loading = false;
  #loadedBytes = 0;
  #keys = 0;
  #closed = false;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#attaching = {
      endpoint: options.endpoint,
      spoolRoot: join(options.dataDir, 'spool', options.name),
      spoolBytesMax: options.spoolBytesMax ?? SPOOL_BYTES_MAX,
      memoryBytesMax: options.memoryBytesMax ?? MEMORY_BYTES_MAX,
      silenceMsMax: options.silenceMsMax ?? SILENCE_MS_MAX,
      tellMs: options.tellMs ?? TELL_MS,
      announcePort: options.announcePort ?? 0,
      onNotice: (text) => this.#notice(text),
    };
    this.#control = new SourceControl(options.endpoint, `lanegate:${options.name}:control`);
    this.identity = `redis-link:${options.logName}`;
    this.display = options.endpoint.display;
  }

  async resolve(from: From): Promise<SourceStart> {
    if (from === 'beginning') return { position: WANTED };
    if (from === 'now') {
      const replication = await this.#control.replication();
      return { position: await placeOfNow(this.#attaching, replication?.role) };
    }
    const place = parsePlace(from);
    return { position: place.kind === 'stream' ? formatStream(place, place.db) : from };
  }

  /** Where the user may not ask for it: what the link has received. */
  async head(): Promise<SourceHead> {
    const replication = await this.#control.replication();
    if (replication !== undefined) return { position: formatStream(replication.at, 0, replication.before) };
    if (this.#link === undefined) return { position: WANTED, unknown: true };
    const { start, before, stream } = this.#link.parts;
    return { position: formatStream({ replid: start.replid, offset: stream.end }, 0, before) };
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    const place = parsePlace(position);
    this.#wasRead = true;
    this.#isReading = true;
    clearTimeout(this.#linger);
    try {
      const link = await this.#linkTo(position, signal);
      this.#offer = undefined;
      let at: { readonly offset: number; readonly db: number };
      if (place.kind === 'snapshot') {
        yield* this.#readSnapshot(link, place, signal);
        if (signal.aborted) return;
        const { snapshot } = link.parts;
        at = { offset: place.offset, db: snapshot ? await snapshot.streamDb(signal) : 0 };
      } else at = place as StreamPlace;
      yield* this.#readStream(link, at, signal);
    } catch (error) {
      if (signal.aborted) return;
      throw error;
    } finally {
      this.#loading = false;
      this.#isReading = false;
      this.#lingerOn();
    }
  }

  positionInside(entry: Entry, taken: number): Position {
    return placeInside(entry, taken);
  }

  async acknowledge(position: Position): Promise<void> {
    const place = parsePlace(position);
    if (place.kind !== 'stream') return;
    this.#acknowledged = place;
    await this.#passOn();
  }

  covers(position: Position, head: Position): boolean {
    return coversPlace(position, head);
  }

  comparable(position: Position, head: Position): boolean {
    return areOfOneHistory(position, head);
  }

  entriesBehind(): undefined {
    return undefined;
  }

  async timeBehind(position: Position): Promise<number | undefined> {
    const place = parsePlace(position);
    if (place.kind === 'stream') return this.#link?.parts.stream.timeAt(place.offset);
    return place.kind === 'snapshot' ? beganAtMs(place) : undefined;
  }

  serverId(): Promise<string | undefined> {
    return this.#control.runId();
  }

  /** Nothing of a replica stays at its source. What is spooled here goes with `apply`. */
  async forget(apply: boolean): Promise<readonly string[]> {
    if (apply) {
      await this.#drop();
      await Spool.removeAll(this.#attaching.spoolRoot);
    }
    return [];
  }

  progress(): SourceProgress | undefined {
    if (!this.#wasRead) return undefined;
    const parts = this.#link?.parts;
    const receivedBytes = parts?.snapshot?.receivedBytes ?? 0;
    return {
      phase: this.#phase(),
      receivedBytes,
      totalBytes: parts?.snapshot?.totalBytes,
      loadedBytes: this.#loadedBytes,
      keys: this.#keys,
      spooledBytes: this.#link?.spool?.bytes ?? 0,
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#drop();
    await this.#control.close();
  }

  #phase(): SourceProgress['phase'] {
    const link = this.#link;
    if (link === undefined || link.failure !== undefined) return 'connecting';
    if (link.parts.stream.isBlocked) return 'full';
    if (this.#loading && this.#loadedBytes > 0) return 'loading';
    if (link.phase !== 'streaming') return link.phase;
    return this.#loading ? 'loading' : 'streaming';
  }

  /** @throws LogReplaced when another log begins instead */
  async #linkTo(position: Position, signal: AbortSignal): Promise<Link> {
    if (this.#closed) throw new AbortedError('the source is closed');
    const place = parsePlace(position);
    const open = this.#link;
    if (open !== undefined && open.failure === undefined) {
      if (fits(open, place)) return open;
      if (this.#offer?.instead === position) throw this.#offer.replaced;
    }
    await this.#drop();
    const isItsOwn = place.kind === 'snapshot' && open?.spool?.id === place.spool;
    if (isItsOwn && open?.failure instanceof StopError) throw open.failure;
    // Asked for before a full sync can begin: a target that does not answer must not cost the source a snapshot each time.
    const rules = await this.#options.restoreRules();
    const { link, replaced } = await this.#attach(place, signal);
    this.#link = link;
    if (replaced === undefined) {
      await this.#passOn();
      return link;
    }
    this.#offer = { instead: position, replaced: this.#begin(link, rules, replaced) };
    throw this.#offer.replaced;
  }

  async #attach(place: Place, signal: AbortSignal): Promise<Attached> {
    const anew = async (replaced: string) => ({ link: await attachAnew(this.#attaching, signal), replaced });
    if (place.kind === 'wanted') return anew('a full sync begins');
    if (place.kind === 'stream') return attachAt(this.#attaching, place, undefined, signal);
    const { spoolRoot, spoolBytesMax } = this.#attaching;
    const spool = await Spool.find(spoolRoot, place.spool, spoolBytesMax);
    const file = spool && (await SnapshotFile.complete(spool));
    if (spool !== undefined && file !== undefined)
      return attachAt(this.#attaching, place, { spool, file }, signal);
    return anew(
      `the snapshot ${place.spool} was not received to its end, or is not on this machine: another full sync begins`,
    );
  }

  /** The link's log takes the place of the one that was asked for. */
  #begin(link: Link, rules: RestoreRules, reason: string): LogReplaced {
    this.#acknowledged = undefined;
    this.#loadedBytes = 0;
    this.#keys = 0;
    const { spool, start } = link.parts;
    if (spool === undefined) throw new Error('a full sync without a spool');
    const position = formatSnapshot({ ...start, ...rules, spool: spool.id, at: 'start', taken: 0 });
    this.#notice(reason);
    return new LogReplaced(position, reason);
  }

  async *#readSnapshot(
    link: Link,
    place: SnapshotPlace,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Entry[], void> {
    const { snapshot, spool } = link.parts;
    if (snapshot === undefined || spool === undefined) return;
    // The caller has made this position durable: whatever came before is over.
    await spool.removeOlder();
    this.#loading = true;
    this.#loadedBytes = typeof place.at === 'string' ? 0 : place.at.offset;
    try {
      const chunks = readSnapshot({
        place,
        file: snapshot,
        timeMs: beganAtMs(place),
        signal,
        onNotice: (text) => this.#notice(text),
        onRead: (keys, offset) => {
          this.#keys += keys;
          this.#loadedBytes = offset;
        },
      });
      for await (const entries of chunks) {
        yield entries;
        // Attached again at once, the source keeps the stream for us meanwhile.
        if (link.failure !== undefined) throw link.failure;
      }
    } catch (error) {
      // An abort, or the link's end, cuts the file short as well.
      if (!(error instanceof RdbError) || signal.aborted) throw error;
      await this.#drop();
      await spool.remove();
      throw new StopError('SNAPSHOT_MALFORMED', `the source's snapshot cannot be read: ${error.message}`, {
        hint: 'lanegate lane resume ingest   (asks the source for another one)',
        cause: error,
      });
    }
    this.#loading = false;
  }

  async *#readStream(
    link: Link,
    { offset, db }: { readonly offset: number; readonly db: number },
    signal: AbortSignal,
  ): AsyncGenerator<readonly Entry[], void> {
    const { stream, start } = link.parts;
    if (!stream.seek(offset)) throw new Error(`the stream is not here from ${offset} on`);
    const chunkBytes = this.#options.chunkBytes ?? CHUNK_BYTES;
    const transactionBytesMax = this.#options.transactionBytesMax ?? TRANSACTION_BYTES_MAX;
    const cutter = new CommandCutter({ replid: start.replid, offset, db, transactionBytesMax });
    for (;;) {
      let piece = await stream.next(signal);
      if (piece === undefined) return;
      const entries: Entry[] = [];
      let bytes = 0;
      while (piece !== undefined) {
        for (const entry of cutter.push(piece.bytes, piece.timeMs)) entries.push(entry);
        bytes += piece.bytes.length;
        piece = bytes < chunkBytes ? stream.take() : undefined;
      }
      if (entries.length > 0) yield entries;
      if (signal.aborted) return;
    }
  }

  /** The acknowledged offset, to the source and to the spool. */
  async #passOn(): Promise<void> {
    const [link, place] = [this.#link, this.#acknowledged];
    if (link === undefined || place === undefined || !link.knows(place)) return;
    // In the snapshot phase of this link an older log may still be acknowledged.
    if (place.offset < link.parts.start.offset) return;
    link.acknowledge(place.offset);
    await link.parts.stream.release(place.offset);
    if (this.#tidied === link) return;
    // From here on the link needs no snapshot, and nobody needs what earlier links left.
    this.#tidied = link;
    await link.spool?.removeSnapshot();
    const { spoolRoot } = this.#attaching;
    await Spool.removeOlderThan(spoolRoot, link.spool?.id ?? Spool.idAt(link.openedAtMs));
  }

  async #drop(): Promise<void> {
    clearTimeout(this.#linger);
    const link = this.#link;
    this.#link = undefined;
    await link?.close();
  }

  #lingerOn(): void {
    clearTimeout(this.#linger);
    if (this.#link === undefined) return;
    this.#linger = setTimeout(() => {
      if (!this.#isReading) void this.#drop();
    }, LINGER_MS);
    this.#linger.unref();
  }

  #notice(text: string): void {
    this.#options.onNotice?.(text);
  }
}

function fits(link: Link, place: Place): boolean {
  if (place.kind === 'wanted') return false;
  const { spool, snapshot, stream } = link.parts;
  if (place.kind === 'snapshot' && (spool?.id !== place.spool || snapshot === undefined)) return false;
  return link.knows(place) && stream.seek(place.offset);
}

/** A spool's id begins with the time. */
function beganAtMs(place: SnapshotPlace): number {
  return Number.parseInt(place.spool.slice(0, 9), 36);
}
