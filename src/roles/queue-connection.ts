import { Redis } from 'ioredis';
import { queueConnection } from '../../queues/connection.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import { connectionHint } from './connection-hint.ts';

/**
 * A connection for commands that people wait for: it fails instead of hanging while the server is away, and comes back
 * with it.
 * @throws StopError QUEUE_UNREACHABLE
 */
export async function connectQueue(endpoint: Endpoint, connectionName: string): Promise<Redis> {
  const redis = new Redis({
    ...queueConnection(endpoint, connectionName),
    lazyConnect: true,
    maxRetriesPerRequest: 1,
  });
  let trouble: Error | undefined;
  redis.on('error', (error: Error) => {
    trouble ??= error;
  });
  try {
    await redis.connect();
    // ioredis' own SELECT goes on in database 0 when the server refuses it.
    await redis.select(endpoint.db);
    return redis;
  } catch (error) {
    redis.disconnect();
    const why = safeMessage(trouble ?? error);
    throw new StopError('QUEUE_UNREACHABLE', `the queue's Redis ${endpoint.display} cannot be used: ${why}`, {
      hint: connectionHint('queue', why),
      cause: error,
    });
  }
}
