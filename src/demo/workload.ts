// The binlog of the demo. Round r is the seed example among other traffic:
//
//   SET key1:{r} a1, RPUSH list:{r-list} before, INCR count:{r-count}, other keys
//   SET key1:{r} a2
//   FLUSHDB
//   SET key1:{r} a3, RPUSH list:{r-list} after, INCR count:{r-count}, other keys
//   COPY each of the three into database 1
//
// The next round's FLUSHDB wipes what this one left, so the log itself records how each round went: database 1 is
// never flushed. Key and copy have the same name and so share a lane; FLUSHDB is the only command that needs a gate.
// A FLUSHDB that comes too late or comes twice loses values, one that comes too early leaves those from before it.

import type { Command } from '../sources/binlog-writer.ts';

/** Database of the copies. */
export const RECORD_DB = 1;

const OTHERS_BEFORE = 9;
const OTHERS_BEHIND = 7;
const USERS = 400;
const PROFILE_CHARS = 80;

/** The keys by which a round is judged: a string, a list and a counter, usually in three lanes. */
export function judgedKeys(round: number): { key1: string; list: string; count: string } {
  return { key1: `key1:{${round}}`, list: `list:{${round}-list}`, count: `count:{${round}-count}` };
}

/** The same commands whenever it is called with the same number. */
export function roundCommands(round: number): Command[] {
  const { key1, list, count } = judgedKeys(round);
  const random = randomOf(round);
  const record = (key: string): Command => ['COPY', key, key, 'DB', RECORD_DB];
  return [
    ['SET', key1, 'a1'],
    ['RPUSH', list, 'before'],
    ['INCR', count],
    ...otherTraffic(random, OTHERS_BEFORE),
    ['SET', key1, 'a2'],
    ['FLUSHDB'],
    ['SET', key1, 'a3'],
    ['RPUSH', list, 'after'],
    ['INCR', count],
    ...otherTraffic(random, OTHERS_BEHIND),
    record(key1),
    record(list),
    record(count),
  ];
}

export const COMMANDS_PER_ROUND = roundCommands(0).length;

export function* rounds(from: number, to: number): Generator<Command[]> {
  for (let round = from; round < to; round++) yield roundCommands(round);
}

/** What an application does all day: single keys, a few of them more often than the rest. */
export function otherTraffic(random: () => number, count: number): Command[] {
  return Array.from({ length: count }, (): Command => {
    const user = Math.floor(random() ** 2 * USERS);
    const choice = random();
    if (choice < 0.4) return ['SET', `profile:${user}`, `${user}`.padEnd(PROFILE_CHARS, '.')];
    if (choice < 0.6) return ['INCR', `visits:${user % 20}`];
    if (choice < 0.8) return ['RPUSH', `cart:${user}`, Math.floor(random() * 1000)];
    return ['HSET', `session:${user}`, 'seen', Math.floor(random() * 1e9), 'page', `/item/${user}`];
  });
}

/** mulberry32: small, and the same on every machine. */
export function randomOf(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b1);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
