import { compareIds, formatId, parseId } from '../../binlog/stream-id.ts';
import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';

// <id>[:<taken>][@<entriesRead>][~<holesThrough>], for example 1700000000000-3:17@5229.

export const ZERO_ID = '0-0';
const PATTERN = /^(\d{1,20}(?:-\d{1,20})?)(?::(\d{1,10}))?(?:@(\d{1,15}))?(?:~(\d{1,20}-\d{1,20}))?$/;
const PART_MAX = 2n ** 64n - 1n;

export interface Place {
  /** Everything up to this id is read; with `taken` it is the id of the entry that is begun. */
  readonly id: string;
  /** Commands read of the entry `id`; undefined when the position is behind it. */
  readonly taken: number | undefined;
  /**
   * The stream's `entries-added` as it was when the last entry that is fully read had been added: entries deleted before
   * the pipeline began count as read. Undefined until it is known.
   */
  readonly entriesRead: number | undefined;
  /** XDEL had deleted entries up to this id when the pipeline began, so a `max-deleted-entry-id` up to it says nothing. */
  readonly holesThrough: string | undefined;
}

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parsePlace(position: Position): Place {
  const [, text = '', taken, entriesRead, holesThrough] = PATTERN.exec(position) ?? [];
  const id = parseId(text);
  if (id === undefined) {
    throw new ConfigurationError([
      `"${position.slice(0, 64)}" is not a position in a stream: beginning, now, or an id such as 1700000000000-3`,
    ]);
  }
  return {
    id: formatId(id),
    taken: taken === undefined ? undefined : Number(taken),
    entriesRead: entriesRead === undefined ? undefined : Number(entriesRead),
    holesThrough,
  };
}

export function formatPlace(place: Place): Position {
  const taken = place.taken === undefined ? '' : `:${place.taken}`;
  const read = place.entriesRead === undefined ? '' : `@${place.entriesRead}`;
  const holes = place.holesThrough !== undefined && compareIds(place.holesThrough, place.id) > 0;
  return `${place.id}${taken}${read}${holes ? `~${place.holesThrough}` : ''}`;
}

/** True iff `position` has everything that `head` has. */
export function coversPlace(position: Position, head: Position): boolean {
  const at = parsePlace(position);
  const end = parsePlace(head);
  const order = compareIds(at.id, end.id);
  if (order > 0 || (order === 0 && at.taken === undefined)) return true;
  return at.entriesRead !== undefined && end.entriesRead !== undefined && at.entriesRead >= end.entriesRead;
}

/** Entries of the stream behind `position` and up to `head`; undefined where the server does not count them. */
export function entriesBetween(position: Position, head: Position): number | undefined {
  const [at, end] = [parsePlace(position).entriesRead, parsePlace(head).entriesRead];
  return at === undefined || end === undefined ? undefined : Math.max(0, end - at);
}

/** The last id whose entry is fully read: XREAD goes on behind it. */
export function readThrough(place: Place): string {
  return place.taken === undefined ? place.id : idBefore(place.id);
}

function idBefore(id: string): string {
  const { ms, seq } = parseId(id) ?? { ms: 0n, seq: 0n };
  if (seq > 0n) return formatId({ ms, seq: seq - 1n });
  return ms > 0n ? formatId({ ms: ms - 1n, seq: PART_MAX }) : ZERO_ID;
}
