// What a target does otherwise than Redis. A Pika is recognised by INFO; what it lacks is tried out on keys of lanegate's
// own, which are removed again, or inside a MULTI that is discarded. Nothing is assumed from its version.
//
// Seen at Pika 4.0.1, and why it is tried:
// - an EXEC does not break the WATCH of others on what it writes, a plain command does. It takes what it has written for
//   `<db><key>`, and what is watched for `<db>_<key>`: naming `_<key>` inside the EXEC as well breaks the WATCH ("echo").
// - it looks at WATCH before it takes its locks: of two EXECs in one instant both may run. Hence "racy".
// - SELECT inside MULTI does not change the database of what follows.
// - FLUSHDB beside other commands in one MULTI ends the server. This is the one thing that is never tried.

import { randomBytes } from 'node:crypto';
import { CommandTable } from '../binlog/command-table.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { Connection } from '../wire/connection.ts';
import { isUnknownCommand, type Reply, ReplyError } from '../wire/replies.ts';

export interface TargetTraits {
  /** undefined: a Redis or Valkey. */
  readonly pika: string | undefined;
  /** How an EXEC is kept from running where somebody else has been. */
  readonly fence: 'whole' | 'racy' | 'none';
  /** An EXEC names the keys that it sets once more, for the WATCH of others. */
  readonly echo: boolean;
  /** Commands of other databases cannot stand in one MULTI with the checkpoints. */
  readonly oneDatabase: boolean;
  /** FLUSHDB and FLUSHALL can only stand alone in a MULTI. */
  readonly flushAlone: boolean;
  readonly deadlines: 'SET' | 'PEXPIREAT' | 'EXPIREAT' | 'none';
  /** HSET takes one field and value. */
  readonly hsetOfOne: boolean;
  /** Commands of the table (first words) that it does not know. */
  readonly lacks: ReadonlySet<string>;
  /** Its read cache is on. */
  readonly cached: boolean;
}

export const REDIS_TRAITS: TargetTraits = {
  pika: undefined,
  fence: 'whole',
  echo: false,
  oneDatabase: false,
  flushAlone: false,
  deadlines: 'SET',
  hsetOfOne: false,
  lacks: new Set(),
  cached: false,
};

const TIMEOUTS = { connectTimeoutMs: 5_000, replyTimeoutMs: 10_000 };
const FAR_AWAY_MS = 3_600_000;
/** Not even queued for a DISCARD. */
const NEVER_TRIED: ReadonlySet<string> = new Set(['FLUSHALL', 'FLUSHDB']);

/** @throws ConnectionLost, ReplyError when the target cannot be asked */
export async function traitsOf(target: Endpoint, prefix: string): Promise<TargetTraits> {
  const connection = await Connection.open(target, TIMEOUTS);
  try {
    const pika = /^pika_version:(\S+)/m.exec(String(await connection.call(['INFO'])))?.[1];
    if (pika === undefined) return REDIS_TRAITS;
    const rival = await Connection.open(target, TIMEOUTS);
    try {
      const probe = new Probe(
        connection,
        rival,
        target.db,
        `${prefix}probe:${randomBytes(4).toString('hex')}`,
      );
      return await probe.traits(pika);
    } finally {
      rival.close();
    }
  } finally {
    connection.close();
  }
}

class Probe {
  readonly #own: Connection;
  readonly #rival: Connection;
  readonly #db: number;
  readonly #key: string;

  constructor(own: Connection, rival: Connection, db: number, key: string) {
    this.#own = own;
    this.#rival = rival;
    this.#db = db;
    this.#key = key;
  }

  async traits(pika: string): Promise<TargetTraits> {
    try {
      const direct = await this.#fences([]);
      const echo = !direct && (await this.#fences([echoOf(this.#key)]));
      return {
        pika,
        fence: direct || echo ? 'racy' : 'none',
        echo,
        oneDatabase: await this.#oneDatabase(),
        flushAlone: true,
        deadlines: await this.#deadlines(),
        hsetOfOne: await this.#hsetOfOne(),
        lacks: await this.#lacks(),
        cached: await this.#cached(),
      };
    } finally {
      await this.#own.call(['DEL', this.#key]);
    }
  }

  /** Whether an EXEC of another session breaks a WATCH here. */
  async #fences(echo: readonly (readonly string[])[]): Promise<boolean> {
    const watch = await this.#own.call(['WATCH', this.#key]);
    if (watch instanceof ReplyError) return false;
    const changed = await this.#rival.callMany([['MULTI'], ['SET', this.#key, 'rival'], ...echo, ['EXEC']]);
    const own = await this.#own.callMany([['MULTI'], ['SET', this.#key, 'own'], ['EXEC']]);
    return Array.isArray(changed.at(-1)) && own.at(-1) === null;
  }

  /** Whether what stands behind a SELECT inside MULTI goes elsewhere than it says. */
  async #oneDatabase(): Promise<boolean> {
    const other = this.#db === 0 ? 1 : 0;
    const selected = await this.#rival.call(['SELECT', other]);
    if (selected instanceof ReplyError) return true;
    await this.#own.call(['DEL', this.#key]);
    await this.#own.callMany([
      ['MULTI'],
      ['SELECT', other],
      ['SET', this.#key, 'there'],
      ['SELECT', this.#db],
      ['EXEC'],
    ]);
    const there = await this.#rival.call(['GET', this.#key]);
    await this.#rival.callMany([
      ['DEL', this.#key],
      ['SELECT', this.#db],
    ]);
    await this.#own.call(['SELECT', this.#db]);
    return !Buffer.isBuffer(there);
  }

  async #deadlines(): Promise<TargetTraits['deadlines']> {
    const at = Date.now() + FAR_AWAY_MS;
    const set = ['SET', this.#key, 'v'];
    if (await this.#holds([[...set, 'PXAT', at]])) return 'SET';
    // Pika 4.0.1 knows PEXPIREAT and cuts its argument to 32 bits: the key is gone at once.
    if (await this.#holds([set, ['PEXPIREAT', this.#key, at]])) return 'PEXPIREAT';
    return (await this.#holds([set, ['EXPIREAT', this.#key, Math.ceil(at / 1000)]])) ? 'EXPIREAT' : 'none';
  }

  async #holds(commands: readonly (readonly (string | number)[])[]): Promise<boolean> {
    const replies = await this.#own.callMany([['DEL', this.#key], ...commands, ['TTL', this.#key]]);
    return Number(replies.at(-1)) > 0;
  }

  async #hsetOfOne(): Promise<boolean> {
    const [reply] = await this.#queued([['HSET', this.#key, 'a', '1', 'b', '2']]);
    return reply instanceof ReplyError;
  }

  async #lacks(): Promise<ReadonlySet<string>> {
    const names = CommandTable.shipped()
      .specs.filter(
        ({ name, write, rule }) =>
          write && rule !== 'never' && rule !== 'forbidden' && !NEVER_TRIED.has(name),
      )
      .map(({ name }) => name.split(' ', 1)[0] as string);
    const asked = [...new Set(names)];
    const replies = await this.#queued(asked.map((name) => [name]));
    return new Set(asked.filter((_, at) => isUnknownCommand(replies[at])));
  }

  /** What a MULTI says to commands that never run. */
  async #queued(commands: readonly (readonly string[])[]): Promise<Reply[]> {
    const replies = await this.#own.callMany([['MULTI'], ...commands, ['DISCARD']]);
    return replies.slice(1, -1);
  }

  async #cached(): Promise<boolean> {
    const reply = await this.#own.call(['CONFIG', 'GET', 'cache-model']);
    return Array.isArray(reply) && reply[1] !== undefined && String(reply[1]) !== '0';
  }
}

/** Changes nothing, whatever stands there; for the WATCH of others it has written the key. */
export function echoOf(key: string): string[] {
  return ['HDEL', `_${key}`, 'lanegate'];
}

export function guaranteeOf({ fence }: TargetTraits): string {
  if (fence === 'whole') return 'exactly once';
  return fence === 'racy'
    ? 'once, but for two workers that send EXEC for one lane in the same instant'
    : 'at least once: two workers at one lane may both apply';
}
