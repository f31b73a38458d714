import type { Redis } from 'ioredis';
import type { Endpoint } from '../src/runtime/endpoint.ts';
import { Connection } from '../src/wire/connection.ts';
import { Link } from '../src/wire/link.ts';

const RETRY_MS_MAX = 1_000;
const CONNECT_MS = 5_000;
const SILENCE_MS = 15_000;
/** An item may hold one huge command. */
const REPLY_BYTES_MAX = 2 * 1024 ** 3;

/**
 * How we connect to the queue's Redis, and to it alone: this client reconnects and re-sends, which is right only because
 * every step there can be repeated. Half-open connections are found by `socketTimeout`.
 */
export function queueConnection(endpoint: Endpoint, connectionName: string) {
  return {
    connectionName,
    host: endpoint.host,
    port: endpoint.port,
    ...(endpoint.username === undefined ? {} : { username: endpoint.username }),
    ...(endpoint.password === undefined ? {} : { password: endpoint.password }),
    db: endpoint.db,
    ...(endpoint.tls === undefined ? {} : { tls: endpoint.tls }),
    protocol: 2 as const,
    maxRetriesPerRequest: null,
    enableReadyCheck: true,
    keepAlive: 10_000,
    connectTimeout: CONNECT_MS,
    socketTimeout: SILENCE_MS,
    retryStrategy: (attempt: number) => Math.min(RETRY_MS_MAX, 20 * 2 ** Math.min(attempt, 6)),
    reconnectOnError: (error: Error) => (error.message.startsWith('READONLY') ? (2 as const) : false),
  };
}

/**
 * Lets commands that are issued in one turn of the event loop leave in one write: with many lanes in a process the
 * system calls cost more than the commands. Order and replies stay as they are.
 */
export function coalesceWrites(redis: Redis): void {
  redis.on('connect', () => {
    const { stream } = redis;
    const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
    let corked = false;
    stream.write = ((...args: unknown[]) => {
      if (!corked) {
        corked = true;
        stream.cork();
        setImmediate(() => {
          corked = false;
          stream.uncork();
        });
      }
      return write(...args);
    }) as typeof stream.write;
  });
}

/**
 * INFO of a connection that is ready. Asked for earlier, ioredis sends it in front of its own greeting, and forgets it
 * without a word where the connection breaks before it is ready: the promise would never settle.
 * @throws Error when the connection is not ready in time
 */
export async function infoOf(redis: Redis, section?: string): Promise<string> {
  if (redis.status !== 'ready') await ready(redis);
  return await (section === undefined ? redis.info() : redis.info(section));
}

/** Whatever goes wrong on the way: the connection tries again by itself. */
function ready(redis: Redis): Promise<void> {
  return new Promise((resolve, reject) => {
    const onReady = () => {
      clearTimeout(late);
      resolve();
    };
    const late = setTimeout(() => {
      redis.removeListener('ready', onReady);
      reject(new Error("the queue's Redis is not ready"));
    }, CONNECT_MS);
    redis.once('ready', onReady);
  });
}

/** For the journal's payload, which ioredis would copy: raw, and opened by its first call. */
export function queueLink(endpoint: Endpoint, name: string): Link {
  const limits = { connectTimeoutMs: CONNECT_MS, replyTimeoutMs: SILENCE_MS, maxReplyBytes: REPLY_BYTES_MAX };
  return new Link(() => Connection.open(endpoint, { name, ...limits }));
}
