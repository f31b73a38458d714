// The quick pass over a batch of keys that a scan of the source found. It clears what is equal, in three exchanges for
// the whole batch, both servers at once; whatever is not cleared is a suspect, which look.ts judges.
//
//   1  TYPE and PTTL at the source, PTTL at the target
//   2  strings: the first STRING_BYTES of both; all others: MEMORY USAGE on both
//   3  others that are small on both sides: DUMP, in parts of at most PART_BYTES
//
// Memory: 2 * BATCH_KEYS * STRING_BYTES in exchange 2 and 2 * PART_BYTES in exchange 3, or one value whose size
// MEMORY USAGE, which takes samples, has misjudged.

import { type Reply, ReplyError } from '../target/replies.ts';
import { sameDump, type TtlRule } from './look.ts';
import { type KeyedCommand, keyedCommand, Request } from './request.ts';
import { ttlsAgree } from './values/members.ts';
import type { Pair } from './values/pair.ts';

export const BATCH_KEYS = 512;
/** A string that is not longer than this is compared in the quick pass. */
const STRING_BYTES = 4_096;
/** Other values that weigh more are never asked for whole. */
const DUMP_BYTES_MAX = 64 * 1024;
const PART_BYTES = 1024 * 1024;

const TYPE = keyedCommand(['TYPE']);
const PTTL = keyedCommand(['PTTL']);
const GETRANGE = keyedCommand(['GETRANGE'], ['0', String(STRING_BYTES)]);
// Nested values are sampled: with this many samples a small one is measured whole.
const MEMORY_USAGE = keyedCommand(['MEMORY', 'USAGE'], ['SAMPLES', '64']);
const DUMP = keyedCommand(['DUMP']);

/** The keys that are not known to be equal. Both links must be in their database. */
export async function suspectsOf(pair: Pair, keys: readonly Buffer[], rule: TtlRule): Promise<Buffer[]> {
  const suspects: Buffer[] = [];
  const [heads, ttls] = await Promise.all([
    pair.source.ask(requestOf([TYPE, PTTL], keys)),
    pair.target.ask(requestOf([PTTL], keys)),
  ]);
  const strings: Buffer[] = [];
  const others: Buffer[] = [];
  for (const [at, key] of keys.entries()) {
    const type = heads[2 * at];
    const [ours, theirs] = [heads[2 * at + 1], ttls[at]];
    if (ours === -2 && theirs === -2) continue;
    const agree = typeof ours === 'number' && typeof theirs === 'number' && ttlsAgree(ours, theirs, rule);
    if (!agree) suspects.push(key);
    else if (type === 'string') strings.push(key);
    else others.push(key);
  }
  await Promise.all([
    compareStrings(pair, strings, suspects),
    canDump(pair) ? compareOthers(pair, others, suspects) : suspects.push(...others),
  ]);
  return suspects;
}

async function compareStrings(pair: Pair, keys: readonly Buffer[], suspects: Buffer[]): Promise<void> {
  const [ours, theirs] = await askBoth(pair, GETRANGE, keys);
  for (const [at, key] of keys.entries()) {
    const [a, b] = [ours[at], theirs[at]];
    // A full range may go on behind it.
    const whole = Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.length <= STRING_BYTES;
    if (!whole || !a.equals(b)) suspects.push(key);
  }
}

async function compareOthers(pair: Pair, keys: readonly Buffer[], suspects: Buffer[]): Promise<void> {
  const [ours, theirs] = await askBoth(pair, MEMORY_USAGE, keys);
  let part: Buffer[] = [];
  let partBytes = 0;
  for (const [at, key] of keys.entries()) {
    const bytes = Math.max(bytesOf(ours[at]), bytesOf(theirs[at]));
    if (bytes > DUMP_BYTES_MAX) {
      suspects.push(key);
      continue;
    }
    if (partBytes + bytes > PART_BYTES) {
      await compareDumps(pair, part, suspects);
      part = [];
      partBytes = 0;
    }
    part.push(key);
    partBytes += bytes;
  }
  await compareDumps(pair, part, suspects);
}

async function compareDumps(pair: Pair, keys: readonly Buffer[], suspects: Buffer[]): Promise<void> {
  const [ours, theirs] = await askBoth(pair, DUMP, keys);
  for (const [at, key] of keys.entries()) {
    const [a, b] = [ours[at], theirs[at]];
    if (!Buffer.isBuffer(a) || !Buffer.isBuffer(b) || !sameDump(a, b)) suspects.push(key);
  }
}

function bytesOf(reply: Reply | undefined): number {
  return typeof reply === 'number' ? reply : Number.POSITIVE_INFINITY;
}

function canDump({ source, target }: Pair): boolean {
  return source.abilities.dump && target.abilities.dump;
}

async function askBoth(
  { source, target }: Pair,
  command: KeyedCommand,
  keys: readonly Buffer[],
): Promise<readonly [source: Reply[], target: Reply[]]> {
  const request = requestOf([command], keys);
  return await Promise.all([source.ask(request), target.ask(request)]);
}

function requestOf(commands: readonly KeyedCommand[], keys: readonly Buffer[]): Request {
  const request = new Request();
  for (const key of keys) for (const command of commands) request.add(command, key);
  return request;
}

/** Those of the target's keys that the source does not have. Both links must be in their database. */
export async function lackingAt({ source }: Pair, keys: readonly Buffer[]): Promise<Buffer[]> {
  if (keys.length === 0) return [];
  const counting = new Request();
  counting.addMany('EXISTS', keys);
  const [count] = await source.ask(counting);
  if (count === keys.length) return [];
  const replies = await source.ask(requestOf([EXISTS], keys));
  return keys.filter((_, at) => replies[at] instanceof ReplyError || replies[at] !== 1);
}

const EXISTS = keyedCommand(['EXISTS']);
