import { setTimeout as delay } from 'node:timers/promises';
import { AbortedError } from './errors.ts';

/** Grows by 2 up to `maxMs`, spread over the whole range so that many processes do not come back in step. */
export class Backoff {
  readonly #minMs: number;
  readonly #maxMs: number;
  readonly #random: () => number;
  #ceilingMs: number;

  constructor(options: { minMs: number; maxMs: number; random?: () => number }) {
    this.#minMs = options.minMs;
    this.#maxMs = Math.max(options.minMs, options.maxMs);
    this.#random = options.random ?? Math.random;
    this.#ceilingMs = this.#minMs;
  }

  /** The next delay: from minMs to a ceiling that doubles with each call, never above maxMs. */
  next(): number {
    this.#ceilingMs = Math.min(this.#maxMs, this.#ceilingMs * 2);
    return Math.round(this.#minMs + this.#random() * (this.#ceilingMs - this.#minMs));
  }

  reset(): void {
    this.#ceilingMs = this.#minMs;
  }
}

/** @throws AbortedError as soon as `signal` is aborted, also if it was before. */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, { signal });
  } catch (error) {
    if (signal.aborted) throw new AbortedError();
    throw error;
  }
}
