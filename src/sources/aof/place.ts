import {
  formatPlace as formatRdbPlace,
  parsePlace as parseRdbPlace,
  type RdbPlace,
  type RestoreRules,
} from '../../rdb/rdb-log.ts';
import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';

// <file>:<offset>:<db>[@<seconds>][+<left out>][^<until>][~<taken>], for example incr.3:4096:0@1700000000
// <file>:rdb:<version>:<bulk bytes>:<place in the RDB>[...], inside an RDB file or preamble
//
// <file> is base.<seq> or incr.<seq> as the manifest counts them, or `file` where there is no manifest.

export interface Place {
  readonly file: string;
  /** Everything in front of this byte of the file is read. */
  readonly offset: number;
  /** Database that holds there. */
  readonly db: number;
  /** The last timestamp in front of it, seconds since 1970. */
  readonly seconds: number | undefined;
  /** Bytes of a torn tail directly behind it: read, and left out. */
  readonly leftOut: number;
  /** Everything that the log has up to this time is read, ms since 1970. */
  readonly untilMs: number | undefined;
  /** Commands behind it that are taken already; none but where a MULTI, or an RDB's entry, was begun. */
  readonly taken: number;
  readonly rdb: { readonly rules: RestoreRules; readonly place: RdbPlace } | undefined;
}

const PATTERN =
  /^(file|(?:base|incr)\.\d{1,15}):(?:(\d{1,16}):(\d{1,9})|rdb:(\d{1,4}):(\d{1,16}):([0-9a-f:]{1,80}))(?:@(\d{1,11}))?(?:\+(\d{1,16}))?(?:\^(\d{1,15}))?(?:~(\d{1,10}))?$/;
/** A head that no offset names: where the commands up to a time end. */
const UNTIL_HEAD = /^until\.(\d{1,15})$/;

export function startOf(file: string): Place {
  return {
    file,
    offset: 0,
    db: 0,
    seconds: undefined,
    leftOut: 0,
    untilMs: undefined,
    taken: 0,
    rdb: undefined,
  };
}

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parsePlace(position: Position): Place {
  const match = PATTERN.exec(position);
  const rdb = match?.[6] === undefined ? undefined : parseRdbPlace(match[6]);
  if (match === null || (match[6] !== undefined && rdb === undefined)) {
    throw new ConfigurationError([
      `"${position.slice(0, 64)}" is not a position in an AOF: beginning, now, or file, offset and database such as incr.3:4096:0`,
    ]);
  }
  const [, file = '', offset, db, version, bulk, , seconds, leftOut, until, taken] = match;
  return {
    file,
    offset: rdb === undefined ? Number(offset) : rdb.offset,
    db: rdb === undefined ? Number(db) : rdb.db,
    seconds: numberOf(seconds),
    leftOut: numberOf(leftOut) ?? 0,
    untilMs: numberOf(until),
    taken: numberOf(taken) ?? 0,
    rdb: rdb && { rules: { rdbVersion: Number(version), bulkBytesMax: Number(bulk) }, place: rdb },
  };
}

export function formatPlace(place: Place): Position {
  const { file, offset, db, seconds, leftOut, untilMs, taken, rdb } = place;
  const at =
    rdb === undefined
      ? `${offset}:${db}`
      : `rdb:${rdb.rules.rdbVersion}:${rdb.rules.bulkBytesMax}:${formatRdbPlace(rdb.place)}`;
  const time = seconds === undefined ? '' : `@${seconds}`;
  const torn = leftOut === 0 ? '' : `+${leftOut}`;
  const until = untilMs === undefined ? '' : `^${untilMs}`;
  return `${file}:${at}${time}${torn}${until}${taken === 0 ? '' : `~${taken}`}`;
}

/** The head of a log that is read up to a time. */
export function untilHead(untilMs: number): Position {
  return `until.${untilMs}`;
}

/** True iff `position` has everything that `head` has. */
export function coversPlace(position: Position, head: Position): boolean {
  const at = parsePlace(position);
  const until = UNTIL_HEAD.exec(head);
  if (until !== null) return at.untilMs !== undefined && at.untilMs >= Number(until[1]);
  const end = parsePlace(head);
  const order = rankOf(at.file) - rankOf(end.file);
  if (order !== 0) return order > 0;
  // Inside an RDB its end is still to come.
  return at.rdb === undefined && at.taken === 0 && at.offset + at.leftOut >= end.offset;
}

/** The base comes first, whatever its seq. */
export function rankOf(file: string): number {
  return file.startsWith('incr.') ? Number(file.slice(5)) : 0;
}

function numberOf(text: string | undefined): number | undefined {
  return text === undefined ? undefined : Number(text);
}
