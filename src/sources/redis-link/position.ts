// A position on a replication link is one of
//   wanted                                          only a full sync can start here
//   snap:<spool>:<replid>:<offset>:<rules>:<place>  in the snapshot that the source made at <offset>
//   <replid>:<offset>:<db>[~<replid2>:<offset2>]    in the stream: its first <offset> bytes are read, and <db> is selected
// <place> is `start` (in front of the FLUSHALL), `keys` (behind it) or a place in the RDB file, with +<taken> inside an
// entry. A head also says up to where the source's history was once another's: so a position of before a failover
// can be compared with it.

import { formatPlace as formatRdb, parsePlace as parseRdb, type RdbPlace } from '../../rdb/rdb-log.ts';
import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';

export const WANTED = 'wanted';

/** A point of one history: `offset` bytes of the stream of `replid` lie before it. */
export interface Point {
  readonly replid: string;
  readonly offset: number;
}

export interface StreamPlace extends Point {
  readonly kind: 'stream';
  /** Selected database there. */
  readonly db: number;
  /** The history that this one went on from, and how far it shares it. */
  readonly before: Point | undefined;
}

export interface SnapshotPlace extends Point {
  readonly kind: 'snapshot';
  /** Names the spool that holds the snapshot. */
  readonly spool: string;
  readonly rdbVersion: number;
  readonly bulkBytesMax: number;
  /** Behind this entry, or in the entry behind it if `taken` is not 0. */
  readonly at: 'start' | 'keys' | RdbPlace;
  readonly taken: number;
}

export type Place = { readonly kind: 'wanted' } | SnapshotPlace | StreamPlace;

const STREAM = /^([0-9a-f]{40}):(\d{1,15})(?::(\d{1,9}))?(?:~([0-9a-f]{40}):(\d{1,15}))?$/;
const SNAPSHOT =
  /^snap:([0-9a-z-]{1,40}):([0-9a-f]{40}):(\d{1,15}):(\d{1,4}),(\d{1,15}):([0-9a-f:]{1,100}|start|keys)(?:\+(\d{1,9}))?$/;

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parsePlace(position: Position): Place {
  if (position === WANTED) return { kind: 'wanted' };
  const place = position.startsWith('snap:') ? parseSnapshot(position) : parseStream(position);
  if (place !== undefined) return place;
  throw new ConfigurationError([
    `"${position.slice(0, 64)}" is not a position of a replication link: beginning, now, or replication id and offset such as 8de1787ba490483314a4d30f1c628bc5025eb761:2443808505:0`,
  ]);
}

export function formatStream(point: Point, db: number, before?: Point): Position {
  const { replid, offset } = point;
  return `${replid}:${offset}:${db}${before === undefined ? '' : `~${before.replid}:${before.offset}`}`;
}

export function formatSnapshot(place: Omit<SnapshotPlace, 'kind'>): Position {
  const { spool, replid, offset, rdbVersion, bulkBytesMax, at, taken } = place;
  const where = typeof at === 'string' ? at : formatRdb(at);
  return `snap:${spool}:${replid}:${offset}:${rdbVersion},${bulkBytesMax}:${where}${taken > 0 ? `+${taken}` : ''}`;
}

/** True iff `position` has everything that `head` has. */
export function coversPlace(position: Position, head: Position): boolean {
  const at = parsePlace(position);
  const end = parsePlace(head);
  if (at.kind !== 'stream' || end.kind !== 'stream') return false;
  return sharesHistory(at, end) && at.offset >= end.offset;
}

/** False when a head of another history can tell nothing of a position: a server names its history anew with its first replica. */
export function areOfOneHistory(position: Position, head: Position): boolean {
  const at = parsePlace(position);
  const end = parsePlace(head);
  if (at.kind === 'wanted' || end.kind !== 'stream') return true;
  return sharesHistory(at, end);
}

/** Whether `at` lies in the history that ends at `end`. */
function sharesHistory(at: Point, end: StreamPlace): boolean {
  if (at.replid === end.replid) return true;
  return at.replid === end.before?.replid && at.offset <= end.before.offset;
}

function parseStream(position: string): StreamPlace | undefined {
  const [, replid, offset, db = '0', replid2, offset2] = STREAM.exec(position) ?? [];
  if (replid === undefined) return undefined;
  const before = replid2 === undefined ? undefined : { replid: replid2, offset: Number(offset2) };
  return { kind: 'stream', replid, offset: Number(offset), db: Number(db), before };
}

function parseSnapshot(position: string): SnapshotPlace | undefined {
  const match = SNAPSHOT.exec(position);
  if (match === null) return undefined;
  const [, spool = '', replid = '', offset, version, bytes, where = '', taken = '0'] = match;
  const at = where === 'start' || where === 'keys' ? where : parseRdb(where);
  if (at === undefined) return undefined;
  return {
    kind: 'snapshot',
    spool,
    replid,
    offset: Number(offset),
    rdbVersion: Number(version),
    bulkBytesMax: Number(bytes),
    at,
    taken: Number(taken),
  };
}
