// The snapshot as entries: what makes the target as empty as a replica is before it loads one, then the keys.

import { encodeCommand } from '../../binlog/resp.ts';
import { readRdb } from '../../rdb/rdb-log.ts';
import type { Entry, Position } from '../source.ts';
import { formatSnapshot, formatStream, type SnapshotPlace } from './position.ts';
import type { SnapshotFile } from './snapshot-file.ts';

const FLUSHALL = encodeCommand(['FLUSHALL']);
const FUNCTION_FLUSH = encodeCommand(['FUNCTION', 'FLUSH']);
/** Of Redis 7.0, the first that has functions. FLUSHALL leaves them where they are. */
const FUNCTIONS_SINCE = 10;

/** An entry of a snapshot can be begun again only from its start. */
export interface SnapshotEntry extends Entry {
  readonly start: Position;
}

export interface SnapshotReading {
  readonly place: SnapshotPlace;
  readonly file: SnapshotFile;
  readonly timeMs: number;
  readonly signal: AbortSignal;
  readonly onNotice: (text: string) => void;
  /** Every entry that is read: keys in it, and how far in the file it is. */
  readonly onRead: (keys: number, offset: number) => void;
}

/** Yields what follows `place`. The position behind the last entry is the stream's first. */
export async function* readSnapshot(reading: SnapshotReading): AsyncGenerator<SnapshotEntry[], void> {
  const { place, file, signal } = reading;
  const base = { skip: 0, db: 0, timeMs: reading.timeMs, malformed: undefined };
  const positionOf = (at: SnapshotPlace['at']) => formatSnapshot({ ...place, at, taken: 0 });
  let held: SnapshotEntry[] = [];
  let start = positionOf(place.at);
  let skip = place.taken;
  if (place.at === 'start') {
    const position = positionOf('keys');
    const empties = place.rdbVersion < FUNCTIONS_SINCE ? [FLUSHALL] : [FLUSHALL, FUNCTION_FLUSH];
    held = [{ ...base, position, resp: Buffer.concat(empties), skip, start }];
    start = position;
    skip = 0;
  }
  const from = typeof place.at === 'string' ? undefined : place.at;
  const bytes = file.bytes(from?.offset ?? 0, signal);
  const rdb = readRdb(bytes, {
    rules: { rdbVersion: place.rdbVersion, bulkBytesMax: place.bulkBytesMax },
    ...(from === undefined ? {} : { from }),
    onNotice: reading.onNotice,
  });
  try {
    for await (const { entries } of rdb) {
      if (signal.aborted) return;
      // The last entry's position says that the snapshot is over: which it is known to be only behind it.
      if (held.length > 0) yield held;
      held = entries.map((entry): SnapshotEntry => {
        const position = positionOf(entry.place);
        const made = { ...base, position, resp: entry.resp, skip, db: entry.db, start };
        start = position;
        skip = 0;
        reading.onRead(entry.keys, entry.place.offset);
        return made;
      });
    }
  } finally {
    await bytes.return();
  }
  if (signal.aborted) return;
  const last = held.pop();
  if (last === undefined) return;
  yield [...held, { ...last, position: formatStream(place, await file.streamDb(signal)) }];
}
