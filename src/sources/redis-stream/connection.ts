import { Redis, type RedisOptions } from 'ioredis';
import type { Endpoint } from '../../runtime/endpoint.ts';
import { AbortedError } from '../../runtime/errors.ts';

const CONNECT_MS_MAX = 10_000;
/** A half-open connection is noticed by this: a reader's BLOCK ends after 1 s, so a live server is never silent so long. */
const SILENCE_MS_MAX = 10_000;

/** One session of a server: it never reconnects and never sends anything again. */
export class Session {
  readonly redis: Redis;
  readonly #display: string;
  #trouble: Error | undefined;

  private constructor(redis: Redis, display: string) {
    this.redis = redis;
    this.#display = display;
    redis.on('error', (error: Error) => {
      this.#trouble ??= error;
    });
  }

  static open(endpoint: Endpoint, connectionName: string, signal?: AbortSignal): Promise<Session> {
    return Session.openWith(optionsFor(endpoint, connectionName), endpoint.display, signal);
  }

  /** `options` say where and as whom; how the session behaves is decided here. */
  static async openWith(options: RedisOptions, display: string, signal?: AbortSignal): Promise<Session> {
    const redis = new Redis({ ...options, ...SESSION, replyMapping: 'legacy' });
    const session = new Session(redis, display);
    const abort = () => session.close();
    signal?.addEventListener('abort', abort, { once: true });
    try {
      if (signal?.aborted) throw new AbortedError('connecting was stopped');
      await redis.connect();
      // ioredis' own SELECT goes on in database 0 when the server refuses it.
      if (options.db !== undefined && options.db !== 0) await redis.select(options.db);
      return session;
    } catch (error) {
      session.close();
      throw session.explain(error);
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  get ended(): boolean {
    return this.redis.status !== 'ready';
  }

  /** A closed connection is told with its reason; all else stays what it is. */
  explain(error: unknown): unknown {
    if (isReplyError(error) || !this.ended) return error;
    const cause = this.#trouble ?? error;
    if (isReplyError(cause)) return cause;
    const why = cause instanceof Error ? cause.message || cause.name : String(cause);
    return new Error(`connection to ${this.#display}: ${why}`, { cause });
  }

  close(): void {
    this.redis.disconnect();
  }
}

export function isReplyError(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

/** What a replica and a user without the right reply to a write. */
export function isRefusal(error: unknown): boolean {
  return isReplyError(error) && /^(READONLY|NOPERM) /.test(error.message);
}

/** Keeps ioredis from sending a command twice, and from waiting where the caller must decide. */
const SESSION: RedisOptions = {
  retryStrategy: () => null,
  autoResendUnfulfilledCommands: false,
  maxRetriesPerRequest: 0,
  reconnectOnError: null,
  enableReadyCheck: false,
  enableOfflineQueue: false,
  enableAutoPipelining: false,
  lazyConnect: true,
  protocol: 2,
  disableClientInfo: true,
  connectTimeout: CONNECT_MS_MAX,
  socketTimeout: SILENCE_MS_MAX,
};

function optionsFor(endpoint: Endpoint, connectionName: string): RedisOptions {
  const { host, port, username, password, db, tls } = endpoint;
  return {
    host,
    port,
    db,
    connectionName,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
  };
}
