// Lanes that stand at a marker wait for the word that the gate is closed. One connection listens for all lanes of a process,
// and only while somebody waits: the word comes once for a gate and not once for each of its lanes.
//
// It is a hint that saves work. Whoever misses it parks after a moment and is announced like any lane that sleeps.

import { type Logger, safeMessage } from '../runtime/log.ts';
import type { Link } from '../wire/link.ts';
import type { RawItem } from './item.ts';
import type { JournalKeys } from './keys.ts';

/** Nobody has waited for so long: the connection rests. */
const REST_MS = 5_000;
const BLOCK_MS = 1_000;
const REPLY_MS = 15_000;
const RETRY_MS = 200;
const COUNT = 64;

/** A gate that has executed, and the journal that it stood in; '' where its lanes were stopped behind it. */
export interface ClosedGate {
  readonly gate: number;
  readonly journalId: string;
}

interface Waiter {
  readonly gate: number;
  readonly settle: (closed: ClosedGate | undefined) => void;
}

export class ClosedGates {
  readonly #openLink: () => Link;
  readonly #stream: string;
  readonly #log: Logger;
  readonly #waiters = new Map<number, Waiter>();
  /** Words that came before somebody waited for them. */
  readonly #heard = new Map<number, ClosedGate>();
  #link: Link | undefined;
  #wantedAtMs = 0;
  #closed = false;

  constructor(openLink: () => Link, keys: JournalKeys, log: Logger) {
    this.#openLink = openLink;
    this.#stream = keys.closed;
    this.#log = log;
  }

  /**
   * This gate of the lane, or a later one, as soon as it is closed; undefined when `waitMs` have passed without that. A word is
   * given once.
   */
  wait(lane: number, gate: number, waitMs: number): Promise<ClosedGate | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    this.#wantedAtMs = performance.now();
    const heard = this.#heard.get(lane);
    this.#heard.delete(lane);
    if (heard !== undefined && heard.gate >= gate) return Promise.resolve(heard);
    this.#waiters.get(lane)?.settle(undefined);
    this.#listen();
    return new Promise((resolve) => {
      const settle = (closed: ClosedGate | undefined) => {
        clearTimeout(late);
        if (this.#waiters.get(lane) === waiter) this.#waiters.delete(lane);
        resolve(closed);
      };
      const late = setTimeout(() => settle(undefined), waitMs);
      const waiter = { gate, settle };
      this.#waiters.set(lane, waiter);
    });
  }

  /** Whoever waits gets no word. */
  close(): void {
    this.#closed = true;
    this.#link?.close();
    for (const waiter of [...this.#waiters.values()]) waiter.settle(undefined);
  }

  #listen(): void {
    if (this.#link !== undefined || this.#closed) return;
    const link = this.#openLink();
    this.#link = link;
    this.#follow(link)
      .catch((error: unknown) => this.#log.debug({ err: safeMessage(error) }, 'closed gates'))
      .finally(() => this.#ended(link));
  }

  #ended(link: Link): void {
    link.close();
    if (this.#closed) return;
    const again = () => {
      this.#link = undefined;
      if (this.#waiters.size > 0) this.#listen();
    };
    setTimeout(again, RETRY_MS).unref();
  }

  async #follow(link: Link): Promise<void> {
    // What was closed a moment ago may be what somebody waits for.
    const newest = await link.call(['XREVRANGE', this.#stream, '+', '-', 'COUNT', COUNT]);
    let entries = (newest as unknown as RawItem[]).reverse();
    let last = '0-0';
    for (;;) {
      for (const [id, fields] of entries) {
        last = String(id);
        this.#hear(fields);
      }
      if (this.#waiters.size === 0 && performance.now() - this.#wantedAtMs > REST_MS) return;
      const args = ['XREAD', 'COUNT', COUNT, 'BLOCK', BLOCK_MS, 'STREAMS', this.#stream, last];
      const found = await link.call(args, { timeoutMs: BLOCK_MS + REPLY_MS });
      entries = (found as unknown as [[Buffer, RawItem[]]] | null)?.[0][1] ?? [];
    }
  }

  #hear(fields: RawItem[1]): void {
    const [, gate, , journal, , lanes] = fields.map(String);
    const closed = { gate: Number(gate), journalId: journal ?? '' };
    for (const lane of lanes ? lanes.split(',').map(Number) : []) {
      const waiter = this.#waiters.get(lane);
      if (waiter !== undefined && closed.gate >= waiter.gate) waiter.settle(closed);
      else this.#heard.set(lane, closed);
    }
  }
}
