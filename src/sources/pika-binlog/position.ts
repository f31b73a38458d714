import { comparePlaces, type LogPlace } from '../../pika/log-directory.ts';
import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';

// <db>=<filenum>:<end offset>[/<filenum>:<end offset>], one for each database, separated by commas: how far it is read,
// and where reading ends. Only of several databases the end is part of the position: see merge.ts.
// For example db0=3:147005, or db0=0:73/0:147005,db1=0:0/0:512.

export interface DatabasePlace extends LogPlace {
  readonly db: string;
  /** Undefined: where the files end. */
  readonly until: LogPlace | undefined;
}

/** In the order of their names, which is the order of the merge. */
export type Vector = readonly DatabasePlace[];

const PART = /^([\w.-]{1,24})=(\d{1,10}):(\d{1,16})(?:\/(\d{1,10}):(\d{1,16}))?$/;

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parseVector(position: Position): Vector {
  const vector = position.split(',').map((part): DatabasePlace => {
    const [, db, filenum, offset, untilFilenum, untilOffset] = PART.exec(part) ?? [];
    if (db === undefined) throw refused(position);
    const until =
      untilFilenum === undefined ? undefined : { filenum: Number(untilFilenum), offset: Number(untilOffset) };
    return { db, filenum: Number(filenum), offset: Number(offset), until };
  });
  if (new Set(vector.map(({ db }) => db)).size !== vector.length) throw refused(position);
  return vector;
}

export function formatVector(vector: Vector): Position {
  return vector
    .map(({ db, filenum, offset, until }) => {
      return `${db}=${filenum}:${offset}${until === undefined ? '' : `/${until.filenum}:${until.offset}`}`;
    })
    .join(',');
}

/** True iff every database of `head` is read that far. */
export function coversVector(position: Position, head: Position): boolean {
  const at = new Map(parseVector(position).map((place) => [place.db, place]));
  return parseVector(head).every((end) => {
    const place = at.get(end.db);
    return place !== undefined && comparePlaces(place, end) >= 0;
  });
}

function refused(position: Position): ConfigurationError {
  return new ConfigurationError([
    `"${position.slice(0, 64)}" is not a position in Pika's binlog: beginning, now, or a file's number and the offset ` +
      'behind an item for each database, such as 3:147005 or db0=3:147005,db1=0:512 (lanegate pika-binlog prints them)',
  ]);
}
