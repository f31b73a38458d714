// The careful look at one key: what differs, if anything does. It asks for as little at a time as it can, so that a value
// of any size passes through bounded memory; the quick pass (batch.ts) spares most keys from it.

import { compareLists } from './values/list.ts';
import { compareFieldTtls, compareMembers, hasFields, ttlsAgree, ttlText } from './values/members.ts';
import { both, bufferOf, Moved, type Pair } from './values/pair.ts';
import { compareStreams } from './values/stream.ts';
import { compareStrings } from './values/string.ts';
import { compareVectorSets } from './values/vectorset.ts';

export const KINDS = ['missing', 'extra', 'type', 'ttl', 'value'] as const;
export type Kind = (typeof KINDS)[number];

/** How one key differs. `detail` names a place, never a value. */
export interface Finding {
  readonly kind: Kind;
  readonly detail: string;
}

export interface TtlRule {
  readonly toleranceMs: number;
  /** What the target's deadlines are held back by. */
  readonly graceMs: number;
}

/** The bytes behind the value in a DUMP: RDB version and CRC. The version may differ where the value does not. */
const DUMP_FOOTER_BYTES = 10;

export type Verdict = Finding | 'equal' | 'gone';

/** Both links must be in the key's database. */
export async function lookAtKey(pair: Pair, key: Buffer, rule: TtlRule): Promise<Verdict> {
  try {
    return await look(pair, key, rule);
  } catch (error) {
    // It changed its type or went away while it was looked at: the next round finds it at rest.
    if (error instanceof Moved) return { kind: 'value', detail: 'changed while it was compared' };
    throw error;
  }
}

async function look(pair: Pair, key: Buffer, rule: TtlRule): Promise<Verdict> {
  const [ours, theirs] = await Promise.all([headOf(pair.source, key), headOf(pair.target, key)]);
  if (ours.type === 'none' && theirs.type === 'none') return 'gone';
  if (ours.type === 'none' || theirs.type === 'none') {
    const link = theirs.type === 'none' ? pair.source : pair.target;
    // A server that has not come by still shows the key when the time of its last field has passed.
    const isEmpty = ours.type === 'hash' || theirs.type === 'hash' ? !(await hasFields(link, key)) : false;
    return isEmpty ? 'gone' : lone(ours, theirs, rule);
  }
  if (ours.type !== theirs.type) return { kind: 'type', detail: `${ours.type} / ${theirs.type}` };
  const place = await valueDifference(pair, key, ours.type);
  if (place !== undefined) return { kind: 'value', detail: place };
  if (!ttlsAgree(ours.ttlMs, theirs.ttlMs, rule)) {
    return { kind: 'ttl', detail: ttlText(ours.ttlMs, theirs.ttlMs) };
  }
  if (ours.type === 'hash' && pair.source.abilities.fieldTtl && pair.target.abilities.fieldTtl) {
    const field = await compareFieldTtls(pair, key, rule);
    if (field !== undefined) return { kind: 'ttl', detail: field };
  }
  return 'equal';
}

interface Head {
  readonly type: string;
  readonly ttlMs: number;
}

async function headOf(link: Pair['source'], key: Buffer): Promise<Head> {
  const [type, ttl] = await link.call([
    ['TYPE', key],
    ['PTTL', key],
  ]);
  const ttlMs = Number(ttl);
  // It expired between the two.
  return ttlMs === -2 ? { type: 'none', ttlMs } : { type: String(type), ttlMs };
}

/** A key that is on one side only: no difference when its time has come, as far as the two clocks can be compared. */
function lone(ours: Head, theirs: Head, { toleranceMs, graceMs }: TtlRule): Verdict {
  const missing = theirs.type === 'none';
  const leftMs = missing ? ours.ttlMs : theirs.ttlMs - graceMs;
  const expires = (missing ? ours.ttlMs : theirs.ttlMs) >= 0;
  if (expires && leftMs <= toleranceMs) return 'gone';
  return missing ? { kind: 'missing', detail: ours.type } : { kind: 'extra', detail: theirs.type };
}

async function valueDifference(pair: Pair, key: Buffer, type: string): Promise<string | undefined> {
  switch (type) {
    case 'string':
      return await compareStrings(pair, key);
    case 'list':
      return await compareLists(pair, key);
    case 'hash':
    case 'set':
    case 'zset':
      return await compareMembers(pair, key, type);
    case 'stream':
      return await compareStreams(pair, key);
    case 'vectorset':
      return await compareVectorSets(pair, key);
    default:
      return await compareDumps(pair, key, type);
  }
}

/** A module's type: only the module knows what is in it. */
async function compareDumps(pair: Pair, key: Buffer, type: string): Promise<string | undefined> {
  const [ours, theirs] = (await both(pair, ['DUMP', key])).map(bufferOf);
  if (ours !== undefined && theirs !== undefined && sameDump(ours, theirs)) return undefined;
  return `${type} (compared by DUMP alone)`;
}

/** Equal type and bytes mean an equal value; unequal ones may be two encodings of the same. */
export function sameDump(a: Buffer, b: Buffer): boolean {
  const end = a.length - DUMP_FOOTER_BYTES;
  return a.length === b.length && end > 0 && a.compare(b, 0, end, 0, end) === 0;
}
