import type { Redis } from 'ioredis';
import { RESERVED_PREFIX } from '../binlog/reserved-keys.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { connect } from './servers.ts';
import { judgedKeys, RECORD_DB } from './workload.ts';

const ROUNDS_PER_TRIP = 500;

export interface Outcome {
  readonly key1: string | null;
  /** All that is known of the round; equal exactly when it went the same way. */
  readonly all: string;
}

export interface Divergence {
  readonly rounds: number;
  /** Rounds in which key1 itself is missing or stale. */
  readonly key1: number;
}

/** How each round went on this server. What stands in database 0 at the end is the last round's. */
export async function readOutcomes(server: Endpoint, count: number): Promise<Outcome[]> {
  const record = connect(server, RECORD_DB);
  const last = connect(server);
  try {
    const outcomes: Outcome[] = [];
    for (let from = 0; from < count; from += ROUNDS_PER_TRIP) {
      outcomes.push(...(await readRounds(record, from, Math.min(count, from + ROUNDS_PER_TRIP))));
    }
    const final = outcomes.pop();
    if (final) outcomes.push({ ...final, all: `${final.all} ${await dump(last)}` });
    return outcomes;
  } finally {
    record.disconnect();
    last.disconnect();
  }
}

export function compareOutcomes(reference: readonly Outcome[], actual: readonly Outcome[]): Divergence {
  const diverged = reference.filter((outcome, round) => outcome.all !== actual[round]?.all);
  const lost = reference.filter((outcome, round) => outcome.key1 !== actual[round]?.key1);
  return { rounds: diverged.length, key1: lost.length };
}

async function readRounds(redis: Redis, from: number, to: number): Promise<Outcome[]> {
  const pipeline = redis.pipeline();
  for (let round = from; round < to; round++) {
    const { key1, list, count } = judgedKeys(round);
    pipeline.get(key1).lrange(list, 0, -1).get(count);
  }
  const values = await results(pipeline);
  return Array.from({ length: to - from }, (_, at) => {
    const [key1, list, count] = values.slice(at * 3, at * 3 + 3);
    return { key1: key1 as string | null, all: JSON.stringify([key1, list, count]) };
  });
}

/** Every key but lanegate's own, in the order of the names. */
async function dump(redis: Redis): Promise<string> {
  const keys = (await redis.keys('*')).filter((key) => !key.startsWith(RESERVED_PREFIX)).sort();
  const types = redis.pipeline();
  for (const key of keys) types.type(key);
  const values = redis.pipeline();
  for (const [at, type] of (await results(types)).entries()) {
    const key = keys[at] as string;
    if (type === 'list') values.lrange(key, 0, -1);
    else if (type === 'hash') values.hgetall(key);
    else values.get(key);
  }
  const contents = await results(values);
  return JSON.stringify(keys.map((key, at) => [key, contents[at]]));
}

async function results(pipeline: ReturnType<Redis['pipeline']>): Promise<unknown[]> {
  const replies = (await pipeline.exec()) ?? [];
  return replies.map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}
