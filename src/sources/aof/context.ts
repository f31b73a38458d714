import { equalsUpper } from '../../binlog/ascii.ts';
import { integerAt } from '../../binlog/integer.ts';
import { RespScanner } from '../../binlog/resp.ts';
import type { FileEntry } from './cutter.ts';
import type { Place } from './place.ts';

const MULTI = Buffer.from('MULTI');
const EXEC = Buffer.from('EXEC');
const DISCARD = Buffer.from('DISCARD');
const SELECT = Buffer.from('SELECT');

/** What the command under the scanner changes for those behind it: a number is the database, NaN is none. DISCARD ends a MULTI as EXEC does. */
export function contextOf(scanner: RespScanner): 'MULTI' | 'EXEC' | number | undefined {
  const { buffer, argc, argStart, argEnd } = scanner;
  if (argc > 2) return undefined;
  const [from, to] = [argStart[0] as number, argEnd[0] as number];
  if (argc === 2) {
    if (!equalsUpper(buffer, from, to, SELECT)) return undefined;
    const db = integerAt(buffer, argStart[1] as number, argEnd[1] as number);
    return db === undefined || db < 0 ? Number.NaN : db;
  }
  if (equalsUpper(buffer, from, to, MULTI)) return 'MULTI';
  const ends = equalsUpper(buffer, from, to, EXEC) || equalsUpper(buffer, from, to, DISCARD);
  return ends ? 'EXEC' : undefined;
}

/** The place behind the first `taken` commands of an entry. */
export function placeInside(entry: FileEntry, taken: number): Place {
  const { from, resp } = entry;
  if (entry.isMade) return { ...from, taken };
  const scanner = new RespScanner();
  scanner.reset(resp);
  let { db } = from;
  let multi: { readonly start: number; readonly db: number; readonly at: number } | undefined;
  let count = 0;
  while (count < taken && scanner.next()) {
    const word = contextOf(scanner);
    if (word === 'MULTI') multi = { start: scanner.start, db, at: count };
    else if (word === 'EXEC') multi = undefined;
    else if (word !== undefined) db = word;
    count++;
  }
  // A transaction is read again from its MULTI.
  if (multi !== undefined)
    return { ...from, offset: from.offset + multi.start, db: multi.db, taken: count - multi.at };
  return { ...from, offset: from.offset + scanner.end, db, taken: 0 };
}
