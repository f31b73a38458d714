// One of the two servers, as the comparison sees it: it asks, and it never writes.
//
// Promises:
// 1. A question that the network or the server cuts short is asked again, whole: all of them are reads. Trouble that
//    passes (LOADING, BUSY, a primary that is away) is waited out for up to `patienceMs`.
// 2. Whatever connection carries a question, it is in the database that was selected last.
// 3. `run` changes when the process behind the address is another one: cursors of SCAN mean nothing there.
// 4. What cannot pass (a right that is missing, a wrong password) is a StopError that says what is needed.

import { Backoff, sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError, StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import { refusalOf } from '../target/refusal.ts';
import { Connection, ConnectionLost } from '../wire/connection.ts';
import type { Argument } from '../wire/encode.ts';
import { type Reply, ReplyError } from '../wire/replies.ts';
import type { Request } from './request.ts';

const CONNECT_MS_MAX = 10_000;
const REPLY_MS_MAX = 120_000;
/** The largest string that Redis allows by default, and what frames it: an element cannot be read in parts. */
const REPLY_BYTES_MAX = 512 * 1024 ** 2 + 64 * 1024;

export const RIGHTS = '~* +@read +info +select';

/** A key that nobody has: asked for, to learn which commands a server has. */
const PROBE_KEY = 'lanegate:verify:probe';

export interface LinkOptions {
  readonly side: 'source' | 'target';
  readonly endpoint: Endpoint;
  readonly signal: AbortSignal;
  /** How long one question is asked again while the server is away. */
  readonly patienceMs: number;
  readonly onTrouble?: (what: string) => void;
  /** What the connection is called, and the least that its user needs; those of verify without. */
  readonly name?: string;
  readonly rights?: string;
}

/** What a server can be asked. */
export interface Abilities {
  /** DUMP and MEMORY USAGE. */
  readonly dump: boolean;
  /** SMISMEMBER and ZMSCORE. */
  readonly multiMember: boolean;
  /** HPTTL. */
  readonly fieldTtl: boolean;
}

export class Link {
  readonly #options: LinkOptions;
  readonly #onAbort = () => this.close();
  #closed = false;
  #connection: Promise<Connection> | undefined;
  #open: Connection | undefined;
  #answered = false;
  #db = 0;
  #run = '';
  #abilities: Abilities = { dump: false, multiMember: false, fieldTtl: false };

  constructor(options: LinkOptions) {
    this.#options = options;
    // What waits for a reply must not hold up an end that was asked for.
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  get side(): 'source' | 'target' {
    return this.#options.side;
  }

  /** Of the server process; empty where it does not tell. */
  get run(): string {
    return this.#run;
  }

  get abilities(): Abilities {
    return this.#abilities;
  }

  /** Connects and looks who is there. @throws StopError when the server cannot be reached or used */
  async open(): Promise<void> {
    // HPTTL wants its fields; a server that knows it answers null or a list for a key that is not there.
    const replies = await this.call([
      ['DUMP', PROBE_KEY],
      ['MEMORY', 'USAGE', PROBE_KEY],
      ['SMISMEMBER', PROBE_KEY, 'm'],
      ['ZMSCORE', PROBE_KEY, 'm'],
      ['HPTTL', PROBE_KEY, 'FIELDS', 1, 'f'],
    ]);
    const [dump, memory, isMember, scores, fieldTtl] = replies.map((reply) => !(reply instanceof ReplyError));
    this.#abilities = {
      dump: dump === true && memory === true,
      multiMember: isMember === true && scores === true,
      fieldTtl: fieldTtl === true,
    };
  }

  /** False when the server has no such database. */
  async select(db: number): Promise<boolean> {
    const before = this.#db;
    this.#db = db;
    const [reply] = await this.call([['SELECT', db]]);
    if (!(reply instanceof ReplyError)) return true;
    this.#db = before;
    return false;
  }

  /** Keys per database, from INFO keyspace. */
  async databases(): Promise<Map<number, number>> {
    const info = await this.#info('keyspace');
    const found = [...info.matchAll(/^db(\d+)[: ]\D*=(\d+)/gm)];
    return new Map(found.map(([, db, keys]) => [Number(db), Number(keys)]));
  }

  /** One reply for each command. */
  call(commands: readonly (readonly Argument[])[]): Promise<Reply[]> {
    return this.#ask((connection) => connection.callMany(commands));
  }

  /** One reply for each command of a request, which must not change meanwhile. */
  ask(request: Request): Promise<Reply[]> {
    const { bytes, commands } = request;
    return this.#ask((connection) => connection.callEncoded([bytes], commands));
  }

  /** Idempotent. Questions that are under way end with AbortedError. */
  close(): void {
    this.#closed = true;
    this.#options.signal.removeEventListener('abort', this.#onAbort);
    const opening = this.#connection;
    this.#connection = undefined;
    opening?.then((connection) => connection.close()).catch(() => {});
  }

  async #info(section: string): Promise<string> {
    const [reply] = await this.call([['INFO', section]]);
    if (reply instanceof ReplyError) throw this.#refused(reply);
    return String(reply);
  }

  async #ask(question: (connection: Connection) => Promise<Reply[]>): Promise<Reply[]> {
    const backoff = new Backoff({ minMs: 20, maxMs: 2_000 });
    let sinceMs: number | undefined;
    for (;;) {
      const answer = await this.#attempt(question);
      if (Array.isArray(answer)) return answer;
      const nowMs = performance.now();
      if (sinceMs === undefined) this.#options.onTrouble?.(safeMessage(answer));
      sinceMs ??= nowMs;
      // A server that was never there is more likely a wrong address than one that is being restarted.
      const neverThere = !this.#answered && answer instanceof ConnectionLost;
      if (neverThere || nowMs - sinceMs > this.#options.patienceMs) throw this.#unreachable(answer);
      await sleep(backoff.next(), this.#options.signal);
    }
  }

  /** The replies, or the trouble to wait for. */
  async #attempt(question: (connection: Connection) => Promise<Reply[]>): Promise<Reply[] | Error> {
    if (this.#closed || this.#options.signal.aborted) throw new AbortedError();
    try {
      const replies = await question(await this.#connected());
      return this.#judge(replies) ?? replies;
    } catch (error) {
      if (error instanceof ReplyError && refusalOf(error) === 'permission') throw this.#refused(error);
      if (error instanceof ConnectionLost || error instanceof ReplyError) return error;
      throw error;
    }
  }

  /** @throws StopError for a right that is missing */
  #judge(replies: readonly Reply[]): Error | undefined {
    for (const reply of replies) {
      if (!(reply instanceof ReplyError)) continue;
      const refusal = refusalOf(reply);
      if (refusal === 'permission') throw this.#refused(reply);
      if (refusal === 'transient') return reply;
    }
    return undefined;
  }

  async #connected(): Promise<Connection> {
    if (this.#open !== undefined && !this.#open.closed) return this.#open;
    // Several questions may have lost the connection at once: the first of them opens the next one.
    if (this.#open !== undefined) {
      this.#open = undefined;
      this.#connection = undefined;
    }
    const opening = this.#connection ?? this.#connect();
    this.#connection = opening;
    try {
      this.#open = await opening;
      return this.#open;
    } catch (error) {
      if (this.#connection === opening) this.#connection = undefined;
      throw error;
    }
  }

  async #connect(): Promise<Connection> {
    const { endpoint, signal } = this.#options;
    const connection = await Connection.open(
      { ...endpoint, db: 0 },
      {
        name: this.#options.name ?? 'lanegate:verify',
        connectTimeoutMs: CONNECT_MS_MAX,
        replyTimeoutMs: REPLY_MS_MAX,
        maxReplyBytes: REPLY_BYTES_MAX,
        signal,
      },
    );
    try {
      // NO-TOUCH (Redis 7.2): looking at every key must not make every key look used. Elsewhere it is refused.
      const [info, selected] = await connection.callMany([
        ['INFO', 'server'],
        ['SELECT', this.#db],
        ['CLIENT', 'NO-TOUCH', 'ON'],
      ]);
      for (const reply of [info, selected]) if (reply instanceof ReplyError) throw reply;
      this.#run = /^run_id:(\S+)/m.exec(String(info))?.[1] ?? '';
      this.#answered = true;
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  #refused(error: ReplyError): StopError {
    const { side, endpoint, rights = RIGHTS } = this.#options;
    return new StopError(error.code, `the ${side} ${endpoint.display} refuses: ${safeMessage(error)}`, {
      hint:
        error.code === 'NOPERM'
          ? `the least that its user needs: ${rights}`
          : `set LANEGATE_${side.toUpperCase()}_PASSWORD, or --${side}-password-file`,
      cause: error,
    });
  }

  #unreachable(cause: Error): StopError {
    const { side, endpoint } = this.#options;
    const why = safeMessage(cause);
    return new StopError('UNREACHABLE', `the ${side} ${endpoint.display} cannot be used: ${why}`, {
      hint: `start it, or point --${side} at the right server`,
      cause,
    });
  }
}
