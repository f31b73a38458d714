import type { Redis } from 'ioredis';
import { compareIds } from '../../binlog/stream-id.ts';
import { messageOf } from '../../runtime/errors.ts';
import { isRefusal, isReplyError } from './connection.ts';
import { type Place, readThrough } from './position.ts';
import { isMissing } from './reader.ts';

interface GroupOptions {
  readonly key: Buffer;
  readonly pipeline: string;
  readonly onNotice: (text: string) => void;
}

/** The consumer group by which XINFO GROUPS shows the pipeline's progress; nothing is ever delivered to it. */
export class ProgressGroup {
  readonly name: string;
  readonly #key: Buffer;
  readonly #onNotice: (text: string) => void;
  readonly #told = new Set<string>();
  #takesEntriesRead = true;

  constructor(options: GroupOptions) {
    this.name = `lanegate:${options.pipeline}`;
    this.#key = options.key;
    this.#onNotice = options.onNotice;
  }

  /** Moves the group, or creates it where there is a stream. */
  async move(redis: Redis, place: Place): Promise<void> {
    try {
      await this.#move(redis, place);
    } catch (error) {
      if (isMissing(error)) return;
      if (!isRefusal(error)) throw error;
      this.#tellOnce('move', `the consumer group ${this.name} cannot be moved along: ${messageOf(error)}`);
    }
  }

  /**
   * Deletes entries before the last one that is fully acknowledged (that one stays: a first id at or before our position
   * proves that nothing behind it was trimmed). Stops before what another group has not read or not acknowledged. Not
   * atomic and need not be: last-delivered ids and pending lists only move forward, and a group that is created or set
   * back behind our back finds the same stream a moment later.
   */
  async trim(redis: Redis, place: Place): Promise<void> {
    try {
      const keepFrom = await this.#oldestNeeded(redis, readThrough(place));
      await redis.call('XTRIM', this.#key, 'MINID', '=', keepFrom);
    } catch (error) {
      if (isMissing(error)) return;
      if (!isReplyError(error)) throw error;
      if (!isRefusal(error) && !/syntax error/i.test(error.message)) throw error;
      this.#tellOnce('trim', `the stream cannot be trimmed (MINID needs Redis 6.2): ${error.message}`);
    }
  }

  async exists(redis: Redis): Promise<boolean> {
    const groups = await listGroups(redis, this.#key);
    return groups.some((group) => group.name === this.name);
  }

  async destroy(redis: Redis): Promise<void> {
    await redis.call('XGROUP', 'DESTROY', this.#key, this.name);
  }

  async #move(redis: Redis, place: Place): Promise<void> {
    try {
      await this.#send(redis, 'SETID', place);
    } catch (error) {
      if (!isReplyError(error) || !error.message.startsWith('NOGROUP')) throw error;
      await this.#create(redis, place);
    }
  }

  async #create(redis: Redis, place: Place): Promise<void> {
    try {
      await this.#send(redis, 'CREATE', place);
    } catch (error) {
      // Another process of the pipeline was faster.
      if (!isReplyError(error) || !error.message.startsWith('BUSYGROUP')) throw error;
      await this.#send(redis, 'SETID', place);
    }
  }

  async #send(redis: Redis, verb: 'SETID' | 'CREATE', place: Place): Promise<void> {
    const base = [verb, this.#key, this.name, readThrough(place)];
    const counted = this.#takesEntriesRead && place.entriesRead !== undefined;
    try {
      await redis.call('XGROUP', ...base, ...(counted ? ['ENTRIESREAD', place.entriesRead as number] : []));
    } catch (error) {
      if (!counted || !isReplyError(error) || !/syntax|unknown subcommand|wrong number/i.test(error.message))
        throw error;
      this.#takesEntriesRead = false;
      await redis.call('XGROUP', ...base);
    }
  }

  async #oldestNeeded(redis: Redis, mark: string): Promise<string> {
    let oldest = mark;
    for (const group of await listGroups(redis, this.#key)) {
      if (group.name === this.name) continue;
      oldest = older(oldest, group.lastDeliveredId);
      if (group.pending === 0) continue;
      const summary = (await redis.call('XPENDING', this.#key, group.rawName)) as [number, string | null];
      if (summary[1] !== null) oldest = older(oldest, summary[1]);
    }
    return oldest;
  }

  #tellOnce(topic: string, text: string): void {
    if (this.#told.has(topic)) return;
    this.#told.add(topic);
    this.#onNotice(text);
  }
}

interface Group {
  readonly name: string;
  readonly rawName: Buffer;
  readonly pending: number;
  readonly lastDeliveredId: string;
}

async function listGroups(redis: Redis, key: Buffer): Promise<Group[]> {
  const reply = (await redis.callBuffer('XINFO', 'GROUPS', key)) as unknown[][];
  return reply.map((flat) => {
    const fields = new Map<string, unknown>();
    for (let i = 0; i + 1 < flat.length; i += 2) fields.set(String(flat[i]), flat[i + 1]);
    const rawName = fields.get('name') as Buffer;
    return {
      name: rawName.toString(),
      rawName,
      pending: Number(fields.get('pending')),
      lastDeliveredId: String(fields.get('last-delivered-id')),
    };
  });
}

function older(a: string, b: string): string {
  return compareIds(a, b) <= 0 ? a : b;
}
