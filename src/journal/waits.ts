import type { Redis } from 'ioredis';
import { z } from 'zod';
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
    await this.#redis.hset(this.#keys.waiting, `${place}|${this.#worker}`, JSON.stringify(record));
    return isNew;
  }

  /** True when there was a wait to end. */
  async end(place: WaitPlace): Promise<boolean> {
    if (!this.#open.delete(place)) return false;
    await this.#redis.hdel(this.#keys.waiting, `${place}|${this.#worker}`);
    return true;
  }

  /** Waits of workers that are alive. */
  async all(alive: ReadonlySet<string>): Promise<Map<string, Wait>> {
    const found = new Map<string, Wait>();
    for (const [field, text] of Object.entries(await this.#redis.hgetall(this.#keys.waiting))) {
      const parsed = waitSchema.safeParse(JSON.parse(text));
      if (parsed.success && alive.has(parsed.data.worker))
        found.set(field.slice(0, field.indexOf('|')), parsed.data);
    }
    return found;
  }
}
