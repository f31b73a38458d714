import { ArenaPair } from '../wire/arena.ts';
import type { Link } from '../wire/link.ts';
import { type LaneItem, parseLaneItem, type RawItem } from './item.ts';

/** Room for the reply behind the longest wait. */
const REPLY_MS = 15_000;

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
  async await(stream: string, after: number, itemsMax: number, waitMs: number): Promise<LaneItem[]> {
    const args = ['XREAD', 'COUNT', itemsMax, 'BLOCK', waitMs, 'STREAMS', stream, `${after}-0`];
    const found = await this.#link.call(args, { arena: this.#arenas.next(), timeoutMs: waitMs + REPLY_MS });
    return (found as unknown as [[Buffer, RawItem[]]] | null)?.[0][1].map(parseLaneItem) ?? [];
  }

  close(): void {
    this.#link.close();
  }
}

/** The lane logs of a process: each is lent to one reader at a time, with its connection and memory. */
export class LaneLogs {
  readonly #openLink: () => Link;
  readonly #idle: LaneLog[] = [];

  constructor(openLink: () => Link) {
    this.#openLink = openLink;
  }

  take(): LaneLog {
    return this.#idle.pop() ?? new LaneLog(this.#openLink());
  }

  giveBack(log: LaneLog): void {
    if (!log.closed) this.#idle.push(log);
  }

  close(): void {
    for (const log of this.#idle.splice(0)) log.close();
  }
}
