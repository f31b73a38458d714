import type { Entry } from '../../src/sources/source.ts';

// The source's log of one simulation, and what follows from it: which ids each key must see, in which order.
// A command's id is its place in the log: every raw command takes one, a malformed entry one. The first log's ids are the
// seqs of the first generation; a log that replaces another has ids of its own, so that no command can be taken for one
// of another log. Which seq is which id, each generation says.

export const DATABASES = 2;
export const KEYS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'] as const;
/** A cell is a key in a database. */
export const CELLS = DATABASES * KEYS.length;
const ALL_CELLS = Array.from({ length: CELLS }, (_, cell) => cell);

/** Ids that one log has at most. */
const LOG_IDS = 100_000;

export type Rng = () => number;

export interface Told {
  readonly id: number;
  readonly name: string;
  readonly db: number;
  /** What it must have touched when it is applied. */
  readonly cells: readonly number[];
  /** Id of the MULTI that it stands in. */
  readonly transaction: number | undefined;
}

export interface SourceLog {
  readonly entries: readonly Entry[];
  /** Ids before each entry; one more than entries. */
  readonly before: readonly number[];
  /** By id; only those that reach the target. */
  readonly told: ReadonlyMap<number, Told>;
  /** By cell: the ids that touch it. */
  readonly expected: readonly (readonly number[])[];
  /** By id of a MULTI: how many commands of it reach the target. */
  readonly transactions: ReadonlyMap<number, number>;
  /** Id before the first, and the last one. */
  readonly first: number;
  readonly total: number;
}

/** The log that an id belongs to. */
export function logOfId(id: number): number {
  return Math.floor((id - 1) / LOG_IDS);
}

interface LogShape {
  readonly entries: number;
  /** Which of the source's logs it is. */
  readonly log: number;
  /** A log that replaces another begins with FLUSHALL. */
  readonly flushes: boolean;
}

export function intBelow(rng: Rng, bound: number): number {
  return Math.floor(rng() * bound);
}

export function makeLog(rng: Rng, shape: LogShape): SourceLog {
  return new LogMaker(rng, shape).make();
}

class LogMaker {
  readonly #rng: Rng;
  readonly #shape: LogShape;
  readonly #crossing: number;
  readonly #told = new Map<number, Told>();
  readonly #expected: number[][] = ALL_CELLS.map(() => []);
  readonly #transactions = new Map<number, number>();
  #id: number;
  #db = 0;
  #transaction: number | undefined;
  #resp = '';

  constructor(rng: Rng, shape: LogShape) {
    this.#rng = rng;
    this.#shape = shape;
    this.#id = shape.log * LOG_IDS;
    // Some logs are dense with crossing commands, some have few.
    this.#crossing = rng() < 0.3 ? 0.4 : 0.12;
  }

  make(): SourceLog {
    const entries: Entry[] = [];
    const first = this.#id;
    const before = [first];
    for (let at = 0; at < this.#shape.entries; at++) {
      entries.push(this.#entry(at));
      before.push(this.#id);
    }
    return {
      entries,
      before,
      told: this.#told,
      expected: this.#expected,
      transactions: this.#transactions,
      first,
      total: this.#id,
    };
  }

  #entry(at: number): Entry {
    const rng = this.#rng;
    const base = { position: `${this.#shape.log}/${at + 1}`, skip: 0, timeMs: 1_000 + at };
    const flushes = at === 0 && this.#shape.flushes;
    if (!flushes && rng() < 0.02) {
      this.#id++;
      return { ...base, db: 0, resp: Buffer.from('nonsense'), malformed: 'nonsense' };
    }
    const db = rng() < 0.8 ? 0 : 1;
    this.#db = db;
    this.#resp = '';
    if (flushes) this.#tell(['FLUSHALL'], 'all');
    const commands = 1 + intBelow(rng, rng() < 0.2 ? 8 : 3);
    for (let i = 0; i < commands; i++) this.#any();
    return { ...base, db, resp: Buffer.from(this.#resp, 'latin1'), malformed: undefined };
  }

  #any(): void {
    const rng = this.#rng;
    const draw = rng();
    if (draw < 0.05) this.#context('SELECT', this.#db === 0 ? 1 : 0);
    else if (draw < 0.08) this.#context('PING');
    else if (draw < 0.1) this.#context('SHUTDOWN');
    else if (draw < 0.18) this.#multi();
    else this.#data();
  }

  #multi(): void {
    this.#context('MULTI');
    this.#transaction = this.#id;
    const key = this.#key();
    const inOneLane = this.#rng() < 0.4;
    const commands = intBelow(this.#rng, 4);
    this.#transactions.set(this.#id, commands);
    for (let i = 0; i < commands; i++) {
      if (inOneLane) this.#tell(['RPUSH', key, this.#id + 1], [key]);
      else this.#data();
    }
    this.#transaction = undefined;
    this.#context('EXEC');
  }

  #data(): void {
    const draw = this.#rng();
    if (draw < this.#crossing * 0.25) this.#erase();
    else if (draw < this.#crossing) {
      const keys = this.#keys();
      this.#tell(['MSETNX', ...keys.flatMap((key) => [key, this.#id + 1])], keys);
    } else if (draw < this.#crossing + 0.12) {
      const keys = this.#keys();
      this.#tell(['MSET', ...keys.flatMap((key) => [key, this.#id + 1])], keys);
    } else if (draw < this.#crossing + 0.2) {
      const keys = this.#keys();
      this.#tell(['DEL', ...keys], keys);
    } else {
      const key = this.#key();
      this.#tell(['RPUSH', key, this.#id + 1], [key]);
    }
  }

  #erase(): void {
    const draw = this.#rng();
    const words = draw < 0.6 ? ['FLUSHDB'] : draw < 0.8 ? ['FLUSHALL'] : ['SWAPDB', 0, 1];
    this.#tell(words, 'all');
  }

  #key(): string {
    return KEYS[intBelow(this.#rng, KEYS.length)] as string;
  }

  #keys(): string[] {
    const keys = new Set([this.#key(), this.#key()]);
    if (this.#rng() < 0.3) keys.add(this.#key());
    return [...keys];
  }

  #write(words: readonly (string | number)[]): void {
    this.#resp += `*${words.length}\r\n`;
    for (const word of words) this.#resp += `$${String(word).length}\r\n${word}\r\n`;
  }

  #context(name: string, db?: number): void {
    this.#id++;
    this.#write(db === undefined ? [name] : [name, db]);
    if (db !== undefined) this.#db = db;
  }

  #tell(words: (string | number)[], keys: readonly string[] | 'all'): void {
    const id = ++this.#id;
    this.#write(words);
    const cells = keys === 'all' ? ALL_CELLS : keys.map((key) => cellOf(this.#db, key));
    for (const cell of cells) this.#expected[cell]?.push(id);
    const transaction = this.#transaction;
    this.#told.set(id, { id, name: String(words[0]), db: this.#db, cells, transaction });
  }
}

export function cellOf(db: number, key: string): number {
  return db * KEYS.length + (KEYS as readonly string[]).indexOf(key);
}

export function keyOfCell(cell: number): string {
  return KEYS[cell % KEYS.length] as string;
}
