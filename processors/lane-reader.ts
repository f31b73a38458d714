import type { LaneItem } from '../src/journal/item.ts';
import type { LaneLog } from '../src/journal/lane-log.ts';
import { AbortedError } from '../src/runtime/errors.ts';
import type { PipelineContext } from './context.ts';

const ITEMS_MIN = 4;
/** With so much in hand, what follows is fetched meanwhile. */
const FETCH_AHEAD_BYTES_MIN = 4 * 1024;
/** Bounds memory: an item may weigh as much as a round. */
const ITEMS_MAX = 32;

/** Items of one lane's log: those in hand, those on their way, and those still to come. */
export class LaneReader {
  readonly #context: PipelineContext;
  readonly #log: LaneLog;
  readonly #stream: string;
  readonly #signal: AbortSignal;
  #items: LaneItem[] = [];
  #itemsMax = ITEMS_MIN;
  /** Whether fetching ahead pays: the last read found as much as it asked for, or much to apply. */
  #fetchesAhead = true;
  #prefetch: Promise<LaneItem[]> | undefined;

  constructor(context: PipelineContext, lane: number, signal: AbortSignal) {
    this.#context = context;
    const { keys } = context.journal;
    this.#log = context.laneLogs.take();
    this.#stream = keys.log(lane);
    this.#signal = signal;
  }

  /** In hand, in log order. */
  get items(): readonly LaneItem[] {
    return this.#items;
  }

  /** The first `count` items are done with. */
  drop(count: number): void {
    this.#items.splice(0, count);
  }

  clear(): void {
    this.#items = [];
    this.#prefetch = undefined;
  }

  /** While the `taken` items in hand are applied, what follows `after` is fetched, if anything is likely to be there. */
  fetchAhead(taken: number, after: number): void {
    if (!this.#fetchesAhead || this.#prefetch || this.#items.length > taken || this.#items.length === 0)
      return;
    this.#prefetch = this.#log.read(this.#stream, after, this.#itemsMax);
    this.#prefetch.catch(() => {});
  }

  /** Fills an empty hand with what follows `after`; with `linger` it waits a moment for it. False: there is nothing. */
  async fill(after: number, linger: boolean): Promise<boolean> {
    let items: LaneItem[];
    try {
      items = await this.#next(after, linger);
    } catch (error) {
      // Perhaps the reply was larger than one may be.
      this.#itemsMax = 1;
      throw error;
    }
    const bytes = items.reduce((sum, item) => sum + item.commands.length, 0);
    this.#fetchesAhead = items.length >= this.#itemsMax || bytes >= FETCH_AHEAD_BYTES_MIN;
    if (items.length === 0) return false;
    this.#tune(items.length, bytes);
    this.#items.push(...items);
    return true;
  }

  close(): void {
    this.#context.laneLogs.giveBack(this.#log);
  }

  async #next(after: number, linger: boolean): Promise<LaneItem[]> {
    let items = this.#prefetch ? await this.#prefetch : [];
    this.#prefetch = undefined;
    if (items.length === 0 && linger) items = await this.#linger(after);
    if (items.length === 0) items = await this.#log.read(this.#stream, after, this.#itemsMax);
    return items;
  }

  /** The next item is mostly a moment away: a job that ended would cost it a round through the queue. */
  async #linger(after: number): Promise<LaneItem[]> {
    const { laneLogs, options } = this.#context;
    if (options.lingerMs <= 0) return [];
    const wanted = { stream: this.#stream, after, itemsMax: this.#itemsMax };
    return await this.#untilAborted(() => laneLogs.await(wanted, options.lingerMs, this.#log));
  }

  /** A clean stop ends a wait at once. */
  #untilAborted<T>(wait: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const stop = () => {
        this.#log.close();
        reject(new AbortedError());
      };
      if (this.#signal.aborted) {
        stop();
        return;
      }
      this.#signal.addEventListener('abort', stop, { once: true });
      wait()
        .then(resolve, reject)
        .finally(() => this.#signal.removeEventListener('abort', stop));
    });
  }

  #tune(count: number, bytes: number): void {
    const { chunkBytesMax } = this.#context.options;
    if (count === this.#itemsMax && bytes < chunkBytesMax)
      this.#itemsMax = Math.min(ITEMS_MAX, this.#itemsMax * 2);
    else if (bytes > chunkBytesMax * 4) this.#itemsMax = Math.max(ITEMS_MIN, this.#itemsMax >> 1);
  }
}
