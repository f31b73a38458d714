// The newest items of a database's log: whose keys a FLUSHDB behind them may have left alive at the master.
//
// Which they are is decided by the log alone, so that whoever reads it again finds the same: the last ITEMS items, as far
// as they stand within BYTES in front of the FLUSHDB (the last FEW in any case), and are no more than SECONDS older by the
// master's clock. Twice of that is kept, so that `start` lies far enough back for every item since.

import { effectOf } from './item-effect.ts';
import type { ReceivedItem } from './link.ts';
import type { Place } from './position.ts';

export const RECENT_ITEMS = 10_000;
export const RECENT_SECONDS = 2;
const BYTES = 4 * 1024 * 1024;
const FEW = 64;
/** Of a larger one only the keys are kept. */
const LARGE_BYTES = 64 * 1024;

interface Kept {
  readonly end: Place;
  readonly timeS: number;
  readonly weight: number;
  readonly what: Buffer | readonly string[];
}

export class Recent {
  #kept: Kept[] = [];
  #bytes = 0;
  #start: Place;

  /** `start`: where the first item that will be pushed begins, or in front of it. */
  constructor(start: Place) {
    this.#start = start;
  }

  /** Who reads from here on has what is kept, and more. */
  get start(): Place {
    return this.#start;
  }

  push({ end, bytes }: ReceivedItem, timeS: number): void {
    const weight = bytes.length;
    this.#kept.push({ end, timeS, weight, what: weight > LARGE_BYTES ? keysOf(bytes) : bytes });
    this.#bytes += weight;
    if (this.#isMoreThan(2)) this.#shorten();
  }

  /** Keys that may have been written behind a FLUSHDB of that time and stand in front of it in the log. */
  keysBefore(timeS: number): Set<string> {
    const keys = new Set<string>();
    for (const { timeS: at, what } of this.#kept.slice(-this.#countingItems())) {
      if (at < timeS - RECENT_SECONDS) continue;
      for (const key of Buffer.isBuffer(what) ? keysOf(what) : what) keys.add(key);
    }
    return keys;
  }

  #isMoreThan(times: number): boolean {
    const { length } = this.#kept;
    return length > RECENT_ITEMS * times || (length > FEW * times && this.#bytes > BYTES * times);
  }

  #shorten(): void {
    const gone = this.#kept.length - this.#countingItems();
    for (const { weight, end } of this.#kept.splice(0, gone)) {
      this.#bytes -= weight;
      this.#start = end;
    }
  }

  /** How many of the newest count. */
  #countingItems(): number {
    let bytes = 0;
    let count = 0;
    while (count < Math.min(this.#kept.length, RECENT_ITEMS)) {
      bytes += this.#kept.at(-1 - count)?.weight ?? 0;
      if (count >= FEW && bytes > BYTES) break;
      count++;
    }
    return count;
  }
}

function keysOf(bytes: Buffer): readonly string[] {
  const effect = effectOf(bytes);
  return effect.kind === 'keys' || effect.kind === 'untold' ? effect.keys : [];
}
