import { ArenaPair } from '../../wire/arena.ts';
import type { Connection } from '../../wire/connection.ts';
import { LEFT_OUT, type Reply, ReplyError } from '../../wire/replies.ts';
import { isReplyError } from './connection.ts';
import { parseSnapshot, type Snapshot } from './snapshot.ts';

export const BLOCK_MS = 1_000;
/** Bounds what a chunk can weigh when entries grow from one chunk to the next. */
const COUNT_MAX = 1_024;
const GROWTH_MAX = 4;
/** XINFO STREAM sends the first and the last entry along, whatever they weigh, and only their ids are asked for. */
const SHOWN_BYTES_MAX = 1024 * 1024;
export const SHOWN = { aboveBytes: SHOWN_BYTES_MAX };
/** How long one look at a stream whose ends are larger than that serves while nothing is added. */
const DEAR_LOOK_MS = 30_000;

/** XREAD's id and list of names and values. */
export type RawEntry = readonly [Buffer, readonly Buffer[]];

export interface Reading {
  readonly snapshot: Snapshot | undefined;
  readonly entries: readonly RawEntry[];
  /** XREAD returned fewer entries than it was asked for. */
  readonly sawEnd: boolean;
}

/** COUNT for the next XREAD so that its reply weighs about `bytesPerChunk`; grows slowly, shrinks at once. */
export class CountTuner {
  readonly #bytesPerChunk: number;
  #count = 1;

  constructor(bytesPerChunk: number) {
    this.#bytesPerChunk = bytesPerChunk;
  }

  get count(): number {
    return this.#count;
  }

  observe(entries: number, bytes: number): void {
    if (entries === 0) return;
    const wanted = Math.floor(this.#bytesPerChunk / Math.max(1, bytes / entries));
    this.#count = Math.max(1, Math.min(wanted, this.#count * GROWTH_MAX, COUNT_MAX));
  }
}

/** Reads one stream over a raw connection that is this reader's own. A chunk's bytes are good until the next but one. */
export class StreamReader {
  readonly #connection: Connection;
  readonly #stream: Buffer;
  readonly #arenas = new ArenaPair();
  readonly #dear = new DearLook();

  constructor(connection: Connection, stream: Buffer) {
    this.#connection = connection;
    this.#stream = stream;
  }

  /**
   * One MULTI of XINFO STREAM and XREAD. With `wait` a blocking XREAD goes before it in the same write, only to wait
   * until there is something: what it returns was not read at the moment of any XINFO and cannot be judged.
   * Where XINFO is dear, the wait comes first, and while it ends with nothing the look before it is taken for true.
   * @throws ReplyError, ConnectionLost
   */
  async behind(id: string, options: { readonly count: number; readonly wait: boolean }): Promise<Reading> {
    const read = (count: number, ...block: (string | number)[]) => {
      return ['XREAD', 'COUNT', count, ...block, 'STREAMS', this.#stream, id];
    };
    const waiting = options.wait
      ? this.#connection.call(read(1, 'BLOCK', BLOCK_MS), { leaveOut: SHOWN })
      : undefined;
    if (waiting && this.#dear.snapshot !== undefined && (await waiting) === null) {
      const { snapshot } = this.#dear;
      if (snapshot !== undefined) return { snapshot, entries: [], sawEnd: true };
    }
    const judged = [['MULTI'], ['XINFO', 'STREAM', this.#stream], read(options.count), ['EXEC']];
    const calling = this.#connection.callMany(judged, {
      arena: this.#arenas.next(),
      leaveOut: { ...SHOWN, before: 1 },
    });
    const replies = [(await waiting) ?? null, ...(await calling)];
    const failed = replies.find((reply) => reply instanceof ReplyError);
    if (failed instanceof ReplyError) throw failed;
    const [info, found] = replies.at(-1) as [Reply, Reply];
    if (found instanceof ReplyError) throw found;
    const entries = ((found as unknown as [Buffer, RawEntry[]][] | null)?.[0]?.[1] ??
      []) as readonly RawEntry[];
    const snapshot = snapshotOf(info);
    this.#dear.keep(info, snapshot);
    return { snapshot, entries, sawEnd: entries.length < options.count };
  }
}

/** The last look at a stream, if it made the server send what is left out. */
export class DearLook {
  #snapshot: Snapshot | undefined;
  #untilMs = 0;

  /** As long as it serves. */
  get snapshot(): Snapshot | undefined {
    return performance.now() < this.#untilMs ? this.#snapshot : undefined;
  }

  /** `info`: the reply of XINFO STREAM that `snapshot` was made of. */
  keep(info: unknown, snapshot: Snapshot | undefined): void {
    this.#snapshot = isLarge(info) ? snapshot : undefined;
    this.#untilMs = performance.now() + DEAR_LOOK_MS;
  }
}

/** Whether XINFO STREAM's reply had more in it than was read. */
function isLarge(info: unknown): boolean {
  return Array.isArray(info) && (info.includes(LEFT_OUT) || info.some(isLarge));
}

/** undefined: the stream does not exist. */
export function snapshotOf(info: unknown): Snapshot | undefined {
  if (info instanceof Error) {
    if (isMissing(info)) return undefined;
    throw info;
  }
  return parseSnapshot(info as unknown[]);
}

export function isMissing(error: unknown): boolean {
  return isReplyError(error) && /no such key|requires the key to exist/i.test(error.message);
}
