// Hashes, sets and sorted sets: the same members on both sides, each with the same value or score, in whatever order
// the servers keep them.
//
// One side is scanned in pieces and the other one is asked for what was found, so that neither side's value is ever held
// whole. If afterwards the sides do not have equally many members, the other direction is walked as well: that finds what only
// the target has. SCAN promises to return what is there from its beginning to its end, so for a value that rests this is
// exact; it may return a member twice, which changes nothing.
//
// A large value may change while it is walked through, and the target may lag by a moment. A member that differs is
// therefore asked for again, on both sides at once, a few times; a small value is left to the next round.

import { setTimeout as delay } from 'node:timers/promises';
import { formatKey } from '../../binlog/quoting.ts';
import type { Argument } from '../../wire/encode.ts';
import type { Reply } from '../../wire/replies.ts';
import type { Link } from '../link.ts';
import { both, bufferOf, buffersOf, checked, listOf, Moved, one, type Pair, weightOf } from './pair.ts';
import { PieceSize } from './piece.ts';

const SHOWN_BYTES_MAX = 64;
const AGAIN_MS = [25, 50, 100, 200] as const;
/** Values of more members are settled member by member. */
const SMALL_MEMBERS_MAX = 2_000;

export type MembersType = 'hash' | 'set' | 'zset';

interface Shape {
  readonly count: string;
  readonly scan: string;
  /** Replies of SCAN per member. */
  readonly stride: 1 | 2;
  /** What a member is called in messages. */
  readonly noun: string;
  /** Asks one side for the values of `members`: one reply per member, null for one that is not there. */
  ask(link: Link, key: Buffer, members: readonly Buffer[]): Promise<Reply[]>;
  same(a: Reply | undefined, b: Reply | undefined): boolean;
}

const SHAPES: Readonly<Record<MembersType, Shape>> = {
  hash: {
    count: 'HLEN',
    scan: 'HSCAN',
    stride: 2,
    noun: 'field',
    ask: async (link, key, members) => listOf(await one(link, ['HMGET', key, ...members])),
    same: (a, b) => Buffer.isBuffer(a) && Buffer.isBuffer(b) && a.equals(b),
  },
  set: {
    count: 'SCARD',
    scan: 'SSCAN',
    stride: 1,
    noun: 'member',
    ask: async (link, key, members) => {
      const replies = await askEach(link, 'SMISMEMBER', 'SISMEMBER', key, members);
      return replies.map((reply) => (reply === 1 ? 1 : null));
    },
    same: (a, b) => a !== null && b !== null,
  },
  zset: {
    count: 'ZCARD',
    scan: 'ZSCAN',
    stride: 2,
    noun: 'member',
    ask: async (link, key, members) => await askEach(link, 'ZMSCORE', 'ZSCORE', key, members),
    same: (a, b) => a !== null && b !== null && score(a) === score(b),
  },
};

/** Where two hashes, sets or sorted sets differ; undefined when they are equal. Memory: one piece of each, or one member. */
export async function compareMembers(
  pair: Pair,
  key: Buffer,
  type: MembersType,
): Promise<string | undefined> {
  const shape = SHAPES[type];
  const [before] = await both(pair, [shape.count, key]);
  const patient = Number(before) > SMALL_MEMBERS_MAX;
  const found = await walk(pair, key, shape, { from: pair.source, at: pair.target, patient });
  if (found !== undefined) return found;
  const [ours, theirs] = await both(pair, [shape.count, key]);
  if (ours === theirs) return undefined;
  return await walk(pair, key, shape, { from: pair.target, at: pair.source, patient });
}

async function walk(
  pair: Pair,
  key: Buffer,
  shape: Shape,
  way: { readonly from: Link; readonly at: Link; readonly patient: boolean },
): Promise<string | undefined> {
  const size = new PieceSize();
  let cursor = '0';
  do {
    const reply = listOf(await one(way.from, [shape.scan, key, cursor, 'COUNT', size.count]));
    cursor = String(reply[0]);
    const found = buffersOf(reply[1]);
    size.learn(found.length / shape.stride, weightOf(found));
    const members = shape.stride === 1 ? found : found.filter((_, at) => at % 2 === 0);
    if (members.length === 0) continue;
    const values = await shape.ask(way.at, key, members);
    for (const [at, member] of members.entries()) {
      const value = shape.stride === 1 ? 1 : found[2 * at + 1];
      if (shape.same(value, values[at])) continue;
      if (way.patient && (await settles(pair, key, shape, member))) continue;
      return describe(shape, member, values[at] ?? null, way.at);
    }
  } while (cursor !== '0');
  return undefined;
}

/** True as soon as both sides say the same of the member, also that they do not have it. */
async function settles(pair: Pair, key: Buffer, shape: Shape, member: Buffer): Promise<boolean> {
  for (const ms of AGAIN_MS) {
    await delay(ms);
    const [a, b] = await Promise.all([
      shape.ask(pair.source, key, [member]),
      shape.ask(pair.target, key, [member]),
    ]);
    const [ours = null, theirs = null] = [a[0], b[0]];
    if ((ours === null && theirs === null) || shape.same(ours, theirs)) return true;
  }
  return false;
}

function describe(shape: Shape, member: Buffer, value: Reply, asked: Link): string {
  const name = `${shape.noun} ${formatKey(member, SHOWN_BYTES_MAX)}`;
  if (value === null) return `${name} is missing at the ${asked.side}`;
  return shape.scan === 'ZSCAN' ? `${name} has another score` : name;
}

/** One command for all members where the server has it; older ones are asked for each. */
async function askEach(
  link: Link,
  many: string,
  each: string,
  key: Buffer,
  members: readonly Buffer[],
): Promise<Reply[]> {
  if (link.abilities.multiMember) return listOf(await one(link, [many, key, ...members]));
  const commands = members.map((member): Argument[] => [each, key, member]);
  return (await link.call(commands)).map(checked);
}

/** Servers print the same score in different ways (1e3, 1000, inf): what counts is the double. */
function score(reply: Reply | undefined): number {
  if (typeof reply === 'number') return reply;
  const text = bufferOf(reply).toString('latin1');
  const value = Number(text.replace('inf', 'Infinity'));
  if (Number.isNaN(value)) throw new Moved(`not a score`);
  return value;
}

/** False for a hash of which nothing is shown any more. */
export async function hasFields(link: Link, key: Buffer): Promise<boolean> {
  if (!link.abilities.fieldTtl) return true;
  let cursor = '0';
  do {
    const reply = listOf(await one(link, ['HSCAN', key, cursor, 'COUNT', 100]));
    cursor = String(reply[0]);
    if (listOf(reply[1]).length > 0) return true;
  } while (cursor !== '0');
  return false;
}

/** Where the deadlines of fields differ (Redis 7.4); undefined when they agree within `toleranceMs`. */
export async function compareFieldTtls(
  pair: Pair,
  key: Buffer,
  ttl: { readonly toleranceMs: number; readonly graceMs: number },
): Promise<string | undefined> {
  const size = new PieceSize();
  let cursor = '0';
  do {
    const reply = listOf(await one(pair.source, ['HSCAN', key, cursor, 'COUNT', size.count]));
    cursor = String(reply[0]);
    const found = buffersOf(reply[1]);
    size.learn(found.length / 2, weightOf(found));
    const fields = found.filter((_, at) => at % 2 === 0);
    if (fields.length === 0) continue;
    const [ours, theirs] = await both(pair, ['HPTTL', key, 'FIELDS', fields.length, ...fields]);
    const [a, b] = [listOf(ours), listOf(theirs)];
    for (const [at, field] of fields.entries()) {
      if (ttlsAgree(Number(a[at]), Number(b[at]), ttl)) continue;
      return `field ${formatKey(field, SHOWN_BYTES_MAX)} ${ttlText(Number(a[at]), Number(b[at]))}`;
    }
  } while (cursor !== '0');
  return undefined;
}

/** PTTL's answers: -2 no such key or field, -1 without a deadline. The target's may be held back by `graceMs`. */
export function ttlsAgree(
  sourceMs: number,
  targetMs: number,
  { toleranceMs, graceMs }: { readonly toleranceMs: number; readonly graceMs: number },
): boolean {
  if (sourceMs < 0 || targetMs < 0) return sourceMs === targetMs;
  return Math.abs(targetMs - graceMs - sourceMs) <= toleranceMs;
}

export function ttlText(sourceMs: number, targetMs: number): string {
  const text = (ms: number) => (ms < 0 ? 'no TTL' : `TTL ${(ms / 1000).toFixed(1)} s`);
  return `${text(sourceMs)} / ${text(targetMs)}`;
}
