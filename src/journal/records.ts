import type { Redis } from 'ioredis';
import * as z from 'zod';
import type { JournalKeys } from './keys.ts';
import { runScript } from './scripts.ts';

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

/** Beyond it the oldest are forgotten, and counted all the same. */
const LEFT_OUT_MAX = 10_000;

/** Generation of a stop in front of the first one. */
export const NO_GENERATION = 'none';

/** Why a lane, a gate or ingest stands still. Belongs to (generation, seq). */
export type StopRecord = z.infer<typeof stopSchema>;

const skipSchema = z.object({
  generation: z.string(),
  seq: z.int(),
  place: z.union([z.templateLiteral(['lane:', z.int()]), z.literal('gate'), z.literal('ingest')]),
  by: z.string(),
  reason: z.string(),
  atMs: z.number(),
});

/** Who decided that a command is left out, where, and why. */
export type Skip = z.infer<typeof skipSchema>;

/** `lane:<l>`, `gate:<seq>` or `ingest`. */
export type StopPlace = `lane:${number}` | `gate:${number}` | 'ingest';

/** An ingest as the journal knows it: what it began, and how far it has brought that. */
export interface IngestRole {
  readonly journalId: string;
  readonly epoch: number;
  readonly position: string;
}

export type Counter =
  | 'fenced'
  | 'duplicatesDropped'
  | 'retries'
  | 'divergences'
  | 'unverified'
  | 'deadLettered'
  | 'lateDeadlines'
  | 'repaired'
  | 'leftOut';

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

  /** Stops a place only while the role in which its reason was met is in force. `before`: the stop that it replaces. */
  async stopAs(
    role: IngestRole,
    place: StopPlace,
    record: StopRecord,
  ): Promise<{ readonly kind: 'stopped'; readonly before: StopRecord | undefined } | { kind: 'superseded' }> {
    const [kind, before = ''] = (await runScript(
      this.#redis,
      'stop',
      [this.#keys.state, this.#keys.stops],
      [place, JSON.stringify(record), role.journalId, role.epoch, role.position],
    )) as string[];
    return kind === 'stopped' ? { kind, before: parseAs(stopSchema, before) } : { kind: 'superseded' };
  }

  /** The stop in force; one of another generation is void. */
  async stopAt(place: StopPlace, generation: string): Promise<StopRecord | undefined> {
    const text = await this.#redis.hget(this.#keys.stops, place);
    const record = text === null ? undefined : parseAs(stopSchema, text);
    return record?.generation === generation ? record : undefined;
  }

  async stops(): Promise<Map<StopPlace, StopRecord>> {
    const found = new Map<StopPlace, StopRecord>();
    for (const [place, text] of Object.entries(await this.#redis.hgetall(this.#keys.stops))) {
      const record = parseAs(stopSchema, text);
      if (record) found.set(place as StopPlace, record);
    }
    return found;
  }

  async clearStop(place: StopPlace): Promise<boolean> {
    return (await this.#redis.hdel(this.#keys.stops, place)) === 1;
  }

  async skip(skip: Skip): Promise<void> {
    const field = `${skip.generation}:${skip.seq}:${skip.place}`;
    await this.#redis.hset(this.#keys.skips, field, JSON.stringify(skip));
  }

  /**
   * Seqs that are to be left out at a place. A lane's own skip leaves the parts of a split command in other lanes alone;
   * what was skipped at a gate may stand in a lane after another cut of the log, and the other way round.
   */
  async skips(generation: string, place: Skip['place']): Promise<Map<number, Skip>> {
    const found = new Map<number, Skip>();
    for (const text of Object.values(await this.#redis.hgetall(this.#keys.skips))) {
      const skip = parseAs(skipSchema, text);
      if (skip?.generation !== generation) continue;
      const near =
        skip.place === place || skip.place === 'gate' || (place === 'gate' && skip.place !== 'ingest');
      if (near && (place === 'ingest') === (skip.place === 'ingest')) found.set(skip.seq, skip);
    }
    return found;
  }

  /** Stops and skips of other generations are void. */
  async dropVoid(generation: string): Promise<void> {
    for (const [place, text] of Object.entries(await this.#redis.hgetall(this.#keys.stops))) {
      const record = parseAs(stopSchema, text);
      if (record?.generation !== generation && place !== 'ingest')
        await this.#redis.hdel(this.#keys.stops, place);
    }
    for (const [field, text] of Object.entries(await this.#redis.hgetall(this.#keys.skips))) {
      if (parseAs(skipSchema, text)?.generation !== generation)
        await this.#redis.hdel(this.#keys.skips, field);
    }
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

  async leftOut(keys: readonly object[]): Promise<void> {
    const batch = this.#redis.pipeline();
    for (const record of keys)
      batch.xadd(this.#keys.leftOut, 'MAXLEN', '~', LEFT_OUT_MAX, '*', 'record', JSON.stringify(record));
    await batch.exec();
  }

  /** What the target lets a pipeline promise; for status. */
  async guarantee(what: string): Promise<void> {
    // A start must not need room in a queue that is full: the watchdog behind it makes some.
    if ((await this.#redis.hget(this.#keys.control, 'guarantee')) === what) return;
    await this.#redis.hset(this.#keys.control, 'guarantee', what);
  }

  async count(counter: Counter, by = 1): Promise<void> {
    await this.#redis.hincrby(this.#keys.counters, counter, by);
  }

  async counters(): Promise<Readonly<Record<string, number>>> {
    const all = await this.#redis.hgetall(this.#keys.counters);
    return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, Number(value)]));
  }
}

/** A record that somebody wrote by hand is no record; it must not break who reads it. */
function parseAs<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    const parsed = schema.safeParse(JSON.parse(text));
    return parsed.success ? parsed.data : undefined;
  } catch {
    return undefined;
  }
}
