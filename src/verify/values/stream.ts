// Streams: entries, last id, groups with their positions, consumers and what is pending for them. Left out is what says
// nothing of the data and differs by nature: idle times, and counters that older servers do not keep (entries-added).
//
// Entries are read in pieces from both sides under the same bounds: behind the last entry compared, up to the last id
// that the source had at the beginning. What is appended meanwhile does not matter; a target that lags is waited for.

import { setTimeout as delay } from 'node:timers/promises';
import { formatKey } from '../../binlog/quoting.ts';
import { compareIds, nextId } from '../../binlog/stream-id.ts';
import type { Argument } from '../../wire/encode.ts';
import type { Reply } from '../../wire/replies.ts';
import type { Link } from '../link.ts';
import { both, bufferOf, buffersOf, listOf, one, type Pair, weightOf } from './pair.ts';
import { PieceSize } from './piece.ts';

const SHOWN_BYTES_MAX = 64;
const PENDING_COUNT = 1_000;
const AGAIN_MS = [25, 50, 100, 200] as const;

/** Where two streams differ; undefined when they are equal. Memory: one piece of each, or one entry. */
export async function compareStreams(pair: Pair, key: Buffer): Promise<string | undefined> {
  const last = await lastIdOf(pair.source, key);
  const theirs = await lastIdOf(pair.target, key, last);
  // The target may have got there after the source was asked: then the source is there as well by now.
  const ahead = isBehind(last, theirs) && isBehind(await lastIdOf(pair.source, key), theirs);
  if (ahead || isBehind(theirs, last)) return `stream last id ${last} / ${theirs}`;
  return (await compareEntries(pair, key, last)) ?? (await compareGroups(pair, key));
}

/** With `wanted` the server is given a moment to get there. */
async function lastIdOf(link: Link, key: Buffer, wanted = '0-0'): Promise<string> {
  for (let again = 0; ; again++) {
    const last = fieldOf(await one(link, ['XINFO', 'STREAM', key]), 'last-generated-id').toString();
    const ms = AGAIN_MS[again];
    if (!isBehind(last, wanted) || ms === undefined) return last;
    await delay(ms);
  }
}

async function compareEntries(pair: Pair, key: Buffer, last: string): Promise<string | undefined> {
  const size = new PieceSize();
  let start = '-';
  for (;;) {
    const { count } = size;
    const [a, b] = (await both(pair, ['XRANGE', key, start, last, 'COUNT', count])).map(entriesOf);
    if (a === undefined || b === undefined || a.length + b.length === 0) return undefined;
    const pieces = Math.min(a.length, b.length);
    for (let at = 0; at < Math.max(a.length, b.length); at++) {
      const [ours, theirs] = [a[at], b[at]];
      if (ours === undefined || theirs === undefined) {
        return `stream entry ${(ours ?? theirs)?.id} is missing at the ${ours === undefined ? 'source' : 'target'}`;
      }
      if (ours.id !== theirs.id) return missingEntry(ours.id, theirs.id);
      const field = differingField(ours.fields, theirs.fields);
      if (field !== undefined) return `stream entry ${ours.id} ${field}`;
    }
    const end = a[pieces - 1];
    if (end === undefined || pieces < count) return undefined;
    size.learn(pieces, Math.max(...[a, b].map((list) => list.reduce((sum, one) => sum + one.weight, 0))));
    start = nextId(end.id);
  }
}

interface Entry {
  readonly id: string;
  readonly fields: readonly Buffer[];
  readonly weight: number;
}

function entriesOf(reply: Reply): Entry[] {
  return listOf(reply).map((entry) => {
    const [id, fields] = listOf(entry);
    const buffers = buffersOf(fields);
    return { id: bufferOf(id).toString(), fields: buffers, weight: weightOf(buffers) };
  });
}

function missingEntry(ours: string, theirs: string): string {
  return isBehind(ours, theirs)
    ? `stream entry ${ours} is missing at the target`
    : `stream entry ${theirs} is missing at the source`;
}

/** `field x` whose name or value differs. */
function differingField(ours: readonly Buffer[], theirs: readonly Buffer[]): string | undefined {
  if (ours.length !== theirs.length) return `fields ${ours.length / 2} / ${theirs.length / 2}`;
  const at = ours.findIndex((bytes, index) => !bytes.equals(theirs[index] as Buffer));
  if (at === -1) return undefined;
  return `field ${formatKey(ours[at - (at % 2)] as Buffer, SHOWN_BYTES_MAX)}`;
}

async function compareGroups(pair: Pair, key: Buffer): Promise<string | undefined> {
  const [ours, theirs] = (await both(pair, ['XINFO', 'GROUPS', key])).map((reply) => byName(reply));
  if (ours === undefined || theirs === undefined) return undefined;
  const lone = loneName(ours, theirs);
  if (lone !== undefined) return `stream group ${lone}`;
  for (const [, group] of ours) {
    const name = fieldOf(group, 'name');
    const other = theirs.get(name.toString('latin1'));
    const shown = `stream group ${formatKey(name, SHOWN_BYTES_MAX)}`;
    const [a, b] = [group, other].map((one) => fieldOf(one, 'last-delivered-id').toString());
    if (a !== b) return `${shown} last id ${a} / ${b}`;
    const found = (await compareConsumers(pair, key, name)) ?? (await comparePending(pair, key, name));
    if (found !== undefined) return `${shown} ${found}`;
  }
  return undefined;
}

async function compareConsumers(pair: Pair, key: Buffer, group: Buffer): Promise<string | undefined> {
  const replies = await both(pair, ['XINFO', 'CONSUMERS', key, group]);
  const [ours, theirs] = replies.map((reply) => byName(reply));
  if (ours === undefined || theirs === undefined) return undefined;
  for (const [name, consumer] of ours) if (!theirs.has(name) && isUnlogged(consumer)) ours.delete(name);
  const lone = loneName(ours, theirs);
  return lone === undefined ? undefined : `consumer ${lone}`;
}

/** Since Redis 7.2 XREADGROUP makes a consumer that has got nothing yet, and tells no replica of it. */
function isUnlogged(consumer: Reply): boolean {
  return Number(partOf(consumer, 'inactive')) < 0 && Number(partOf(consumer, 'pending')) === 0;
}

/** Id, consumer and number of deliveries of every pending entry. */
async function comparePending(pair: Pair, key: Buffer, group: Buffer): Promise<string | undefined> {
  let start = '-';
  for (;;) {
    const command: Argument[] = ['XPENDING', key, group, start, '+', PENDING_COUNT];
    const [a = [], b = []] = (await both(pair, command)).map(listOf);
    for (let at = 0; at < Math.max(a.length, b.length); at++) {
      const [ours, theirs] = [pendingOf(a[at]), pendingOf(b[at])];
      if (ours?.id === theirs?.id && ours?.owner === theirs?.owner) continue;
      const first = [ours, theirs]
        .filter((one) => one !== undefined)
        .sort((x, y) => (isBehind(x.id, y.id) ? -1 : 1))[0];
      return `pending entry ${first?.id}`;
    }
    const last = pendingOf(a.at(-1));
    if (last === undefined || a.length < PENDING_COUNT) return undefined;
    start = nextId(last.id);
  }
}

function pendingOf(reply: Reply | undefined): { readonly id: string; readonly owner: string } | undefined {
  if (reply === undefined) return undefined;
  const [id, consumer, , deliveries] = listOf(reply);
  return {
    id: bufferOf(id).toString(),
    owner: `${String(deliveries)} ${bufferOf(consumer).toString('latin1')}`,
  };
}

/** Groups or consumers under their names. */
function byName(reply: Reply): Map<string, Reply> {
  return new Map(listOf(reply).map((about) => [fieldOf(about, 'name').toString('latin1'), about]));
}

function loneName(ours: ReadonlyMap<string, Reply>, theirs: ReadonlyMap<string, Reply>): string | undefined {
  const shown = (name: string) => formatKey(Buffer.from(name, 'latin1'), SHOWN_BYTES_MAX);
  for (const name of ours.keys()) if (!theirs.has(name)) return `${shown(name)} is missing at the target`;
  for (const name of theirs.keys()) if (!ours.has(name)) return `${shown(name)} is missing at the source`;
  return undefined;
}

function fieldOf(reply: Reply | undefined, name: string): Buffer {
  const value = partOf(reply, name);
  return value === undefined ? Buffer.alloc(0) : bufferOf(value);
}

function partOf(reply: Reply | undefined, name: string): Reply | undefined {
  const list = listOf(reply);
  for (let at = 0; at + 1 < list.length; at += 2) {
    if (bufferOf(list[at]).toString() === name) return list[at + 1];
  }
  return undefined;
}

function isBehind(id: string, other: string): boolean {
  return compareIds(idOr0(id), idOr0(other)) < 0;
}

/** A server that does not tell an id has none. */
function idOr0(id: string): string {
  return id === '' ? '0-0' : id;
}
