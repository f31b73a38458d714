import { Redis } from 'ioredis';
import type { Endpoint } from '../runtime/endpoint.ts';
import { StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';

const CONNECT_MS_MAX = 5_000;
const RECONNECT_MS_MAX = 1_000;
const SILENCE_MS_MAX = 15_000;

/**
 * A connection for commands that people wait for: it fails instead of hanging while the server is away, and comes back
 * with it.
 * @throws StopError QUEUE_UNREACHABLE
 */
export async function connectQueue(endpoint: Endpoint, connectionName: string): Promise<Redis> {
  const { host, port, username, password, db, tls, display } = endpoint;
  const redis = new Redis({
    host,
    port,
    db,
    connectionName,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(tls === undefined ? {} : { tls }),
    lazyConnect: true,
    connectTimeout: CONNECT_MS_MAX,
    socketTimeout: SILENCE_MS_MAX,
    maxRetriesPerRequest: 1,
    retryStrategy: (times) => Math.min(RECONNECT_MS_MAX, times * 50),
  });
  let trouble: Error | undefined;
  redis.on('error', (error: Error) => {
    trouble ??= error;
  });
  try {
    await redis.connect();
    // ioredis' own SELECT goes on in database 0 when the server refuses it.
    await redis.select(db);
    return redis;
  } catch (error) {
    redis.disconnect();
    const why = safeMessage(trouble ?? error);
    throw new StopError('QUEUE_UNREACHABLE', `the queue's Redis ${display} cannot be used: ${why}`, {
      hint: /NOAUTH|WRONGPASS/.test(why)
        ? 'set LANEGATE_QUEUE_PASSWORD, or --queue-password-file'
        : 'start it, or point --queue at the right server',
      cause: error,
    });
  }
}
