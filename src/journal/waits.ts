import type { Redis } from 'ioredis';
import * as z from 'zod';
import type { JournalKeys } from './keys.ts';

const waitSchema = z.object({ sinceMs: z.number(), code: z.string(), hint: z.string(), worker: z.string() });

export type Wait = z.infer<typeof waitSchema>;
export type WaitPlace = `lane:${number}` | 'gate' | 'source' | 'target' | 'ingest';

/** What this process waits for, where status can see it. Written when a wait begins and ends, not per attempt. */
export class Waits {
  readonly #redis: Redis;
  readonly #keys: JournalKeys;
  readonly #worker: string;
  readonly #open = new Map<WaitPlace, string>();

  constructor(redis: Redis, keys: JournalKeys, worker: string) {
    this.#redis = redis;
    this.#keys = keys;
    this.#worker = worker;
  }

  /** True when this is news. */
  async begin(place: WaitPlace, code: string, hint: string, nowMs: number): Promise<boolean> {
    if (this.#open.get(place) === code) return false;
    const isNew = !this.#open.has(place);
    this.#open.set(place, code);
    const record: Wait = { sinceMs: nowMs, code, hint, worker: this.#worker };
    try {
      await this.#redis.hset(this.#keys.waiting, `${place}|${this.#worker}`, JSON.stringify(record));
    } catch (error) {
      // A queue that takes no writes: said again, until status can see it.
      this.#open.delete(place);
      throw error;
    }
    return isNew;
  }

  /** True when there was a wait to end. */
  async end(place: WaitPlace): Promise<boolean> {
    const code = this.#open.get(place);
    if (code === undefined) return false;
    this.#open.delete(place);
    try {
      await this.#redis.hdel(this.#keys.waiting, `${place}|${this.#worker}`);
    } catch (error) {
      this.#open.set(place, code);
      throw error;
    }
    return true;
  }

  /** Drops what processes that are gone were waiting for. */
  async prune(alive: ReadonlySet<string>): Promise<void> {
    for (const field of await this.#redis.hkeys(this.#keys.waiting)) {
      if (!alive.has(field.slice(field.indexOf('|') + 1))) await this.#redis.hdel(this.#keys.waiting, field);
    }
  }

  /** Waits of workers that are alive; of several at one place the oldest. */
  async all(alive: ReadonlySet<string>): Promise<Map<string, Wait>> {
    const found = new Map<string, Wait>();
    for (const [field, text] of Object.entries(await this.#redis.hgetall(this.#keys.waiting))) {
      const wait = parse(text);
      const place = field.slice(0, field.indexOf('|'));
      const known = found.get(place);
      if (wait && alive.has(wait.worker) && !(known && known.sinceMs <= wait.sinceMs)) found.set(place, wait);
    }
    return found;
  }
}

function parse(text: string): Wait | undefined {
  try {
    const parsed = waitSchema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}
