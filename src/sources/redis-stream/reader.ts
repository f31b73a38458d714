import { ArenaPair } from '../../wire/arena.ts';
import type { Connection } from '../../wire/connection.ts';
import { type Reply, ReplyError } from '../../wire/replies.ts';
import { isReplyError } from './connection.ts';
import { parseSnapshot, type Snapshot } from './snapshot.ts';

export const BLOCK_MS = 1_000;
/** Bounds what a chunk can weigh when entries grow from one chunk to the next. */
const COUNT_MAX = 1_024;
const GROWTH_MAX = 4;

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

  constructor(connection: Connection, stream: Buffer) {
    this.#connection = connection;
    this.#stream = stream;
  }

  /**
   * One MULTI of XINFO STREAM and XREAD. With `wait` a blocking XREAD goes before it in the same write, only to wait
   * until there is something: what it returns was not read at the moment of any XINFO and cannot be judged.
   * @throws ReplyError, ConnectionLost
   */
  async behind(id: string, options: { readonly count: number; readonly wait: boolean }): Promise<Reading> {
    const read = (count: number, ...block: (string | number)[]) => {
      return ['XREAD', 'COUNT', count, ...block, 'STREAMS', this.#stream, id];
    };
    const waiting = options.wait ? [read(1, 'BLOCK', BLOCK_MS)] : [];
    const judged = [['MULTI'], ['XINFO', 'STREAM', this.#stream], read(options.count), ['EXEC']];
    const replies = await this.#connection.callMany([...waiting, ...judged], { arena: this.#arenas.next() });
    const failed = replies.find((reply) => reply instanceof ReplyError);
    if (failed instanceof ReplyError) throw failed;
    const [info, found] = replies.at(-1) as [Reply, Reply];
    if (found instanceof ReplyError) throw found;
    const entries = ((found as unknown as [Buffer, RawEntry[]][] | null)?.[0]?.[1] ??
      []) as readonly RawEntry[];
    return { snapshot: snapshotOf(info), entries, sawEnd: entries.length < options.count };
  }
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
