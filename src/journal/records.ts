import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { JournalKeys } from './keys.ts';

const stopSchema = z.object({
  generation: z.string(),
  seq: z.int(),
  position: z.string(),
  command: z.string(),
  key: z.string().nullable(),
  reason: z.string(),
  hint: z.string(),
  /** The command itself was applied (an error reply inside EXEC): going on needs no decision about it. */
  behind: z.boolean(),
  atMs: z.number(),
});

/** Why a lane, a gate or ingest stands still. Belongs to (generation, seq). */
export type StopRecord = z.infer<typeof stopSchema>;

/** `lane:<l>`, `gate:<seq>` or `ingest`. */
export type StopPlace = `lane:${number}` | `gate:${number}` | 'ingest';

export type Counter =
  | 'fenced'
  | 'duplicatesDropped'
  | 'retries'
  | 'divergences'
  | 'unverified'
  | 'deadLettered';

export interface Divergence {
  readonly kind: 'error-reply' | 'unverified';
  readonly generation: string;
  readonly seq: number;
  readonly through: number;
  readonly lanes: readonly number[];
  readonly command: string | null;
  readonly key: string | null;
  readonly reason: string;
  readonly atMs: number;
}

/** Stops, skips, dead letters, divergences and counters: what operators see and decide. */
export class Records {
  readonly #redis: Redis;
  readonly #keys: JournalKeys;

  constructor(redis: Redis, keys: JournalKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  async stop(place: StopPlace, record: StopRecord): Promise<void> {
    await this.#redis.hset(this.#keys.stops, place, JSON.stringify(record));
  }

  /** The stop in force; one of another generation is void. */
  async stopAt(place: StopPlace, generation: string): Promise<StopRecord | undefined> {
    const text = await this.#redis.hget(this.#keys.stops, place);
    const record = text === null ? undefined : parseStop(text);
    return record?.generation === generation ? record : undefined;
  }

  async stops(): Promise<Map<StopPlace, StopRecord>> {
    const found = new Map<StopPlace, StopRecord>();
    for (const [place, text] of Object.entries(await this.#redis.hgetall(this.#keys.stops))) {
      const record = parseStop(text);
      if (record) found.set(place as StopPlace, record);
    }
    return found;
  }

  async clearStop(place: StopPlace): Promise<boolean> {
    return (await this.#redis.hdel(this.#keys.stops, place)) === 1;
  }

  async skip(
    generation: string,
    seq: number,
    record: { by: string; reason: string; atMs: number },
  ): Promise<void> {
    await this.#redis.hset(this.#keys.skips, `${generation}:${seq}`, JSON.stringify(record));
  }

  /** Seqs that are to be left out. */
  async skips(generation: string): Promise<Map<number, { by: string; reason: string }>> {
    const found = new Map<number, { by: string; reason: string }>();
    for (const [field, text] of Object.entries(await this.#redis.hgetall(this.#keys.skips))) {
      const colon = field.lastIndexOf(':');
      if (field.slice(0, colon) === generation) found.set(Number(field.slice(colon + 1)), JSON.parse(text));
    }
    return found;
  }

  async deadLetter(record: Record<string, unknown>, commands: Buffer): Promise<void> {
    await this.#redis
      .multi()
      .call('XADD', this.#keys.deadLetters, '*', 'record', JSON.stringify(record), 'commands', commands)
      .hincrby(this.#keys.counters, 'deadLettered', 1)
      .exec();
  }

  async divergence(record: Divergence, commands: Buffer): Promise<void> {
    await this.#redis
      .multi()
      .call('XADD', this.#keys.divergences, '*', 'record', JSON.stringify(record), 'commands', commands)
      .hincrby(this.#keys.counters, record.kind === 'unverified' ? 'unverified' : 'divergences', 1)
      .exec();
  }

  async count(counter: Counter, by = 1): Promise<void> {
    await this.#redis.hincrby(this.#keys.counters, counter, by);
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    const all = await this.#redis.hgetall(this.#keys.counters);
    return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, Number(value)]));
  }
}

function parseStop(text: string): StopRecord | undefined {
  const parsed = stopSchema.safeParse(JSON.parse(text));
  return parsed.success ? parsed.data : undefined;
}
