import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';
import { isCopyPosition, parseCopyPosition } from './copy-position.ts';

// <replication id>/<db>:<file>:<end offset>[~<since>[*<through>]],...[;<db>:<file>:<end offset>,...][+<reserved>][@<steps>][!]
//
// For example 9550c3f8...d845/db0:3:81920. A person may leave the replication id out: then the master's is taken.
//   ~<since>      how far back the log is read again for what a repair must know (repair.ts): bytes, or files and the
//                 offset there (2.5k), base 36
//   *<through>    how far ahead a repair's bracket ends, written like that
//   ;...          the window (window.ts)
//   +<reserved>   inside a repair: so many numbers behind it are taken
//   @<steps>      how many announcements and repairs stand at this very place: no two positions of a log are alike
//   !             an announcement: nothing is read behind it before the low-water mark is here

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
  /** Nothing behind it is read before the low-water mark is here. */
  readonly announced: boolean;
  /** From here the log is read again for what a repair must know; lacks databases that are not repaired. */
  readonly since: Places;
  /** Where brackets of repairs end, of databases that have one open. */
  readonly through: Places;
  /** Numbers behind it that a repair has taken, whose commands may be applied. */
  readonly reserved: number;
  /** Announcements and repairs between the item that ends here and this position. */
  readonly steps: number;
}

export const DATABASES_MAX = 8;
export const DATABASE_NAME = /^[\w-]{1,16}$/;
const PATTERN =
  /^(?:([\w-]{0,64})\/)?([^;/!+@]{1,480})(?:;([^;/!+@~]{1,400}))?(?:\+(\d{1,9}))?(?:@(\d{1,9}))?(!)?$/;
/** `db0=3:81920` is how the files' positions are printed. */
const PLACE = /^([\w-]{1,16})[:=](\d{1,10}):(\d{1,16})(?:~([0-9a-z.]{1,22})(?:\*([0-9a-z.]{1,22}))?)?$/;
const RADIX = 36;

const NO_PLACES: Places = new Map();

/** Places and nothing else. */
export function positionAt(log: string, places: Places): PikaPosition {
  return {
    log,
    places,
    window: undefined,
    announced: false,
    since: NO_PLACES,
    through: NO_PLACES,
    reserved: 0,
    steps: 0,
  };
}

/** Behind an entry that stands at the same place, before more of the log is read. */
export function announcementAt(at: PikaPosition): PikaPosition {
  return { ...at, announced: true, steps: at.steps + 1 };
}

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parsePikaPosition(position: Position): PikaPosition {
  const [, log = '', places = '', window, reserved = '0', steps = '0', announced] =
    PATTERN.exec(position) ?? [];
  const found = placesOf(places);
  const ends = window === undefined ? undefined : placesOf(window);
  if (found === undefined || (window !== undefined && ends === undefined)) {
    throw new ConfigurationError([
      `"${position.slice(0, 64)}" is not a position in Pika's binlog: copy, beginning, now, or one such as db0:3:81920`,
    ]);
  }
  return {
    log,
    places: found.places,
    window: ends?.places,
    announced: announced !== undefined,
    since: found.since,
    through: found.through,
    reserved: Number(reserved),
    steps: Number(steps),
  };
}

export function formatPikaPosition({
  log,
  places,
  window,
  announced,
  since,
  through,
  reserved,
  steps,
}: PikaPosition): Position {
  const all = [...places].map(([db, place]) => {
    const [from, to] = [since.get(db), through.get(db)];
    const back = from === undefined ? '' : `~${distance(from, place, from)}`;
    return `${formatPlace(db, place)}${back}${to === undefined ? '' : `*${distance(place, to, to)}`}`;
  });
  const ends = window === undefined ? '' : `;${formatPlaces(window)}`;
  const taken = reserved === 0 ? '' : `+${reserved}`;
  const inside = `${taken}${steps === 0 ? '' : `@${steps}`}`;
  return `${log === '' ? '' : `${log}/`}${all.join(',')}${ends}${inside}${announced ? '!' : ''}`;
}

export function formatPlaces(places: Places): string {
  return [...places].map(([db, place]) => formatPlace(db, place)).join(',');
}

function formatPlace(db: string, { filenum, offset }: Place): string {
  return `${db}:${filenum}:${offset}`;
}

/** `named`: the one of both whose offset stands there when they are in different files. */
function distance(from: Place, to: Place, named: Place): string {
  const files = to.filenum - from.filenum;
  if (files === 0) return (to.offset - from.offset).toString(RADIX);
  return `${files}.${named.offset.toString(RADIX)}`;
}

/** The place at that distance, ahead (1) or back (-1). */
function placeAt({ filenum, offset }: Place, text: string, direction: 1 | -1): Place | undefined {
  const [, files, bytes] = /^(?:(\d{1,10})\.)?([0-9a-z]{1,11})$/.exec(text) ?? [];
  if (bytes === undefined) return undefined;
  const number = Number.parseInt(bytes, RADIX);
  return files === undefined
    ? { filenum, offset: offset + direction * number }
    : { filenum: filenum + direction * Number(files), offset: number };
}

/** Whatever is known of the log in front of it. */
export function isSameAnnouncement(a: PikaPosition, b: PikaPosition): boolean {
  const textOf = (at: PikaPosition) => formatPikaPosition({ ...at, log: '', since: NO_PLACES });
  return textOf(a) === textOf(b);
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
  const { places, through, reserved } = parsePikaPosition(position);
  return through.size === 0 && reserved === 0 && coversPlaces(places, parsePikaPosition(head).places);
}

type FoundPlaces = Pick<PikaPosition, 'places' | 'since' | 'through'>;

function placesOf(text: string): FoundPlaces | undefined {
  const places: [string, Place][] = [];
  const [since, through] = [new Map<string, Place>(), new Map<string, Place>()];
  for (const part of text.split(',')) {
    const [, db, filenum, offset, back, ahead] = PLACE.exec(part) ?? [];
    if (db === undefined) return undefined;
    const place = { filenum: Number(filenum), offset: Number(offset) };
    places.push([db, place]);
    const from = back === undefined ? undefined : placeAt(place, back, -1);
    const to = ahead === undefined ? undefined : placeAt(place, ahead, 1);
    if ((back !== undefined && from === undefined) || (ahead !== undefined && to === undefined))
      return undefined;
    if (from !== undefined) since.set(db, from);
    if (to !== undefined) through.set(db, to);
  }
  const map = new Map(places.sort(([a], [b]) => (a < b ? -1 : 1)));
  if (map.size !== places.length || map.size > DATABASES_MAX) return undefined;
  return { places: map, since, through };
}
