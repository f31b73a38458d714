// Reads keys of a Pika through its port for clients, as the commands that make them.
//
// MULTI ... EXEC of a Pika holds the locks of all its commands' keys, and a write is logged under the lock of its key. So
// what one transaction reads of a key, and the end of the log that INFO tells in it, belong together exactly.

import { encodeCommand } from '../../binlog/resp.ts';
import { isPikaHyperLogLog } from '../../pika/translate.ts';
import type { Endpoint } from '../../runtime/endpoint.ts';
import { StopError } from '../../runtime/errors.ts';
import { Connection } from '../../wire/connection.ts';
import type { Argument } from '../../wire/encode.ts';
import { isUnknownCommand, type Reply, ReplyError } from '../../wire/replies.ts';
import { firstPage, type KeyType, type Page, pageOf, typeOf } from './key-pages.ts';
import type { Places } from './position.ts';
import { endsIn } from './server.ts';

const REPLY_MS = 60_000;
const REPLY_BYTES_MAX = 1024 ** 3;
const SCAN_KEYS = 256;
/** For a key that is to be read at once whatever it weighs. */
const WHOLE = 500_000_000;

const READABLE =
  'let it answer clients, give it its password; or bring the data there by other means and start with --from now';

export type ReadKey =
  | {
      readonly kind: 'whole';
      readonly key: Buffer;
      readonly commands: readonly Buffer[];
      readonly lost?: string;
    }
  /** More than a page: to be read in pieces. */
  | { readonly kind: 'large'; readonly key: Buffer }
  /** It became another type meanwhile. */
  | { readonly kind: 'changed'; readonly key: Buffer };

export interface Reading {
  readonly keys: readonly ReadKey[];
  /** Ends of the logs that the values belong to. */
  readonly ends: Places;
}

export class KeyReader {
  readonly #endpoint: Endpoint;
  readonly #index: number;
  #connection: Promise<Connection> | undefined;
  #run: string | undefined;
  /** A 3.5.2 has none, and does not know XINFO. */
  #hasStreams = true;

  constructor(endpoint: Endpoint, db: string) {
    this.#endpoint = endpoint;
    this.#index = Number(/\d+$/.exec(db)?.[0] ?? 0);
  }

  /** @throws StopError when it cannot be read */
  async probe(): Promise<void> {
    const probe = [['MULTI'], ['TYPE', 'lanegate:probe'], ['INFO', 'replication'], ['EXEC']];
    const result = (await this.#call(probe)).at(-1);
    if (Array.isArray(result) && endsIn(String(result[1])).size > 0) return;
    throw new StopError('PIKA_COPY', `${this.#endpoint.display} runs no transaction with INFO`, {
      hint: READABLE,
    });
  }

  /** Of the server's process, which alone knows its cursors: this reader never connects again. */
  async runId(): Promise<string> {
    this.#run ??= /^run_id:(\w+)/m.exec(String((await this.#call([['INFO', 'server']]))[0]))?.[1] ?? '';
    return this.#run;
  }

  /** Keys, and where to go on; undefined behind the last. */
  async scan(
    cursor: string,
  ): Promise<{ readonly cursor: string | undefined; readonly keys: readonly Buffer[] }> {
    const [reply] = await this.#call([['SCAN', cursor, 'COUNT', SCAN_KEYS]]);
    const [next, keys] = reply as [Reply, Buffer[]];
    return { cursor: String(next) === '0' ? undefined : String(next), keys };
  }

  /** All in one moment. `whole`: no key is too large. */
  async read(keys: readonly Buffer[], whole = false): Promise<Reading> {
    const plans = await this.#plans(keys);
    const readings = readingsOf(plans, { whole, streams: this.#hasStreams });
    const replies = await this.#transaction([
      ...readings.flatMap(({ ask }) => ask),
      ['TIME'],
      ['INFO', 'replication'],
    ]);
    const ends = endsIn(String(replies.pop()));
    return { keys: valuesOf(readings, replies), ends };
  }

  /** Everything that a reading before could have seen of `key` is logged up to these ends. */
  async ends(key: Buffer): Promise<Places> {
    const replies = await this.#transaction([
      ['TYPE', key],
      ['INFO', 'replication'],
    ]);
    return endsIn(String(replies[1]));
  }

  /** A key in pieces, each in its own moment. */
  async *pieces(key: Buffer): AsyncGenerator<readonly Buffer[], void> {
    const [plan] = await this.#plans([key]);
    const [ttl, time] = await this.#call([['PTTL', key], ['TIME']]);
    yield [encodeCommand(['DEL', key])];
    let page: Page | undefined = plan && firstPage(plan.key, plan.type);
    while (page !== undefined) {
      const replies = await this.#call(page.ask);
      const { commands, next } = pageOf(page, replies);
      if (commands.length > 0) yield commands;
      page = next;
    }
    const deadline = deadlineOf(plan?.type ?? 'none', ttl as Reply, time as Reply);
    if (deadline !== undefined) yield [encodeCommand(['PEXPIREAT', key, deadline])];
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined);
    connection?.close();
  }

  async #plans(keys: readonly Buffer[]): Promise<readonly Plan[]> {
    const types = (await this.#call(keys.map((key) => ['TYPE', key]))).map(typeOf);
    const streams = await this.#streamsAmong(keys.filter((_, i) => types[i] === 'none'));
    return keys.map((key, i) => ({ key, type: streams.has(key) ? 'stream' : (types[i] as KeyType) }));
  }

  /** TYPE of a 3.5 says "none" of them. */
  async #streamsAmong(keys: readonly Buffer[]): Promise<ReadonlySet<Buffer>> {
    if (keys.length === 0 || !this.#hasStreams) return new Set();
    const replies = await this.#call(keys.map((key) => ['XINFO', 'STREAM', key]));
    this.#hasStreams = !replies.some(isUnknownCommand);
    return new Set(keys.filter((_, i) => Array.isArray(replies[i])));
  }

  async #transaction(commands: readonly (readonly Argument[])[]): Promise<Reply[]> {
    const replies = await this.#call([['MULTI'], ...commands, ['EXEC']]);
    const result = replies.at(-1);
    if (!Array.isArray(result) || result.length !== commands.length)
      throw new Error(`${this.#endpoint.display} did not execute a transaction`);
    return result;
  }

  async #call(commands: readonly (readonly Argument[])[]): Promise<Reply[]> {
    const connection = await this.#open();
    if (connection.closed) throw connection.closeReason ?? new Error('the reader is closed');
    const replies = await connection.callMany(commands);
    for (const [i, reply] of replies.entries()) {
      if (!(reply instanceof ReplyError) || reply.code === 'WRONGTYPE') continue;
      // It became another type, or expired, between the question and this one.
      if (/WRONGTYPE|no such key|not found/i.test(reply.message)) continue;
      if (commands[i]?.[0] === 'XINFO' && isUnknownCommand(reply)) continue;
      throw refused(this.#endpoint.display, String(commands[i]?.[0]), reply);
    }
    return replies;
  }

  #open(): Promise<Connection> {
    const endpoint = { ...this.#endpoint, db: this.#index };
    this.#connection ??= Connection.open(endpoint, {
      connectTimeoutMs: 10_000,
      replyTimeoutMs: REPLY_MS,
      maxReplyBytes: REPLY_BYTES_MAX,
    });
    return this.#connection;
  }
}

interface Plan {
  readonly key: Buffer;
  readonly type: KeyType;
}

/** What is asked about a key in the transaction, and the page that it is to make. */
interface KeyReading extends Plan {
  readonly page: Page | undefined;
  readonly ask: readonly (readonly Argument[])[];
}

function readingsOf(
  plans: readonly Plan[],
  { whole, streams }: { readonly whole: boolean; readonly streams: boolean },
): KeyReading[] {
  return plans.map(({ key, type }) => {
    const page = firstPage(key, type, whole ? WHOLE : 0);
    // Of a key that is not there as well: TYPE of a 3.5 does not say that a stream has come in its place.
    const unseen = streams ? [['XINFO', 'STREAM', key]] : [];
    return { key, type, page, ask: [['TYPE', key], ['PTTL', key], ...(page?.ask ?? unseen)] };
  });
}

/** `replies` are those to what is asked, and of TIME at the end. */
function valuesOf(readings: readonly KeyReading[], replies: readonly Reply[]): ReadKey[] {
  const time = replies.at(-1) as Reply;
  let at = 0;
  return readings.map(({ key, type, page, ask }): ReadKey => {
    const [typeNow, ttl, ...answers] = replies.slice(at, at + ask.length) as [Reply, Reply, ...Reply[]];
    at += ask.length;
    const commands = [encodeCommand(['DEL', key])];
    const isStream = type === 'stream' && typeOf(typeNow) === 'none';
    if (typeOf(typeNow) !== type && !isStream) return { kind: 'changed', key };
    if (page === undefined)
      return Array.isArray(answers[0]) ? { kind: 'changed', key } : { kind: 'whole', key, commands };
    if (answers.some((one) => one instanceof ReplyError)) return { kind: 'changed', key };
    if (type === 'string' && isPikaHyperLogLog(answers[0] as Buffer)) {
      return { kind: 'whole', key, commands, lost: "a count (PFADD, PFMERGE) in Pika's own form" };
    }
    const { commands: made, next } = pageOf(page, answers);
    if (next !== undefined) return { kind: 'large', key };
    const deadline = deadlineOf(type, ttl, time);
    if (deadline !== undefined) made.push(encodeCommand(['PEXPIREAT', key, deadline]));
    return { kind: 'whole', key, commands: [...commands, ...made] };
  });
}

/** By the source's clock, ms since 1970. Pika's streams have none, and it says 0 of them. */
function deadlineOf(type: KeyType, ttl: Reply, time: Reply): number | undefined {
  const ms = Number(ttl);
  if (!(ms >= 0) || (type === 'stream' && ms === 0)) return undefined;
  const [seconds, microseconds] = time as [Reply, Reply];
  return Number(String(seconds)) * 1000 + Math.floor(Number(String(microseconds)) / 1000) + ms;
}

function refused(display: string, command: string, reply: ReplyError): Error {
  if (/^(LOADING|BUSY|READONLY)/.test(reply.message)) return new Error(`${display}: ${reply.message}`);
  return new StopError('PIKA_COPY', `${display} refuses ${command}: ${reply.message}`, {
    hint: READABLE,
  });
}
