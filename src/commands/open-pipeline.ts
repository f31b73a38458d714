import { existsSync } from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import type { QueueSet } from '../../queues/queue-set.ts';
import { Journal } from '../journal/journal.ts';
import { Records } from '../journal/records.ts';
import { EmbeddedQueue } from '../roles/embedded-queue.ts';
import { Observer } from '../roles/observe.ts';
import { connectQueue } from '../roles/queue-connection.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { packageVersion } from '../runtime/package.ts';
import type { Source } from '../sources/source.ts';
import type { CommandContext } from './context.ts';
import { sourceOf } from './source-of.ts';

/** A pipeline as a command sees it from outside. */
export interface OpenPipeline {
  readonly redis: Redis;
  readonly journal: Journal;
  readonly records: Records;
  readonly observer: Observer;
  /** Loaded and opened when it is first asked for: most commands need no BullMQ. */
  readonly queues: () => Promise<QueueSet>;
  /** When --source is given. */
  readonly source: Source | undefined;
}

/** Connects to the queue, does `work`, and closes everything. @throws StopError, ConfigurationError */
export async function withPipeline<T>(
  context: CommandContext,
  work: (pipeline: OpenPipeline) => Promise<T>,
): Promise<T> {
  return await withQueueAt(await locateQueue(context), context, work);
}

/** For short commands that an ended run leaves something to do: its queue server comes back meanwhile. */
export async function withPipelineOrItsRemains<T>(
  context: CommandContext,
  work: (pipeline: OpenPipeline) => Promise<T>,
): Promise<T> {
  const reached = await reachQueue(context);
  if (reached === undefined) return await withPipeline(context, work);
  try {
    return await withQueueAt(reached.endpoint, context, work);
  } finally {
    await reached.close();
  }
}

async function withQueueAt<T>(
  endpoint: Endpoint,
  context: CommandContext,
  work: (pipeline: OpenPipeline) => Promise<T>,
): Promise<T> {
  const { config } = context;
  const source = sourceOf(context.config, (text) => context.stderr.write(`lanegate: ${text}\n`));
  let queues: QueueSet | undefined;
  const redis = await connectQueue(endpoint, `lanegate:${config.name}:cli`);
  const journal = new Journal(config.name, redis);
  const { name, target } = config;
  const observer = new Observer({ name, version: packageVersion(), redis, target, source, now: Date.now });
  try {
    return await work({
      redis,
      journal,
      records: new Records(redis, journal.keys),
      observer,
      queues: async () => {
        const { QueueSet } = await import('../../queues/queue-set.ts');
        queues ??= new QueueSet(redis, journal.keys);
        return queues;
      },
      source,
    });
  } finally {
    observer.close();
    await queues?.close();
    await source?.close();
    redis.disconnect();
  }
}

/** --queue, else the embedded server of a run. @throws ConfigurationError naming both */
export async function locateQueue({ config }: CommandContext): Promise<Endpoint> {
  const found = config.queue ?? (await EmbeddedQueue.find(config.dataDir));
  if (found !== undefined) return found;
  throw new ConfigurationError([
    '--queue is missing (or LANEGATE_QUEUE, or queue in the file of --config), ' +
      `and no embedded queue server runs in ${config.dataDir} (--data-dir)`,
  ]);
}

/** --queue, else the embedded server of a run, else one for what a run that has ended left in --data-dir. */
export async function reachQueue({
  config,
  log,
}: CommandContext): Promise<
  { readonly endpoint: Endpoint; readonly close: () => Promise<void> } | undefined
> {
  const endpoint = config.queue ?? (await EmbeddedQueue.find(config.dataDir));
  if (endpoint !== undefined) return { endpoint, close: async () => {} };
  if (!existsSync(join(config.dataDir, 'queue'))) return undefined;
  const embedded = await EmbeddedQueue.start({ dataDir: config.dataDir, log });
  return { endpoint: embedded.endpoint, close: () => embedded.stop() };
}

/** `user@host`, for what is kept with a decision. */
export function operatorName(): string {
  return `${userName()}@${hostname()}`;
}

function userName(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run under a uid that has no name.
    return `uid-${process.getuid?.() ?? '?'}`;
  }
}
