// What a repair knows of one database (repair.ts): which keys are stale, what was read of them, and up to where.

import { effectOf } from './item-effect.ts';
import type { KeyReader, ReadKey } from './key-reader.ts';
import type { ReceivedItem } from './link.ts';
import { comparePlaces, type Place, type Places } from './position.ts';
import { NOTHING, type ReadItem, readItem } from './read-item.ts';
import { Recent } from './recent.ts';
import { StaleKeys } from './stale-keys.ts';

/** Read at once, about; the rest of the keys at the end of the bracket. */
const HELD_BYTES = 64 * 1024 * 1024;

interface Value {
  readonly commands: readonly Buffer[];
  /** Where the log ended when it was read. */
  readonly through: Place;
  readonly lost: string | undefined;
}

/** To be written at the end of a bracket. */
export interface Due {
  readonly commands: readonly Buffer[];
  /** Keys that are there. */
  readonly repaired: number;
  /** Keys that the target cannot hold, and why. */
  readonly lost: readonly (readonly [key: string, why: string])[];
}

/** An item that was taken, and what is known behind it. */
export interface TakenItem {
  readonly read: ReadItem;
  readonly since: Place;
  readonly through: Place | undefined;
}

export interface RepairedDatabaseOptions {
  readonly name: string;
  readonly reader: Pick<KeyReader, 'read'>;
  readonly ends: () => Promise<Places>;
  /** From where its log is recalled or taken. */
  readonly since: Place;
  /** End of the bracket that is open. */
  readonly through: Place | undefined;
  /** Read in one moment. */
  readonly batchKeys: number;
  /** All databases are emptied; may throw. */
  readonly onEverything: () => void;
}

export class RepairedDatabase {
  readonly name: string;
  readonly #options: RepairedDatabaseOptions;
  readonly #recent: Recent;
  readonly #stale = new StaleKeys();
  readonly #values = new Map<string, Value>();
  readonly #taken: TakenItem[] = [];
  #through: Place | undefined;
  /** Where the log is to be read from again while a bracket is open. */
  #frozen: Place | undefined;
  #isNew = false;
  /** The next item stands behind the bracket, even if none ends where that does. */
  #isPassed = false;

  constructor(options: RepairedDatabaseOptions) {
    this.name = options.name;
    this.#options = options;
    this.#recent = new Recent(options.since);
    this.#through = options.through;
    if (this.#through !== undefined) this.#frozen = options.since;
  }

  /** Who reads the log again from here knows at least as many stale keys, and suspects no fewer. */
  get since(): Place {
    return this.#frozen ?? this.#recent.start;
  }

  /** End of the bracket that is open. */
  get through(): Place | undefined {
    return this.#through;
  }

  /** Nothing more is taken before `close`. */
  isDue(at: Place): boolean {
    return this.#through !== undefined && (this.#isPassed || comparePlaces(at, this.#through) >= 0);
  }

  /** Takes the next item, unless it stands behind the bracket; `taken` has it then. */
  takes(item: ReceivedItem): boolean {
    if (this.#through !== undefined && comparePlaces(item.end, this.#through) > 0) {
      this.#isPassed = true;
      return false;
    }
    this.#taken.push(this.#take(item));
    return true;
  }

  taken(): TakenItem {
    const item = this.#taken.shift();
    if (item === undefined) throw new Error('the item was not taken');
    return item;
  }

  /** An item that was taken before. */
  recall(item: ReceivedItem): void {
    if (this.#through === undefined) this.#recent.push(item, readItem(item.bytes).timeS);
    else this.#take(item);
  }

  /**
   * At `at`, where the bracket ends: what is to be written there. Opens the next bracket for keys that are still stale.
   * `isIdle`: no item has come behind it.
   */
  async close(at: Place, isIdle: boolean): Promise<Due> {
    const due = { commands: [] as Buffer[], repaired: 0, lost: [] as [string, string][] };
    this.#write(due);
    // With more to take, a FLUSHDB among it would make it other keys.
    if (this.#stale.size > 0 && this.#isNew && !isIdle)
      this.#through = this.#endIn(await this.#options.ends());
    else if (this.#stale.size > 0) {
      this.#through = await this.#read();
      if (comparePlaces(this.#through, at) <= 0) this.#write(due);
    }
    [this.#isNew, this.#isPassed] = [false, false];
    if (this.#stale.size === 0) [this.#through, this.#frozen] = [undefined, undefined];
    return due;
  }

  #take(item: ReceivedItem): TakenItem {
    const read = readItem(item.bytes);
    // As it is in front of the item: further back is never wrong.
    const { since } = this;
    const isSimple = read.empties === undefined && read.untold === undefined && this.#stale.size === 0;
    const passes = isSimple || this.#judge(item, read);
    this.#recent.push(item, read.timeS);
    return {
      read: passes ? read : { resp: NOTHING, timeS: read.timeS, malformed: undefined },
      since,
      through: this.#through,
    };
  }

  #judge(item: ReceivedItem, read: ReadItem): boolean {
    if (read.empties !== undefined) {
      if (read.empties === 'everything') this.#options.onEverything();
      this.#stale.emptied(this.#recent.keysBefore(read.timeS));
      this.#outdate(item.end);
      this.#open(item.end);
      return true;
    }
    if (read.untold !== undefined) {
      const key = read.untold.toString('latin1');
      if (!this.#stale.untold(key)) return true;
      this.#outdate(item.end, [key]);
      this.#open(item.end);
      return false;
    }
    const effect = effectOf(item.bytes);
    if (effect.kind === 'keys' || effect.kind === 'untold') this.#outdate(item.end, effect.keys);
    else if (effect.kind === 'all') this.#outdate(item.end);
    return this.#stale.passes(effect);
  }

  /** By the log alone, whatever is stale: where numbers are taken, another process must take them too. */
  #open(end: Place): void {
    if (this.#through !== undefined) return;
    this.#frozen = this.#recent.start;
    this.#through = end;
    this.#isNew = true;
  }

  /** What was read of these keys, or of all, does not know of the item that ends there. */
  #outdate(end: Place, keys: Iterable<string> = [...this.#values.keys()]): void {
    for (const key of keys) {
      const value = this.#values.get(key);
      if (value !== undefined && comparePlaces(value.through, end) < 0) this.#values.delete(key);
    }
  }

  async #read(): Promise<Place> {
    const { reader, batchKeys } = this.#options;
    const keys = [...this.#stale.keys()].map((key) => Buffer.from(key, 'latin1'));
    let through: Place = { filenum: 0, offset: 0 };
    let bytes = 0;
    const take = async (batch: readonly Buffer[], whole: boolean): Promise<readonly ReadKey[]> => {
      const { keys: read, ends } = await reader.read(batch, whole);
      through = this.#endIn(ends);
      for (const one of read) {
        if (one.kind !== 'whole') continue;
        const { commands, lost } = one;
        this.#values.set(one.key.toString('latin1'), { commands, through, lost });
        bytes += commands.reduce((sum, { length }) => sum + length, 0);
      }
      return read;
    };
    for (let at = 0; at < keys.length && bytes < HELD_BYTES; at += batchKeys) {
      const read = await take(keys.slice(at, at + batchKeys), false);
      for (const { kind, key } of read) if (kind === 'large') await take([key], true);
    }
    return through;
  }

  /** From here on these keys are what the log has led to. */
  #write(due: { commands: Buffer[]; repaired: number; lost: [string, string][] }): void {
    for (const [key, { commands, lost: why }] of this.#values) {
      if (!this.#stale.has(key)) continue;
      // The first command is the DEL.
      const isThere = commands.length > 1;
      if (isThere || why !== undefined || this.#stale.mustBeWritten(key)) due.commands.push(...commands);
      if (isThere) due.repaired++;
      if (why !== undefined) due.lost.push([key, why]);
      this.#stale.delete(key);
    }
    this.#values.clear();
  }

  #endIn(ends: Places): Place {
    const end = ends.get(this.name);
    if (end === undefined) throw new Error(`INFO names no binlog of ${this.name}`);
    return end;
  }
}
