import type { RedisOptions } from 'ioredis';
import type { EndpointSecrets } from '../runtime/endpoint.ts';
import { type Command, encodeAll } from './append/encode.ts';
import { isReplyError, Session } from './redis-stream/connection.ts';
import { parseStreamUrl } from './redis-stream/url.ts';

export type { Command };

export interface EntryOptions {
  /** Database in which the entry starts; default 0. A SELECT inside holds to the end of the entry. */
  readonly db?: number;
  /** ms since 1970, from which relative deadlines count; default: when the server takes the entry. */
  readonly timeMs?: number;
}

export interface EncodedEntry extends EntryOptions {
  /** Whole commands as RESP arrays. Not checked. */
  readonly resp: Buffer;
}

/** Where the stream is: a URL such as `redis-stream://host:6379/0?key=binlog`, or a client whose settings are copied. */
export type BinlogWriterOptions =
  | (EndpointSecrets & { readonly url: string })
  | { readonly redis: { readonly options: RedisOptions }; readonly key: string | Buffer };

/** An append that failed. `outcome` says whether the entry may be in the stream all the same. */
export class AppendError extends Error {
  override readonly name = 'AppendError';
  readonly code: 'NOT_APPENDED' | 'OUTCOME_UNKNOWN';
  /** 'unknown': look into the stream before appending it again, or it may be applied twice. */
  readonly outcome: 'not-appended' | 'unknown';

  constructor(outcome: 'not-appended' | 'unknown', cause: unknown) {
    const why = cause instanceof Error ? cause.message : String(cause);
    super(
      outcome === 'unknown' ? `it is not known whether this was appended: ${why}` : `not appended: ${why}`,
      { cause },
    );
    this.outcome = outcome;
    this.code = outcome === 'unknown' ? 'OUTCOME_UNKNOWN' : 'NOT_APPENDED';
  }
}

/**
 * Appends entries to a binlog stream. Connects when it is needed, and anew after a lost connection, but never sends an
 * entry twice: that would apply its commands twice. Appends take effect in the order of the calls; one that is refused
 * does not hold back those called after it, so await each where that matters, or use `appendAll`.
 */
export class BinlogWriter {
  readonly #open: () => Promise<Session>;
  readonly #key: Buffer;
  readonly #inFlight = new Set<Promise<unknown>>();
  #session: Promise<Session> | undefined;
  #closed = false;

  /** @throws ConfigurationError for what the URL gets wrong. */
  constructor(options: BinlogWriterOptions) {
    if ('url' in options) {
      const { url, ...secrets } = options;
      const { endpoint, key } = parseStreamUrl('url', url, secrets);
      this.#key = key;
      this.#open = () => Session.open(endpoint, 'lanegate:writer');
    } else {
      const { options: settings } = options.redis;
      this.#key = Buffer.from(options.key);
      this.#open = () => Session.openWith(settings, `${settings.host}:${settings.port}`);
    }
  }

  /**
   * Appends one entry; a MULTI must be complete in it. Resolves to the entry's id.
   * @throws TypeError for commands that are no entry; AppendError.
   */
  async append(commands: readonly Command[], options: EntryOptions = {}): Promise<string> {
    const [id] = await this.appendEncoded([{ ...options, resp: encodeEntry(commands) }]);
    return id as string;
  }

  /** Appends several entries, all or none. Resolves to their ids. */
  async appendAll(
    entries: readonly (EntryOptions & { readonly commands: readonly Command[] })[],
  ): Promise<string[]> {
    return this.appendEncoded(
      entries.map(({ commands, ...options }) => ({ ...options, resp: encodeEntry(commands) })),
    );
  }

  /** Appends entries that are RESP already, all or none. */
  async appendEncoded(entries: readonly EncodedEntry[]): Promise<string[]> {
    if (this.#closed) throw new AppendError('not-appended', new Error('the writer is closed'));
    if (entries.length === 0) return [];
    const fields = entries.map(fieldsOf);
    const sent = this.#send(fields);
    this.#inFlight.add(sent);
    try {
      return await sent;
    } finally {
      this.#inFlight.delete(sent);
    }
  }

  /** Waits for what is in flight. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#inFlight);
    const session = await this.#session?.catch(() => undefined);
    this.#session = undefined;
    session?.close();
  }

  async #send(entries: readonly (string | Buffer)[][]): Promise<string[]> {
    const session = await this.#connected();
    try {
      // One entry needs no MULTI; several without one could leave a hole where the server refuses one in the middle.
      const transaction = entries.length > 1;
      const pipeline = session.redis.pipeline();
      if (transaction) pipeline.call('MULTI');
      for (const fields of entries) pipeline.call('XADD', this.#key, '*', ...fields);
      if (transaction) pipeline.call('EXEC');
      const replies = await pipeline.exec();
      const [error, last] = replies?.at(-1) ?? [new Error('no reply'), undefined];
      // EXECABORT hides the reason, which is the first error of the queued commands.
      if (error !== null) throw replies?.find(([refused]) => isReplyError(refused))?.[0] ?? error;
      const ids = transaction ? (last as unknown[]) : [last];
      const refused = ids.find((id) => id instanceof Error);
      if (refused !== undefined) throw refused;
      return ids as string[];
    } catch (error) {
      throw new AppendError(isReplyError(error) ? 'not-appended' : 'unknown', session.explain(error));
    }
  }

  async #connected(): Promise<Session> {
    const known = this.#session;
    if (known !== undefined) {
      const session = await known.catch(() => undefined);
      if (session !== undefined && !session.ended) return session;
      if (this.#session === known) this.#session = undefined;
    }
    this.#session ??= this.#open();
    try {
      return await this.#session;
    } catch (error) {
      throw new AppendError('not-appended', error);
    }
  }
}

function fieldsOf(entry: EncodedEntry): (string | Buffer)[] {
  const { resp, db = 0, timeMs } = entry;
  if (!Number.isSafeInteger(db) || db < 0) throw new TypeError('db must be a database number');
  if (timeMs !== undefined && (!Number.isSafeInteger(timeMs) || timeMs < 0)) {
    throw new TypeError('timeMs must be whole milliseconds since 1970');
  }
  const fields = ['resp', resp];
  if (db !== 0) fields.push('db', String(db));
  if (timeMs !== undefined) fields.push('time', String(timeMs));
  return fields;
}

function encodeEntry(commands: readonly Command[]): Buffer {
  if (commands.length === 0) throw new TypeError('an entry needs at least one command');
  let open = false;
  for (const command of commands) {
    if (command.length === 0) throw new TypeError('a command needs a name');
    const name = nameOf(command);
    if (name === 'MULTI' && open) throw new TypeError('MULTI inside MULTI');
    if ((name === 'EXEC' || name === 'DISCARD') && !open) throw new TypeError(`${name} without MULTI`);
    if (name === 'MULTI') open = true;
    else if (name === 'EXEC' || name === 'DISCARD') open = false;
  }
  if (open) throw new TypeError('MULTI without EXEC: a transaction must be complete in one entry');
  return encodeAll(commands);
}

function nameOf(command: Command): string {
  const name = command[0];
  return (Buffer.isBuffer(name) ? name.toString('latin1') : String(name)).toUpperCase();
}
