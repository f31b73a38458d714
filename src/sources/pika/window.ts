// Several databases, one log: in which order?
//
// Each database of Pika has a binlog of its own, and nothing orders them among each other. But a command's number must
// depend on the log alone: when the journal is lost, what is applied beyond the low-water mark is recognised by reading
// it again and giving the same numbers. In the order of arrival it would get others.
//
// So the databases are read window by window. A window is an end for each of them; it is announced by an entry of its own,
// whose position carries the ends, and nothing of it is read before the low-water mark in the target stands at the
// announcement. Within the window the order follows from the logs: of the next items the one with the oldest time,
// and of the same second the one of the first database. Hence, when the log is read again from the mark,
// - what is applied beyond the mark belongs to the window that the mark's position carries, and has the numbers it had;
// - or it belongs to a window that was announced behind the mark: of that nothing is applied, and another may take its place.
//
// What a silent database has not written holds nobody up: a window reaches only to what the logs held when it was made.
// Not so when the target has gone back in time and the journal is lost before the mark has come back to where it was: then
// ingest meets an announcement with numbers that are applied already, and stops (`beginsOrder`).
//
// With a single database there is nothing to order, and no window.

import type { Entry } from '../source.ts';
import type { EntryMaker } from './entries.ts';
import type { ItemStream, ReceivedItem } from './link.ts';
import {
  announcementAt,
  comparePlaces,
  coversPlaces,
  type PikaPosition,
  type Place,
  type Places,
} from './position.ts';
import { type Repair, settle } from './repair.ts';

export interface WindowSource {
  readonly link: ItemStream;
  readonly maker: EntryMaker;
  readonly repair: Repair | undefined;
  readonly chunkBytes: number;
  readonly now: () => number;
  /** Where the logs of all databases end now. */
  ends(): Promise<Places>;
  /** True once the low-water mark is at this announcement. `poke` the link when it may be. */
  isMarked(at: PikaPosition): boolean;
}

/** Chunks of the one database of `start`. Never returns. */
export async function* readOne(
  source: Omit<WindowSource, 'ends'>,
  start: PikaPosition,
): AsyncGenerator<readonly Entry[], never> {
  const { link, maker, repair, chunkBytes, now } = source;
  const [db] = start.places.keys() as IterableIterator<string> & Iterable<string>;
  let at = yield* settle(source, start, now);
  for (;;) {
    if (repair !== undefined) at = yield* repair.pause(source, at);
    await link.until(() => link.peek(db as string) !== undefined);
    const entries: Entry[] = [];
    const fits = upTo(chunkBytes);
    const items = link.shiftWhile(db as string, (item) => fits(item) && takes(repair, db as string, item));
    at = maker.add(entries, at, db as string, items);
    if (entries.length > 0) yield entries;
  }
}

/** Chunks of all databases of `start`, window by window. Never returns. */
export async function* readWindows(
  source: WindowSource,
  start: PikaPosition,
): AsyncGenerator<readonly Entry[], never> {
  const { link, maker, repair, now } = source;
  let at = yield* settle(source, start, now);
  for (;;) {
    if (repair !== undefined) at = yield* repair.pause(source, at);
    if (at.window === undefined || coversPlaces(at.places, at.window)) {
      await link.until(() => [...at.places.keys()].some((db) => link.peek(db) !== undefined));
      const behind = announcementAt({ ...at, window: furthest(at.places, await source.ends()) });
      yield [maker.announce(at, behind, now())];
      await link.until(() => source.isMarked(behind));
      at = { ...behind, announced: false };
    }
    const window = at.window as Places;
    await link.until(() => nextOf(link, at.places, window) !== undefined);
    const entries: Entry[] = [];
    at = takeChunk(source, at, window, entries);
    if (entries.length > 0) yield entries;
  }
}

/** What can be taken without waiting, about a chunk of it. */
function takeChunk(
  source: WindowSource,
  start: PikaPosition,
  window: Places,
  entries: Entry[],
): PikaPosition {
  const { link, maker, repair, chunkBytes } = source;
  let at = start;
  const fits = upTo(chunkBytes);
  let isFull = false;
  for (;;) {
    const next = isFull ? undefined : nextOf(link, at.places, window);
    if (next === undefined) return at;
    const { db, end, limit } = next;
    let place = at.places.get(db) as Place;
    const items = link.shiftWhile(db, (item) => {
      if (comparePlaces(place, end) >= 0 || timeOf(item) > limit) return false;
      isFull ||= !fits(item) || !takes(repair, db, item);
      if (!isFull) place = item.end;
      return !isFull;
    });
    if (items.length > 0) at = maker.add(entries, at, db, items);
    // At once: which numbers it takes must not depend on what has come of other databases.
    if (repair?.of(db).isDue(at.places.get(db) as Place)) return at;
  }
}

interface Next {
  readonly db: string;
  readonly end: Place;
  /** Another database is next behind this time. */
  readonly limit: number;
}

/** Which database comes next; undefined while an item that decides it has not come. */
function nextOf(link: ItemStream, places: Places, window: Places): Next | undefined {
  let best: { db: string; end: Place; time: number } | undefined;
  let limit = Number.POSITIVE_INFINITY;
  for (const [db, end] of window) {
    if (comparePlaces(places.get(db) as Place, end) >= 0) continue;
    const item = link.peek(db);
    if (item === undefined) return undefined;
    const time = timeOf(item);
    if (best === undefined || time < best.time) {
      // A database that stands before it gives way as soon as it is as late.
      if (best !== undefined) limit = Math.min(limit, best.time - 1);
      best = { db, end, time };
    } else {
      limit = Math.min(limit, time);
    }
  }
  return best && { db: best.db, end: best.end, limit };
}

function furthest(places: Places, ends: Places): Places {
  return new Map(
    [...places].map(([db, place]) => {
      const end = ends.get(db) ?? place;
      return [db, comparePlaces(end, place) > 0 ? end : place];
    }),
  );
}

/** Seconds; by the item's bytes alone. */
export function timeOf({ bytes }: ReceivedItem): number {
  return bytes.length < 6 ? 0 : bytes.readUInt32LE(2);
}

function takes(repair: Repair | undefined, db: string, item: ReceivedItem): boolean {
  return repair === undefined || repair.takes(db, item);
}

/** True for items until they weigh `bytesMax`, and for the first in any case. */
function upTo(bytesMax: number): (item: ReceivedItem) => boolean {
  let bytes = 0;
  return (item) => {
    const fits = bytes < bytesMax;
    bytes += item.bytes.length;
    return fits;
  };
}
