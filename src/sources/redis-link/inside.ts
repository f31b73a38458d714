import { RespScanner } from '../../binlog/resp.ts';
import type { Entry, Position } from '../source.ts';
import {
  formatSnapshot,
  formatStream,
  parsePlace,
  type SnapshotPlace,
  type StreamPlace,
} from './position.ts';
import type { SnapshotEntry } from './snapshot-entries.ts';

/** Behind the first `taken` commands of the entry: a place of its own in the stream, a count in a snapshot. */
export function placeInside(entry: Entry, taken: number): Position {
  const { start } = entry as Partial<SnapshotEntry>;
  if (start !== undefined) return formatSnapshot({ ...(parsePlace(start) as SnapshotPlace), taken });
  const end = parsePlace(entry.position) as StreamPlace;
  const scanner = new RespScanner();
  scanner.reset(entry.resp);
  let { db } = entry;
  for (let i = 0; i < taken && scanner.next(); i++) {
    if (scanner.argc === 2 && scanner.arg(0).toString('latin1').toUpperCase() === 'SELECT')
      db = Number(scanner.arg(1).toString('latin1'));
  }
  return formatStream({ replid: end.replid, offset: end.offset - entry.resp.length + scanner.end }, db);
}
