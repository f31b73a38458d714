import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError } from '../runtime/errors.ts';
import type { Command } from '../sources/binlog-writer.ts';
import { connect } from './servers.ts';

const COMMANDS_PER_TRIP = 1_000;

/** One connection, one command after the other: what the source itself did. */
export async function applyOneByOne(
  server: Endpoint,
  log: Iterable<readonly Command[]>,
  signal: AbortSignal,
): Promise<void> {
  const redis = connect(server);
  try {
    let pipeline = redis.pipeline();
    for (const entry of log) {
      for (const [name, ...args] of entry) pipeline.call(String(name), ...args);
      if (pipeline.length < COMMANDS_PER_TRIP) continue;
      if (signal.aborted) throw new AbortedError();
      await allGood(pipeline);
      pipeline = redis.pipeline();
    }
    await allGood(pipeline);
  } finally {
    redis.disconnect();
  }
}

async function allGood(pipeline: {
  exec(): Promise<[error: Error | null, result: unknown][] | null>;
}): Promise<void> {
  for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
}
