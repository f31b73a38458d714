// The quick pass over a batch of keys that a scan of the source found. It clears what is equal, in three exchanges for
// the whole batch, both servers at once; whatever is not cleared is a suspect, which look.ts judges.
//
//   1  TYPE and PTTL at the source, PTTL at the target
//   2  strings: the first STRING_BYTES of both; all others: MEMORY USAGE on both
//   3  others that are small on both sides: DUMP, in parts of at most PART_BYTES; sets: SMEMBERS
//   4  hashes whose DUMPs differ: HGETALL
//
// A hash table is dumped in the order of its buckets, which each process hashes with a seed of its own: equal sets, and
// equal hashes that are not small, seldom give equal bytes.
//
// Memory: 2 * BATCH_KEYS * STRING_BYTES in exchange 2 and a few times PART_BYTES in 3 and 4, or one value whose size
// MEMORY USAGE, which takes samples, has misjudged.

import { type Reply, ReplyError } from '../wire/replies.ts';
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
const SMEMBERS = keyedCommand(['SMEMBERS']);
const HGETALL = keyedCommand(['HGETALL']);
const EXISTS = keyedCommand(['EXISTS']);

interface Typed {
  readonly key: Buffer;
  readonly type: Reply | undefined;
}

/** The keys that are not known to be equal, and how many are on neither side any more. Both links in their database. */
export async function suspectsOf(
  pair: Pair,
  keys: readonly Buffer[],
  rule: TtlRule,
): Promise<{ readonly suspects: readonly Buffer[]; readonly gone: number }> {
  const suspects: Buffer[] = [];
  let gone = 0;
  const [heads, ttls] = await Promise.all([
    pair.source.ask(requestOf([TYPE, PTTL], keys)),
    pair.target.ask(requestOf([PTTL], keys)),
  ]);
  const strings: Buffer[] = [];
  const others: Typed[] = [];
  for (const [at, key] of keys.entries()) {
    const type = heads[2 * at];
    const [ours, theirs] = [heads[2 * at + 1], ttls[at]];
    const agree = typeof ours === 'number' && typeof theirs === 'number' && ttlsAgree(ours, theirs, rule);
    if (ours === -2 && theirs === -2) gone++;
    else if (!agree) suspects.push(key);
    else if (type === 'string') strings.push(key);
    else others.push({ key, type });
  }
  await Promise.all([
    compareStrings(pair, strings, suspects),
    canDump(pair) ? compareOthers(pair, others, suspects) : suspects.push(...keysOf(others)),
  ]);
  return { suspects, gone };
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

async function compareOthers(pair: Pair, others: readonly Typed[], suspects: Buffer[]): Promise<void> {
  const [ours, theirs] = await askBoth(pair, MEMORY_USAGE, keysOf(others));
  let part: Typed[] = [];
  let partBytes = 0;
  for (const [at, other] of others.entries()) {
    const bytes = Math.max(bytesOf(ours[at]), bytesOf(theirs[at]));
    if (bytes > DUMP_BYTES_MAX) {
      suspects.push(other.key);
      continue;
    }
    if (partBytes + bytes > PART_BYTES) {
      await comparePart(pair, part, suspects);
      part = [];
      partBytes = 0;
    }
    part.push(other);
    partBytes += bytes;
  }
  await comparePart(pair, part, suspects);
}

async function comparePart(pair: Pair, part: readonly Typed[], suspects: Buffer[]): Promise<void> {
  const sets = part.filter(({ type }) => type === 'set');
  const others = part.filter(({ type }) => type !== 'set');
  const [unequalSets, unequal] = await Promise.all([
    differing(pair, SMEMBERS, sets, (a, b) => sameMembers(a, b, 1)),
    differing(pair, DUMP, others, sameDumps),
  ]);
  // Fields that have deadlines of their own are left to the careful look.
  const byFields = !(pair.source.abilities.fieldTtl || pair.target.abilities.fieldTtl);
  const hashes = byFields ? unequal.filter(({ type }) => type === 'hash') : [];
  const rest = byFields ? unequal.filter(({ type }) => type !== 'hash') : unequal;
  const unequalHashes = await differing(pair, HGETALL, hashes, (a, b) => sameMembers(a, b, 2));
  for (const { key } of [...unequalSets, ...rest, ...unequalHashes]) suspects.push(key);
}

/** Those whose replies are not the `same`. */
async function differing(
  pair: Pair,
  command: KeyedCommand,
  keys: readonly Typed[],
  same: (ours: Reply | undefined, theirs: Reply | undefined) => boolean,
): Promise<Typed[]> {
  if (keys.length === 0) return [];
  const [ours, theirs] = await askBoth(pair, command, keysOf(keys));
  return keys.filter((_, at) => !same(ours[at], theirs[at]));
}

function sameDumps(a: Reply | undefined, b: Reply | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) && sameDump(a, b);
}

/** The same members, or fields and values, in any order; `stride` is 2 for fields and values. An empty list is no value. */
export function sameMembers(a: Reply | undefined, b: Reply | undefined, stride: 1 | 2): boolean {
  if (!Array.isArray(a) || !Array.isArray(b) || a.length !== b.length || a.length === 0) return false;
  if (a.every((item, at) => sameBytes(item, b[at]))) return true;
  const known = new Map<string, Reply | undefined>();
  for (let at = 0; at < a.length; at += stride) known.set(nameOf(a[at]), a[at + stride - 1]);
  for (let at = 0; at < b.length; at += stride) {
    const name = nameOf(b[at]);
    if (!sameBytes(known.get(name), b[at + stride - 1])) return false;
    known.delete(name);
  }
  return known.size === 0;
}

function sameBytes(a: Reply | undefined, b: Reply | undefined): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b);
}

function nameOf(reply: Reply | undefined): string {
  return Buffer.isBuffer(reply) ? reply.toString('latin1') : String(reply);
}

function keysOf(typed: readonly Typed[]): Buffer[] {
  return typed.map(({ key }) => key);
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
