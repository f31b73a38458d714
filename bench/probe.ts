// Sees the moment at which a logged command takes effect at the target: the log says RPUSH, and a client that is blocked
// in BLPOP is woken by the EXEC that holds it. In database 1, out of reach of a FLUSHDB in database 0.

import { Redis } from 'ioredis';
import { encodeCommand, encodeCommands } from '../src/binlog/resp.ts';
import type { Pipeline } from './pipeline.ts';

const PROBE_DB = 1;
/** Spread over the lanes. */
const PROBE_KEYS = Array.from({ length: 64 }, (_, n) => `probe:${n}`);
const LATE_MS_MAX = 30_000;

export class Probe implements AsyncDisposable {
  readonly #source: Redis;
  readonly #target: Redis;
  readonly #pipeline: Pipeline;
  readonly #watching: Promise<void>;
  readonly #sentAtMs = new Map<number, { atMs: number; seen: (latencyMs: number) => void }>();
  #next = 0;
  #closed = false;

  constructor(pipeline: Pipeline) {
    this.#pipeline = pipeline;
    this.#source = new Redis({ host: '127.0.0.1', port: pipeline.source.port });
    this.#target = new Redis({ host: '127.0.0.1', port: pipeline.target.port, db: PROBE_DB });
    this.#watching = this.#watch();
  }

  /** Appends an entry without a probe; does not wait. */
  append(commands: readonly (readonly string[])[]): void {
    this.#add(encodeCommands(commands));
  }

  /** Appends `commands` and a probe behind them as one entry. Resolves to the ms until the probe is seen. */
  async probe(commands: readonly (readonly string[])[] = []): Promise<number> {
    const n = this.#next++;
    const key = PROBE_KEYS[n % PROBE_KEYS.length] as string;
    const push = [encodeCommand(['SELECT', PROBE_DB]), encodeCommand(['RPUSH', key, String(n)])];
    const resp = Buffer.concat([encodeCommands(commands), ...push]);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(this.#pipeline.explained(`probe ${n} was not seen within 30 s`))),
        LATE_MS_MAX,
      );
    });
    const seen = new Promise<number>((resolve) => {
      this.#sentAtMs.set(n, { atMs: performance.now(), seen: resolve });
    });
    this.#add(resp);
    try {
      return await Promise.race([seen, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** The same way without lanegate: RPUSH at the target itself until BLPOP answers, ms. */
  async floor(): Promise<number> {
    const n = this.#next++;
    const seen = new Promise<number>((resolve) => {
      this.#sentAtMs.set(n, { atMs: performance.now(), seen: resolve });
    });
    const client = this.#pipeline.target.client();
    await client
      .multi()
      .select(PROBE_DB)
      .rpush(PROBE_KEYS[0] as string, String(n))
      .select(0)
      .exec();
    return seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#source.disconnect();
    this.#target.disconnect();
    await this.#watching;
  }

  #add(resp: Buffer): void {
    this.#source.xadd(this.#pipeline.key, '*', 'resp', resp).catch(() => {});
  }

  async #watch(): Promise<void> {
    while (!this.#closed) {
      const found = await this.#target.blpop(PROBE_KEYS, 0).catch((error: unknown) => {
        if (!this.#closed) throw error;
        return null;
      });
      const atMs = performance.now();
      if (found === null) continue;
      const n = Number(found[1]);
      const sent = this.#sentAtMs.get(n);
      this.#sentAtMs.delete(n);
      sent?.seen(atMs - sent.atMs);
    }
  }
}
