// Deadlines of keys, asked of any server: exact ones where it has PEXPIRETIME (Redis 7.0).

import type { Link } from '../verify/link.ts';
import { listOf } from '../verify/values/pair.ts';
import type { Argument } from '../wire/encode.ts';
import { type Reply, ReplyError } from '../wire/replies.ts';

/** Deadlines that are computed from PTTL and TIME may be off by so much. */
export const COMPUTED_MS = 3;

export function questionOf(keys: readonly Buffer[], exact: boolean): Argument[][] {
  const commands: Argument[][] = keys.map((key) => [exact ? 'PEXPIRETIME' : 'PTTL', key]);
  // Behind the keys: TIME tells what PTTL counts from.
  commands.push(exact ? ['PING'] : ['TIME']);
  return commands;
}

/** Absolute ms, -1 for none, -2 for no such key; `replies` are those to `questionOf` for `count` keys. */
export function deadlinesOf(replies: readonly Reply[], count: number): number[] {
  const time = replies[count];
  const [seconds, micros] = listOf(time).map(Number);
  const addMs =
    seconds === undefined || micros === undefined ? 0 : seconds * 1000 + Math.floor(micros / 1000);
  return replies.slice(0, count).map((reply) => {
    if (reply instanceof ReplyError) throw reply;
    const value = Number(reply);
    return value < 0 ? value : value + addMs;
  });
}

/** PEXPIRETIME: Redis 7.0. */
export async function knowsDeadlines(link: Link): Promise<boolean> {
  const [reply] = await link.call([['PEXPIRETIME', 'lanegate:finish:probe']]);
  return !(reply instanceof ReplyError);
}

/** Conditions of PEXPIREAT: Redis 7.0. */
export async function knowsConditions(link: Link): Promise<boolean> {
  const [reply] = await link.call([['PEXPIREAT', 'lanegate:finish:probe', 1, 'XX']]);
  return !(reply instanceof ReplyError);
}
