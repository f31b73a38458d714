// Items of the log become entries: each item is one command and takes one seq, also one that is nothing to the target.

import type { Entry, Position } from '../source.ts';
import type { ReceivedItem } from './link.ts';
import { formatPikaPosition, type PikaPosition, type Place } from './position.ts';
import { NOTHING, type ReadItem, readItem } from './read-item.ts';
import type { Repair } from './repair.ts';
import type { TakenItem } from './repaired-database.ts';

/** An entry ends behind the item that reaches this. */
const ENTRY_BYTES = 32 * 1024;

export class EntryMaker {
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #repair: Repair | undefined;
  /** The position behind so many commands of an entry. */
  readonly #inside = new WeakMap<Entry, (taken: number) => PikaPosition>();

  /** `numbers`: the target's database for each one of the source. */
  constructor(numbers: ReadonlyMap<string, number>, repair?: Repair) {
    this.#numbers = numbers;
    this.#repair = repair;
  }

  /** `items` follow upon `before` in the log of `db`. Returns the place behind them. */
  add(entries: Entry[], before: PikaPosition, db: string, items: readonly ReceivedItem[]): PikaPosition {
    const repaired = this.#repair?.of(db);
    let batch = new Batch();
    let at = before;
    const close = () => {
      if (batch.ends.length > 0) at = this.#close(entries, at, db, batch);
      batch = new Batch();
    };
    for (const { bytes, end } of items) {
      const { read, since, through }: Partial<TakenItem> & Pick<TakenItem, 'read'> = repaired?.taken() ?? {
        read: readItem(bytes),
      };
      const isMalformed = read.malformed !== undefined;
      if (isMalformed || !batch.fits(read, through)) close();
      if (batch.ends.length === 0) [batch.since, batch.through] = [since, through];
      batch.add(read, end);
      if (isMalformed || batch.bytes >= ENTRY_BYTES) close();
    }
    close();
    return at;
  }

  /** An entry without effect, for its position alone. */
  announce(before: PikaPosition, behind: PikaPosition, timeMs: number): Entry {
    return this.#entry({ resp: NOTHING, db: 0, timeMs, beginsOrder: true, malformed: undefined }, (taken) =>
      taken === 0 ? before : behind,
    );
  }

  /** `commands` take the numbers that are reserved behind `before`. */
  fill(
    before: PikaPosition,
    behind: PikaPosition,
    db: string,
    commands: readonly Buffer[],
    timeMs: number,
  ): readonly Entry[] {
    const entries: Entry[] = [];
    for (let from = 0; from < commands.length; ) {
      const parts: Buffer[] = [];
      for (let bytes = 0; from + parts.length < commands.length && bytes < ENTRY_BYTES; ) {
        const part = commands[from + parts.length] as Buffer;
        parts.push(part);
        bytes += part.length;
      }
      const start = from;
      from += parts.length;
      const head = { resp: Buffer.concat(parts), db: this.#numberOf(db), timeMs, malformed: undefined };
      const inside = (taken: number): PikaPosition => {
        const reserved = commands.length - start - taken;
        return reserved === 0 ? behind : { ...before, reserved, announced: taken === 0 && start === 0 };
      };
      entries.push(this.#entry(head, inside, parts.length));
    }
    return entries;
  }

  positionInside(entry: Entry, taken: number): Position {
    const inside = this.#inside.get(entry);
    if (inside === undefined) throw new Error('the entry is not of this source');
    return formatPikaPosition(inside(taken));
  }

  #close(entries: Entry[], before: PikaPosition, db: string, batch: Batch): PikaPosition {
    const { parts, ends, bytes, timeS, malformed, refused } = batch;
    const known = { name: db, since: batch.since, through: batch.through };
    const behind = (end: Place) => ({
      ...knowing(before, known),
      places: new Map(before.places).set(db, end),
      announced: false,
      steps: 0,
    });
    const last = behind(ends.at(-1) as Place);
    const entry = this.#entry(
      {
        resp: parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, bytes),
        db: this.#numberOf(db),
        timeMs: timeS * 1000,
        malformed,
        ...(refused === undefined ? {} : { refused }),
      },
      (taken) => (taken === 0 ? before : behind(ends[taken - 1] ?? (ends.at(-1) as Place))),
      ends.length,
    );
    entries.push(entry);
    return last;
  }

  #entry(
    head: Omit<Entry, 'position' | 'skip'>,
    inside: (taken: number) => PikaPosition,
    commands = 1,
  ): Entry {
    const entry: Entry = { ...head, position: formatPikaPosition(inside(commands)), skip: 0 };
    this.#inside.set(entry, inside);
    return entry;
  }

  #numberOf(db: string): number {
    return this.#numbers.get(db) ?? 0;
  }
}

/** The same place, with what a repair knows of a database; `since` is undefined without repair. */
export function knowing(
  at: PikaPosition,
  {
    name,
    since,
    through,
  }: { readonly name: string; readonly since: Place | undefined; readonly through: Place | undefined },
): PikaPosition {
  if (since === undefined) return at;
  const brackets = new Map(at.through);
  if (through === undefined) brackets.delete(name);
  else brackets.set(name, through);
  return { ...at, since: new Map(at.since).set(name, since), through: brackets };
}

class Batch {
  readonly parts: Buffer[] = [];
  readonly ends: Place[] = [];
  bytes = 0;
  timeS = 0;
  malformed: string | undefined;
  refused: Entry['refused'];
  since: Place | undefined;
  through: Place | undefined;

  /** A position inside says where the bracket ends: it must be right behind every item. */
  fits({ timeS }: ReadItem, through: Place | undefined): boolean {
    return this.ends.length === 0 || (timeS === this.timeS && through === this.through);
  }

  add({ resp, timeS, malformed, refused }: ReadItem, end: Place): void {
    this.parts.push(resp);
    this.ends.push(end);
    this.bytes += resp.length;
    this.timeS = timeS;
    this.malformed = malformed;
    this.refused = refused;
  }
}
