// A Redis Stream as source: entries are read in order behind a position, every chunk is judged for loss before it is
// yielded (redis-stream/loss.ts), and progress is shown at the source as a consumer group (redis-stream/group.ts).
//
// read:  open a session
//        look ------> judge ------> ask for the next look ------> yield the chunk ------> await that look, again
//                       |
//                       +-- lost, rewound, wrong type: StopError
//
// A session never reconnects. On any trouble `read` throws, and the caller reads on from its own position; the control
// session (acknowledge, head, ...) is opened when it is needed and thrown away when it has ended.

import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError, StopError } from '../runtime/errors.ts';
import { Connection, ConnectionLost } from '../wire/connection.ts';
import type { Argument } from '../wire/encode.ts';
import { Link } from '../wire/link.ts';
import type { Reply } from '../wire/replies.ts';
import { isReplyError, Session } from './redis-stream/connection.ts';
import { readEntry } from './redis-stream/entry.ts';
import { ProgressGroup } from './redis-stream/group.ts';
import { judge, type Look, positionIsGone, type Verdict } from './redis-stream/loss.ts';
import {
  coversPlace,
  entriesBetween,
  formatPlace,
  type Place,
  parsePlace,
  readThrough,
  ZERO_ID,
} from './redis-stream/position.ts';
import {
  CountTuner,
  DearLook,
  type RawEntry,
  type Reading,
  SHOWN,
  StreamReader,
  snapshotOf,
} from './redis-stream/reader.ts';
import type { Snapshot } from './redis-stream/snapshot.ts';
import type { Entry, From, Position, Source, SourceHead, SourceStart } from './source.ts';

const CHUNK_BYTES = 1024 * 1024;
/** A blocking XREAD ends after 1 s, so a live server is never silent so long; an entry may hold one huge command. */
const READING = { connectTimeoutMs: 10_000, maxReplyBytes: 2 * 1024 ** 3 };
const SILENCE_MS = 10_000;
/** Before a reply of gigabytes a server may be silent for longer: the next try gives it more. */
const SILENCE_MS_MAX = 80_000;
/** Read one after the other, not ahead. */
const HUGE_BYTES = 16 * 1024 * 1024;

export interface RedisStreamOptions {
  readonly endpoint: Endpoint;
  readonly key: Buffer | string;
  /** The pipeline: names the consumer group. */
  readonly name: string;
  /** Delete from the stream what is acknowledged and read by every other group. */
  readonly trimSource?: boolean;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  /** Something an operator should know, said once per topic. */
  readonly onNotice?: (text: string) => void;
}

export class RedisStreamSource implements Source {
  readonly kind = 'redis-stream';
  readonly finite = false;
  readonly replication = false;
  readonly identity: string;
  readonly display: string;
  readonly #endpoint: Endpoint;
  readonly #key: Buffer;
  readonly #keyText: string;
  readonly #name: string;
  readonly #trimSource: boolean;
  readonly #chunkBytes: number;
  readonly #onNotice: (text: string) => void;
  readonly #group: ProgressGroup;
  readonly #looks: Link;
  #silenceMs = SILENCE_MS;
  #control: Promise<Session> | undefined;
  readonly #dear = new DearLook();
  #closed = false;
  #toldOldServer = false;

  constructor(options: RedisStreamOptions) {
    this.#endpoint = options.endpoint;
    this.#key = Buffer.from(options.key);
    this.#keyText = printable(this.#key);
    this.#name = options.name;
    this.#trimSource = options.trimSource ?? false;
    this.#chunkBytes = options.chunkBytes ?? CHUNK_BYTES;
    this.#onNotice = options.onNotice ?? (() => {});
    this.#group = new ProgressGroup({ key: this.#key, pipeline: options.name, onNotice: this.#onNotice });
    this.#looks = new Link(() => this.#open(`lanegate:${options.name}:looks`));
    this.identity = `redis-stream:${options.endpoint.db}/${this.#keyText}`;
    this.display = options.endpoint.display;
  }

  async resolve(from: From): Promise<SourceStart> {
    if (from !== 'beginning' && from !== 'now') return { position: formatPlace(parsePlace(from)) };
    const snapshot = await this.#snapshot();
    const place = from === 'now' ? endOf(snapshot) : beginningOf(snapshot);
    return { position: formatPlace({ ...place, taken: undefined }) };
  }

  entriesBehind(position: Position, head: Position): number | undefined {
    return entriesBetween(position, head);
  }

  async head(): Promise<SourceHead> {
    const snapshot = await this.#newestSnapshot();
    // XSETID can put last-generated-id where no entry is; then a position would never reach it.
    const id = snapshot?.lastId ?? snapshot?.lastGeneratedId ?? ZERO_ID;
    const entriesRead = snapshot === undefined ? 0 : snapshot.entriesAdded;
    return { position: formatPlace({ id, taken: undefined, entriesRead, holesThrough: undefined }) };
  }

  async timeBehind(position: Position): Promise<number | undefined> {
    const after = readThrough(parsePlace(position));
    const reply = await this.#look(['XRANGE', this.#key, `(${after}`, '+', 'COUNT', 1]);
    const [first] = reply as unknown as [Buffer, Buffer[]][];
    return first && readEntry(String(first[0]), first[1], position, 0).timeMs;
  }

  covers(position: Position, head: Position): boolean {
    return coversPlace(position, head);
  }

  positionInside(entry: Entry, taken: number): Position {
    const place = parsePlace(entry.position);
    const entriesRead = place.entriesRead === undefined ? undefined : place.entriesRead - 1;
    return formatPlace({ ...place, taken, entriesRead });
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    let place = parsePlace(position);
    let connection: Connection | undefined;
    const abort = () => connection?.close();
    try {
      connection = await this.#open(`lanegate:${this.#name}`, signal);
      if (signal.aborted) return;
      signal.addEventListener('abort', abort, { once: true });
      const reader = new StreamReader(connection, this.#key);
      const tuner = new CountTuner(this.#chunkBytes);
      let wasGone = false;
      let next = reader.behind(readThrough(place), { count: tuner.count, wait: false });
      for (;;) {
        const reading = await next;
        this.#silenceMs = SILENCE_MS;
        const verdict = this.#judge(place, reading, wasGone);
        const chunk = chunkOf(reading.entries, place, verdict.entriesRead);
        tuner.observe(chunk.entries.length, chunk.bytes);
        wasGone = chunk.entries.length === 0 && positionIsGone(place, reading.snapshot);
        place = chunk.place;
        // The chunk before this one has been used up, and its memory is taken for the one after this.
        const goOn = () => reader.behind(readThrough(place), { count: tuner.count, wait: reading.sawEnd });
        const isHuge = chunk.bytes > HUGE_BYTES;
        if (!isHuge) next = goOn();
        // Awaited only after the consumer has come back, perhaps never.
        next.catch(() => {});
        if (chunk.entries.length > 0) yield chunk.entries;
        if (signal.aborted) return;
        if (isHuge) next = goOn();
      }
    } catch (error) {
      if (signal.aborted) return;
      this.#beMorePatient(error);
      throw this.#explain(error);
    } finally {
      signal.removeEventListener('abort', abort);
      connection?.close();
    }
  }

  async verify(position: Position): Promise<void> {
    const place = parsePlace(position);
    const connection = await this.#open(`lanegate:${this.#name}`);
    try {
      const reader = new StreamReader(connection, this.#key);
      const reading = await reader.behind(readThrough(place), { count: 1, wait: false });
      this.#judge(place, reading, false);
    } catch (error) {
      throw this.#explain(error);
    } finally {
      connection.close();
    }
  }

  async acknowledge(position: Position): Promise<void> {
    const place = parsePlace(position);
    await this.#ask(async ({ redis }) => {
      await this.#group.move(redis, place);
      if (this.#trimSource) await this.#group.trim(redis, place);
    });
  }

  async serverId(): Promise<string | undefined> {
    const server = await this.#ask(({ redis }) => redis.info('server'));
    return /^run_id:(\w+)/m.exec(server)?.[1];
  }

  async forget(apply: boolean): Promise<readonly string[]> {
    const snapshot = await this.#snapshot();
    if (snapshot === undefined) return [];
    return this.#ask(async ({ redis }) => {
      if (!(await this.#group.exists(redis))) return [];
      if (apply) await this.#group.destroy(redis);
      return [`consumer group ${this.#group.name} of the stream ${this.#keyText} at ${this.display}`];
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#looks.close();
    const control = this.#control;
    this.#control = undefined;
    await control?.then((session) => session.close()).catch(() => {});
  }

  #judge(place: Place, reading: Reading, wasGone: boolean): Extract<Verdict, { kind: 'whole' }> {
    const { snapshot, entries, sawEnd } = reading;
    if (snapshot !== undefined && snapshot.entriesAdded === undefined && !this.#toldOldServer) {
      this.#toldOldServer = true;
      this.#onNotice(
        `the source ${this.display} is older than Redis 7.0: that entries are lost before they are read cannot be excluded`,
      );
    }
    const firstFound = entries[0]?.[0].toString('latin1');
    const look: Look = { snapshot, found: entries.length, firstFound, sawEnd, wasGone };
    const verdict = judge(place, look);
    if (verdict.kind === 'lost')
      throw this.#lost(place, firstFound ?? snapshot?.lastGeneratedId ?? ZERO_ID, verdict);
    if (verdict.kind === 'rewound') throw this.#rewound(place, verdict.why);
    return verdict;
  }

  #lost(place: Place, to: string, { count }: { readonly count: number | undefined }): StopError {
    const many = count === undefined ? 'entries' : count === 1 ? '1 entry' : `${count} entries`;
    const sure = count === undefined ? ' (or cannot be shown to be whole)' : '';
    return new StopError(
      'SOURCE_LOST',
      `${many} of the stream ${this.#keyText} behind ${place.id} and before ${to} were deleted before they were read${sure}`,
      {
        hint: this.#startOver(),
        facts: { from: formatPlace(place), to, ...(count === undefined ? {} : { count }) },
      },
    );
  }

  #rewound(place: Place, why: string): StopError {
    return new StopError(
      'SOURCE_REWOUND',
      `the stream ${this.#keyText} was read up to ${place.id} and is another one now: ${why}`,
      { hint: this.#startOver(), facts: { from: formatPlace(place) } },
    );
  }

  #startOver(): string {
    return `restore the stream, or start over: lanegate reset --name ${this.#name}, then lanegate run --from beginning --target-data replace (or keep)`;
  }

  #explain(error: unknown): unknown {
    if (!isReplyError(error) || !error.message.startsWith('WRONGTYPE')) return error;
    return new StopError('SOURCE_TYPE', `the key ${this.#keyText} at ${this.display} is no stream`, {
      hint: `name the key of a stream: --source "...?key=NAME" (redis-cli TYPE ${this.#keyText} shows what it is)`,
      cause: error,
    });
  }

  /** A look that made the server send huge entries along is not taken again while nothing was added. */
  async #newestSnapshot(): Promise<Snapshot | undefined> {
    const known = this.#dear.snapshot;
    if (known !== undefined) {
      const args = ['XREAD', 'COUNT', 1, 'STREAMS', this.#key, known.lastGeneratedId];
      if ((await this.#look(args)) === null) return known;
    }
    return await this.#snapshot();
  }

  async #snapshot(): Promise<Snapshot | undefined> {
    const info = await this.#look(['XINFO', 'STREAM', this.#key]).catch((error: unknown) => {
      if (isReplyError(error)) return error;
      throw error;
    });
    const snapshot = snapshotOf(info);
    this.#dear.keep(info, snapshot);
    return snapshot;
  }

  async #look(args: readonly Argument[]): Promise<Reply> {
    if (this.#closed) throw new AbortedError('the source is closed');
    try {
      return await this.#looks.call(args, { leaveOut: SHOWN });
    } catch (error) {
      this.#beMorePatient(error);
      throw this.#explain(error);
    }
  }

  #open(name: string, signal?: AbortSignal): Promise<Connection> {
    return Connection.open(this.#endpoint, { ...READING, name, replyTimeoutMs: this.#silenceMs, signal });
  }

  #beMorePatient(error: unknown): void {
    const wasSilent = error instanceof ConnectionLost && error.sent;
    if (wasSilent) this.#silenceMs = Math.min(SILENCE_MS_MAX, this.#silenceMs * 2);
  }

  async #ask<T>(work: (session: Session) => Promise<T>): Promise<T> {
    if (this.#closed) throw new AbortedError('the source is closed');
    this.#control ??= Session.open(this.#endpoint, `lanegate:${this.#name}:control`);
    const control = this.#control;
    let session: Session | undefined;
    try {
      session = await control;
      return await work(session);
    } catch (error) {
      if ((session === undefined || session.ended) && this.#control === control) this.#control = undefined;
      throw this.#explain(session === undefined ? error : session.explain(error));
    }
  }
}

function beginningOf(snapshot: Snapshot | undefined): Omit<Place, 'taken'> {
  if (snapshot === undefined) return { id: ZERO_ID, entriesRead: 0, holesThrough: undefined };
  const { entriesAdded, length, maxDeletedId } = snapshot;
  return {
    id: ZERO_ID,
    entriesRead: entriesAdded === undefined ? undefined : entriesAdded - length,
    holesThrough: maxDeletedId === ZERO_ID ? undefined : maxDeletedId,
  };
}

function endOf(snapshot: Snapshot | undefined): Omit<Place, 'taken'> {
  if (snapshot === undefined) return { id: ZERO_ID, entriesRead: 0, holesThrough: undefined };
  return { id: snapshot.lastGeneratedId, entriesRead: snapshot.entriesAdded, holesThrough: undefined };
}

interface Chunk {
  readonly entries: readonly Entry[];
  readonly bytes: number;
  /** Behind the last entry. */
  readonly place: Place;
}

function chunkOf(raw: readonly RawEntry[], from: Place, entriesRead: number | undefined): Chunk {
  const entries: Entry[] = [];
  let place: Place = { ...from, entriesRead };
  let bytes = 0;
  for (const [idBytes, fields] of raw) {
    const id = idBytes.toString('latin1');
    const skip = place.id === id ? (place.taken ?? 0) : 0;
    const read = place.entriesRead === undefined ? undefined : place.entriesRead + 1;
    place = { id, taken: undefined, entriesRead: read, holesThrough: place.holesThrough };
    entries.push(readEntry(id, fields, formatPlace(place), skip));
    for (const field of fields) bytes += field.length;
  }
  return { entries, bytes, place };
}

/** Bytes that are not plain text are percent-encoded, as in the URL. */
function printable(bytes: Buffer): string {
  return bytes.toString('latin1').replace(/[^\w.:{}/-]/g, (byte) => {
    return `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`;
  });
}
