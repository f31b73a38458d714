// Reading lane logs, and waiting for what comes next in them.
//
// Lanes that begin to wait in the same turn of the event loop, as all lanes of a gate do behind it, wait on one connection:
// what wakes one of them mostly wakes all, and each connection costs its write and its wake-up.

import { ArenaPair } from '../wire/arena.ts';
import type { Link } from '../wire/link.ts';
import { type LaneItem, parseLaneItem, type RawItem } from './item.ts';

/** Room for the reply behind the longest wait. */
const REPLY_MS = 15_000;

/** What a lane waits for: up to `itemsMax` items of its stream behind `after`. */
export interface Wanted {
  readonly stream: string;
  readonly after: number;
  readonly itemsMax: number;
}

interface Waiter extends Wanted {
  readonly own: LaneLog;
  readonly waitMs: number;
  readonly resolve: (items: LaneItem[]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Reads lane logs for one reader, one reply at a time. An item's bytes are good until the next but one reply: one may be
 * read ahead while the items of the one before are applied, no more.
 */
export class LaneLog {
  readonly #link: Link;
  readonly #arenas = new ArenaPair();

  constructor(link: Link) {
    this.#link = link;
  }

  get closed(): boolean {
    return this.#link.closed;
  }

  /** Items of a lane's stream behind `after`, oldest first. @throws ConnectionLost, ReplyError */
  async read(stream: string, after: number, itemsMax: number): Promise<LaneItem[]> {
    const args = ['XRANGE', stream, `(${after}-0`, '+', 'COUNT', itemsMax];
    const found = await this.#link.call(args, { arena: this.#arenas.next() });
    return (found as unknown as RawItem[]).map(parseLaneItem);
  }

  /** The same, waiting up to `waitMs` for the first one. */
  async await({ stream, after, itemsMax }: Wanted, waitMs: number): Promise<LaneItem[]> {
    const args = ['XREAD', 'COUNT', itemsMax, 'BLOCK', waitMs, 'STREAMS', stream, `${after}-0`];
    const found = await this.#link.call(args, { arena: this.#arenas.next(), timeoutMs: waitMs + REPLY_MS });
    return (found as unknown as [[Buffer, RawItem[]]] | null)?.[0][1].map(parseLaneItem) ?? [];
  }

  /** For several lanes: what there is of some of them (a Redis below 7.2 tells of one at a time). Memory of its own. */
  async awaitAny(wanted: readonly Wanted[], waitMs: number): Promise<ReadonlyMap<string, LaneItem[]>> {
    const itemsMax = Math.min(...wanted.map((want) => want.itemsMax));
    const streams = wanted.map(({ stream }) => stream);
    const behind = wanted.map(({ after }) => `${after}-0`);
    const args = ['XREAD', 'COUNT', itemsMax, 'BLOCK', waitMs, 'STREAMS', ...streams, ...behind];
    const found = await this.#link.call(args, { timeoutMs: waitMs + REPLY_MS });
    const lists = (found ?? []) as unknown as readonly (readonly [Buffer, RawItem[]])[];
    return new Map(lists.map(([stream, items]) => [String(stream), items.map(parseLaneItem)]));
  }

  close(): void {
    this.#link.close();
  }
}

/** The lane logs of a process: each is lent to one reader at a time, with its connection and memory. */
export class LaneLogs {
  readonly #openLink: () => Link;
  readonly #idle: LaneLog[] = [];
  readonly #shared = new Set<LaneLog>();
  #gathering: Waiter[] | undefined;

  constructor(openLink: () => Link) {
    this.#openLink = openLink;
  }

  take(): LaneLog {
    return this.#idle.pop() ?? new LaneLog(this.#openLink());
  }

  giveBack(log: LaneLog): void {
    if (!log.closed) this.#idle.push(log);
  }

  /** Items as soon as there are any, none behind `waitMs`. `own` is the lane's, and waits for it unless others wait as well. */
  await(wanted: Wanted, waitMs: number, own: LaneLog): Promise<LaneItem[]> {
    return new Promise((resolve, reject) => {
      if (this.#gathering === undefined) {
        const together: Waiter[] = [];
        this.#gathering = together;
        setImmediate(() => {
          this.#gathering = undefined;
          void this.#await(together);
        });
      }
      this.#gathering.push({ ...wanted, waitMs, own, resolve, reject });
    });
  }

  close(): void {
    for (const log of [...this.#idle.splice(0), ...this.#shared]) log.close();
  }

  async #await(waiters: readonly Waiter[]): Promise<void> {
    const [only, ...others] = waiters as [Waiter, ...Waiter[]];
    if (others.length === 0) {
      await only.own.await(only, only.waitMs).then(only.resolve, only.reject);
      return;
    }
    const log = this.take();
    this.#shared.add(log);
    let left = waiters;
    const endMs = performance.now() + Math.min(...waiters.map(({ waitMs }) => waitMs));
    try {
      for (let restMs = endMs - performance.now(); left.length > 0 && restMs > 0; ) {
        // Rounded down it could be 0, which is for ever.
        const found = await log.awaitAny(left, Math.ceil(restMs));
        if (found.size === 0) break;
        for (const { stream, resolve } of left) {
          const items = found.get(stream);
          if (items !== undefined) resolve(items);
        }
        left = left.filter(({ stream }) => !found.has(stream));
        restMs = endMs - performance.now();
      }
      for (const { resolve } of left) resolve([]);
    } catch (error) {
      for (const { reject } of left) reject(error);
    }
    this.#shared.delete(log);
    this.giveBack(log);
  }
}
