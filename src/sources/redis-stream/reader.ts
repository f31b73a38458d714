import { isReplyError, type Session } from './connection.ts';
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

/**
 * One MULTI of XINFO STREAM and XREAD. With `wait` a blocking XREAD goes before it in the same write, only to wait until
 * there is something: what it returns was not read at the moment of any XINFO and cannot be judged.
 */
export async function readBehind(
  session: Session,
  stream: Buffer,
  id: string,
  options: { readonly count: number; readonly wait: boolean },
): Promise<Reading> {
  const { redis } = session;
  const pipeline = redis.pipeline();
  if (options.wait) pipeline.callBuffer('XREAD', 'COUNT', 1, 'BLOCK', BLOCK_MS, 'STREAMS', stream, id);
  pipeline.callBuffer('MULTI');
  pipeline.callBuffer('XINFO', 'STREAM', stream);
  pipeline.callBuffer('XREAD', 'COUNT', options.count, 'STREAMS', stream, id);
  pipeline.callBuffer('EXEC');
  const replies = await pipeline.exec();
  if (replies === null) throw new Error('the pipeline was discarded');
  const failed = replies.find(([error]) => error !== null);
  if (failed !== undefined) throw failed[0];
  const [info, found] = (replies.at(-1) as [null, [unknown, unknown]])[1];
  if (found instanceof Error) throw found;
  const entries = ((found as [Buffer, RawEntry[]][] | null)?.[0]?.[1] ?? []) as readonly RawEntry[];
  return { snapshot: snapshotOf(info), entries, sawEnd: entries.length < options.count };
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
