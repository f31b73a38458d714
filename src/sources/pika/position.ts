import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';
import { isCopyPosition, parseCopyPosition } from './copy-position.ts';

// <replication id>/<db>:<file>:<end offset>,...[;<db>:<file>:<end offset>,...[!]]
//
// For example 9550c3f8...d845/db0:3:81920. Behind the semicolon: the window (window.ts), with a ! directly behind its
// announcement. A person may leave the replication id out: then the master's is taken.

/** The end of an item in the log of one database: the only kind of place that Pika resumes from. */
export interface Place {
  readonly filenum: number;
  readonly offset: number;
}

/** A place in every database, in the order of their names. */
export type Places = ReadonlyMap<string, Place>;

export interface PikaPosition {
  /** Replication id: names the log, and is kept by a slave that becomes the master. Empty: not known. */
  readonly log: string;
  readonly places: Places;
  /** How far the window reaches that is being read; undefined with a single database. */
  readonly window: Places | undefined;
  /** Directly behind the window's announcement: nothing of the window is read. */
  readonly announced: boolean;
}

export const DATABASES_MAX = 8;
export const DATABASE_NAME = /^[\w-]{1,16}$/;
const PATTERN = /^(?:([\w-]{0,64})\/)?([^;/!]{1,400})(?:;([^;/!]{1,400})(!)?)?$/;
const PLACE = /^([\w-]{1,16}):(\d{1,10}):(\d{1,16})$/;

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parsePikaPosition(position: Position): PikaPosition {
  const [, log = '', places = '', window, announced] = PATTERN.exec(position) ?? [];
  const found = placesOf(places);
  const ends = window === undefined ? undefined : placesOf(window);
  if (found === undefined || (window !== undefined && ends === undefined)) {
    throw new ConfigurationError([
      `"${position.slice(0, 64)}" is not a position in Pika's binlog: copy, beginning, now, or one such as db0:3:81920`,
    ]);
  }
  return { log, places: found, window: ends, announced: announced !== undefined };
}

export function formatPikaPosition({ log, places, window, announced }: PikaPosition): Position {
  const ends = window === undefined ? '' : `;${formatPlaces(window)}${announced ? '!' : ''}`;
  return `${log}/${formatPlaces(places)}${ends}`;
}

export function formatPlaces(places: Places): string {
  return [...places].map(([db, { filenum, offset }]) => `${db}:${filenum}:${offset}`).join(',');
}

export function comparePlaces(a: Place, b: Place): number {
  return a.filenum - b.filenum || a.offset - b.offset;
}

/** True iff every database of `ends` is read up to its end. */
export function coversPlaces(places: Places, ends: Places): boolean {
  for (const [db, end] of ends) {
    const place = places.get(db);
    if (place === undefined || comparePlaces(place, end) < 0) return false;
  }
  return true;
}

export function coversPika(position: Position, head: Position): boolean {
  if (isCopyPosition(position)) {
    parseCopyPosition(position);
    return false;
  }
  return coversPlaces(parsePikaPosition(position).places, parsePikaPosition(head).places);
}

function placesOf(text: string): Places | undefined {
  const places: [string, Place][] = [];
  for (const part of text.split(',')) {
    const [, db, filenum, offset] = PLACE.exec(part) ?? [];
    if (db === undefined) return undefined;
    places.push([db, { filenum: Number(filenum), offset: Number(offset) }]);
  }
  const map = new Map(places.sort(([a], [b]) => (a < b ? -1 : 1)));
  return map.size === places.length && map.size <= DATABASES_MAX ? map : undefined;
}
