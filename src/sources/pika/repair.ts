// What a Pika's log gets wrong is put right from the master itself.
//
//   FLUSHDB   is logged after its lock is released. A write may be executed behind it and stand in front of it in the log.
//   untold    an APPEND logged as an empty value, DELVX, SET ... VX, PFMERGE: the log does not say what the key is then.
//
// Such keys are stale: what is at the target is not what the log has led to. Behind a FLUSHDB all keys are of which the log
// tells shortly before (recent.ts); behind an untold item its key. As in a copy (copy.ts), items that change a stale key
// are not passed on, nor are its companions in an item of several keys, which become stale with it; a plain SET or DEL tells
// all of a key, and ends it. The stale keys are read, each in one moment that knows where the log ends then
// (key-reader.ts): a bracket reaches from there on to the last of these ends. At its end each key is written, DEL and what
// makes it, unless an item or a FLUSHDB touched it between its moment and that place: then another bracket follows. From
// there on its items are passed on. So no command is lost or doubled, and what happens inside a bracket opens no other.
//
// Another process, or this one when the journal is lost, must do the same again, or see what was done:
//
// 1. Numbers depend on the log and on positions alone (window.ts). An item that is not passed on takes one all the same.
//    Announcements and what is written take numbers: directly behind a FLUSHDB or an untold item outside of a bracket, and
//    where a bracket ends; there always, whatever is stale. A position says where the bracket ends (`through`).
// 2. Which keys are stale depends on the log alone, but for what was repaired already. A position says from where the log
//    is to be read again to know it (`since`). Who reads from there may take more keys for stale than there are: their items
//    are not passed on and they are read again, which is as right. It never takes fewer: each step above gives more keys
//    for more keys.
// 3. What is read at the master comes out differently each time, and so do the commands and the end of the bracket:
//      announced   an entry without effect; its position has the end of the next bracket, and reserves as many numbers as
//                  there are commands to write
//      ...         until the low-water mark is there: nothing behind it has a number before
//      written     the commands, in these numbers
//      ...         until the low-water mark is behind them: nothing behind them has a number before
//    Who finds mark and journal in front of the announcement makes one of its own: nothing behind it is applied. Who finds
//    one of them in between does not know which of the commands are applied. It fills the numbers that are left with
//    commands without effect, waits until the mark is there, and takes the keys for stale still: they are read and written
//    anew under numbers that nobody has used, whole, so what was applied does not matter.
// 4. All of it goes through the journal, so of a process that was thought dead nothing arrives. Nothing is kept on disk.
//
// 3.5.4 and 4.0.0 log one FLUSHALL for all, in one database, and nothing says what it came behind in the others: with several
// databases the data is copied anew (`EverythingEmptied`), which is what was written since.
//
// Not covered: writes further before their FLUSHDB than recent.ts looks. An announcement with a number that is applied already (the target went back in
// time while the journal was lost, or --repair was switched just then) stops ingest (`beginsOrder`).

import { failpoint } from '../../runtime/failpoints.ts';
import type { Entry } from '../source.ts';
import { type EntryMaker, knowing } from './entries.ts';
import type { KeyReader } from './key-reader.ts';
import type { ItemStream, ReceivedItem } from './link.ts';
import {
  announcementAt,
  comparePlaces,
  type PikaPosition,
  type Place,
  type Places,
  positionAt,
} from './position.ts';
import { NOTHING } from './read-item.ts';
import { type Due, RepairedDatabase } from './repaired-database.ts';

export interface RepairOptions {
  /** `since` has every database. */
  readonly start: PikaPosition;
  readonly reader: (db: string) => Pick<KeyReader, 'read'>;
  readonly ends: () => Promise<Places>;
  readonly onRepaired: (db: string, due: Due) => void;
  readonly now: () => number;
  readonly batchKeys?: number;
}

const BATCH_KEYS = 128;

/** The log of one database empties all of them, at a place that the logs of the others do not tell. */
export class EverythingEmptied extends Error {
  override readonly name = 'EverythingEmptied';

  constructor(db: string) {
    super(`FLUSHALL in the log of ${db}, and in no other: a copy of what was written since begins`);
  }
}

export interface RepairedLog {
  readonly link: ItemStream;
  readonly maker: EntryMaker;
  /** Undefined: what is stale is left so. */
  readonly repair: Repair | undefined;
  /** True once the low-water mark is at this announcement. `poke` the link when it may be. */
  isMarked(at: PikaPosition): boolean;
}

export class Repair {
  readonly #options: RepairOptions;
  readonly #databases: ReadonlyMap<string, RepairedDatabase>;
  #isRecalling = false;

  constructor(options: RepairOptions) {
    const { start, reader, ends, batchKeys = BATCH_KEYS } = options;
    this.#options = options;
    this.#databases = new Map(
      [...start.since].map(([name, since]) => {
        const through = start.through.get(name);
        const onEverything = () => this.#emptied(name);
        const more = { ends, batchKeys, onEverything };
        return [name, new RepairedDatabase({ name, reader: reader(name), since, through, ...more })];
      }),
    );
  }

  of(db: string): RepairedDatabase {
    const found = this.#databases.get(db);
    if (found === undefined) throw new Error(`${db} is not repaired`);
    return found;
  }

  /** False: something is due in front of the item. */
  takes(db: string, item: ReceivedItem): boolean {
    return this.of(db).takes(item);
  }

  /** Reads again what is to be known of the log in front of the start. `told`: the master may send on. */
  async recall(link: ItemStream, told: () => void): Promise<void> {
    const { start } = this.#options;
    this.#isRecalling = true;
    for (const [name, db] of this.#databases) {
      const place = start.places.get(name) as Place;
      for (let at = start.since.get(name) as Place; comparePlaces(at, place) < 0; ) {
        await link.until(() => link.peek(name) !== undefined);
        for (const item of link.shiftWhile(name, ({ end }) => comparePlaces(end, place) <= 0)) {
          db.recall(item);
          at = item.end;
        }
        told();
      }
    }
    this.#isRecalling = false;
  }

  /** What was recalled is in front of the start, and was seen to. */
  #emptied(db: string): void {
    if (!this.#isRecalling && this.#databases.size > 1) throw new EverythingEmptied(db);
  }

  /** What is due where `at` stands. Returns where the log goes on. */
  async *pause(log: RepairedLog, start: PikaPosition): AsyncGenerator<readonly Entry[], PikaPosition> {
    let at = start;
    for (const [name, db] of this.#databases) {
      const place = at.places.get(name) as Place;
      while (db.isDue(place)) at = yield* this.#close(log, at, db, place);
    }
    return at;
  }

  async *#close(
    { link, maker, isMarked }: RepairedLog,
    at: PikaPosition,
    db: RepairedDatabase,
    place: Place,
  ): AsyncGenerator<readonly Entry[], PikaPosition> {
    const { now, onRepaired } = this.#options;
    const { name, since } = db;
    const due = await db.close(place, link.peek(name) === undefined);
    let behind = announcementAt(knowing(at, db));
    if (due.commands.length === 0) yield [maker.announce(at, behind, now())];
    else {
      // Until it is written, the bracket is no further than here.
      const open = knowing(at, { name, since, through: db.through ?? place });
      const before = { ...announcementAt(open), reserved: due.commands.length };
      behind = announcementAt(behind);
      await failpoint('repair-read');
      yield [maker.announce(at, before, now())];
      await link.until(() => isMarked(before));
      await failpoint('repair-announced');
      yield maker.fill(before, behind, name, due.commands, now());
      await failpoint('repair-written');
      onRepaired(name, due);
    }
    await link.until(() => isMarked(behind));
    return { ...behind, announced: false };
  }
}

/** From where a run begins: what an earlier one may have left of a repair. */
export async function* settle(
  { link, maker, repair, isMarked }: RepairedLog,
  start: PikaPosition,
  now: () => number,
): AsyncGenerator<readonly Entry[], PikaPosition> {
  let at = start;
  if (at.reserved > 0) {
    const behind = announcementAt({ ...at, reserved: 0 });
    yield maker.fill(at, behind, '', Array<Buffer>(at.reserved).fill(NOTHING), now());
    at = behind;
  }
  if (repair === undefined && at.through.size > 0) {
    const behind = announcementAt({ ...positionAt(at.log, at.places), window: at.window, steps: at.steps });
    yield [maker.announce(at, behind, now())];
    at = behind;
  }
  if (at.announced) await link.until(() => isMarked(at));
  return { ...at, announced: false };
}
