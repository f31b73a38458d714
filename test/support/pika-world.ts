import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import { EntryMaker } from '../../src/sources/pika/entries.ts';
import type { KeyReader } from '../../src/sources/pika/key-reader.ts';
import type { ItemStream } from '../../src/sources/pika/link.ts';
import {
  coversPika,
  formatPikaPosition,
  isSameAnnouncement,
  type PikaPosition,
  type Place,
  type Places,
  parsePikaPosition,
  positionAt,
} from '../../src/sources/pika/position.ts';
import { Repair } from '../../src/sources/pika/repair.ts';
import { originsOf } from '../../src/sources/pika/repairing.ts';
import { readOne, readWindows } from '../../src/sources/pika/window.ts';
import type { Entry } from '../../src/sources/source.ts';
import { PikaLog } from './pika-log.ts';
import { random } from './workload.ts';

// A master whose log is wrong, the reading of its log with repair, and a journal, lanes and a low-water mark as they are in
// numbers alone: everything in one process, in an order that a seed decides. The reading may die at any moment, and the
// journal may be lost.

type Data = Map<string, string[]>;

interface Numbered {
  readonly seq: number;
  readonly db: number;
  readonly args: readonly string[];
  readonly position: string;
}

/** The reading died; `journal`: what it had committed is lost as well. */
class Crash extends Error {
  readonly journal: boolean;
  constructor(journal: boolean) {
    super('crash');
    this.journal = journal;
  }
}

class Done extends Error {}

export interface WorldOptions {
  readonly seed: number;
  readonly databases: number;
  readonly operations: number;
  readonly repair?: boolean;
}

const KEYS = [...'abcdefghi'];
const LANES = 3;
const CRASHES_MAX = 15;

export class PikaWorld {
  readonly #next: () => number;
  readonly #options: WorldOptions;
  readonly #logs: Map<string, PikaLog>;
  readonly #master: Data[];
  readonly #target: Data[];
  /** Databases that are emptied, and whose FLUSHDB is logged after so many more operations. */
  readonly #flushing = new Map<string, number>();
  #left: number;
  /** What happens how often, of all that may: the seed decides. */
  readonly #rates: { readonly operate: number; readonly mark: number; readonly crash: number };
  readonly #lanes: readonly number[];
  #journal: Numbered[] = [];
  readonly #applied = Array<number>(LANES).fill(0);
  #head = 0;
  #mark: { seq: number; position: string };
  #told: PikaPosition | undefined;
  crashes = 0;
  repaired = 0;
  /** What was applied twice. */
  readonly doubled: string[] = [];

  constructor(options: WorldOptions) {
    this.#options = options;
    this.#next = random(options.seed);
    this.#left = options.operations;
    const rate = (from: number, to: number) => from * (to / from) ** this.#next();
    this.#rates = { operate: rate(0.05, 1), mark: rate(0.02, 1), crash: rate(0.01, 0.1) };
    this.#lanes = Array.from({ length: LANES }, () => rate(0.02, 1));
    const names = Array.from({ length: options.databases }, (_, i) => `db${i}`);
    this.#logs = new Map(names.map((name) => [name, new PikaLog(2_000)]));
    this.#master = names.map(() => new Map());
    this.#target = names.map(() => new Map());
    const start: [string, Place][] = names.map((name) => [name, { filenum: 0, offset: 0 }]);
    this.#mark = { seq: 0, position: formatPikaPosition(positionAt('x', new Map(start))) };
  }

  /** Until all is applied. */
  async run(): Promise<void> {
    for (let runs = 0; runs < 500; runs++) {
      try {
        await this.#read();
      } catch (error) {
        if (error instanceof Done) return;
        if (!(error instanceof Crash)) throw error;
        this.crashes++;
        if (error.journal) [this.#journal, this.#head] = [[], this.#mark.seq];
      }
    }
    throw new Error('it does not end');
  }

  /** `db key: master / target` of what differs. */
  differences(): string[] {
    return this.#master.flatMap((data, db) => {
      const target = this.#target[db] as Data;
      const keys = [...new Set([...data.keys(), ...target.keys()])].sort();
      return keys
        .map((key) => `${db} ${key}: ${data.get(key) ?? '-'} / ${target.get(key) ?? '-'}`)
        .filter((text) => !/: (.*) \/ \1$/.test(text));
    });
  }

  async #read(): Promise<void> {
    this.#told = undefined;
    const from = parsePikaPosition(this.#journal.at(-1)?.position ?? this.#mark.position);
    const isRepaired = this.#options.repair !== false;
    const start = { ...from, since: originsOf(from, isRepaired) };
    const link = this.#link(isRepaired ? start.since : start.places);
    const repair = isRepaired ? this.#repair(start) : undefined;
    await repair?.recall(link, () => {});
    const numbers = new Map([...this.#logs.keys()].map((name, i) => [name, i]));
    const source = {
      link,
      repair,
      maker: new EntryMaker(numbers, repair),
      chunkBytes: 200,
      now: () => 0,
      ends: async () => this.#ends(),
      isMarked: (at: PikaPosition) => this.#told !== undefined && isSameAnnouncement(this.#told, at),
    };
    const reading = start.places.size === 1 ? readOne(source, start) : readWindows(source, start);
    for await (const entries of reading)
      for (const entry of entries) this.#commit(entry, (taken) => source.maker.positionInside(entry, taken));
  }

  #repair(start: PikaPosition): Repair {
    const reader = (db: string): Pick<KeyReader, 'read'> => ({
      read: async (keys) => {
        this.#step();
        const data = this.#master[Number(db.slice(2))] as Data;
        const read = keys.map((key) => {
          const values = data.get(String(key));
          const commands = [encodeCommand(['DEL', key])];
          if (values !== undefined) commands.push(encodeCommand(['RPUSH', key, ...values]));
          return { kind: 'whole' as const, key, commands };
        });
        const ends = this.#ends();
        this.#step();
        return { keys: read, ends };
      },
    });
    const ends = async () => this.#ends();
    const onRepaired = (_db: string, due: { readonly repaired: number }) => {
      this.repaired += due.repaired;
    };
    return new Repair({ start, reader, ends, onRepaired, now: () => 0, batchKeys: 2 });
  }

  #link(from: Places): ItemStream {
    const at = new Map<string, number>();
    for (const [db, place] of from) {
      const index = this.#log(db).indexBehind(place);
      if (index === undefined) throw new Error(`no item of ${db} ends at ${JSON.stringify(place)}`);
      at.set(db, index);
    }
    const come = new Map(at);
    const arrive = () => {
      for (const [db, count] of come)
        come.set(db, Math.min(this.#log(db).items.length, count + Math.floor(this.#next() * 4)));
    };
    return {
      peek: (db) =>
        (at.get(db) as number) < (come.get(db) as number)
          ? this.#log(db).items[at.get(db) as number]
          : undefined,
      shiftWhile: (db, take) => {
        if (this.#chance(0.5)) arrive();
        const { items } = this.#log(db);
        const taken = [];
        for (let i = at.get(db) as number; i < (come.get(db) as number); i++) {
          const item = items[i];
          if (item === undefined || !take(item)) break;
          taken.push(item);
        }
        at.set(db, (at.get(db) as number) + taken.length);
        return taken;
      },
      until: async (ready) => {
        while (!ready()) {
          this.#step();
          arrive();
        }
      },
    };
  }

  #log(db: string): PikaLog {
    return this.#logs.get(db) as PikaLog;
  }

  #ends(): Places {
    return new Map([...this.#logs].map(([db, { end }]) => [db, end]));
  }

  #commit({ resp, db }: Entry, behind: (taken: number) => string): void {
    for (const [i, args] of commandsOf(resp).entries()) {
      if (this.#chance(0.3)) this.#step();
      this.#journal.push({ seq: ++this.#head, db, args, position: behind(i + 1) });
    }
    if (this.#chance(0.5)) this.#step();
  }

  /** Something happens. */
  #step(): void {
    const { operate, mark, crash } = this.#rates;
    const what: [number, () => void][] = [
      [this.#left > 0 ? operate : 0, () => this.#operate()],
      [mark, () => this.#moveMark()],
      [this.crashes < CRASHES_MAX ? crash : 0, () => this.#crash()],
      ...this.#lanes.map((rate, lane): [number, () => void] => [rate, () => this.#apply(lane)]),
    ];
    let at = this.#next() * what.reduce((sum, [rate]) => sum + rate, 0);
    for (const [rate, happens] of what) {
      at -= rate;
      if (at >= 0) continue;
      happens();
      break;
    }
    if (this.#left === 0 && this.#flushing.size === 0) this.#endIfDone();
  }

  #endIfDone(): void {
    if (coversPika(this.#mark.position, formatPikaPosition(positionAt('', this.#ends())))) throw new Done();
  }

  #crash(): never {
    throw new Crash(this.#chance(0.5));
  }

  #operate(): void {
    this.#left--;
    const db = Math.floor(this.#next() * this.#options.databases);
    const name = `db${db}`;
    const data = this.#master[db] as Data;
    const [key, other] = [this.#key(), this.#key()];
    const value = String(this.#left);
    const kind = this.#next();
    if (kind < 0.03) this.#write(name, data, ['SET', key, value]);
    else if (kind < 0.75) this.#write(name, data, ['RPUSH', key, value]);
    else if (kind < 0.8) this.#write(name, data, ['LPOP', key]);
    else if (kind < 0.82) this.#write(name, data, ['DEL', key]);
    else if (kind < 0.86 && key !== other && data.has(key)) this.#write(name, data, ['RENAME', key, other]);
    else if (kind < 0.97) {
      run(data, ['RPUSH', key, value]);
      this.#append(name, ['pksetexat', key, '0', '']);
    } else if (!this.#flushing.has(name)) {
      data.clear();
      this.#flushing.set(name, Math.floor(this.#next() * 6));
    }
    for (const [flushed, left] of this.#flushing) {
      if (left > 0 && this.#left > 0) this.#flushing.set(flushed, left - 1);
      else {
        this.#append(flushed, ['flushdb']);
        this.#flushing.delete(flushed);
      }
    }
  }

  #write(name: string, data: Data, args: readonly string[]): void {
    run(data, args);
    this.#append(name, args);
  }

  #append(name: string, args: readonly string[]): void {
    this.#log(name).append(args, 1_000_000 + Math.floor((this.#options.operations - this.#left) / 15));
  }

  /** The next one of a lane; one of all lanes when each of them has come so far. */
  #apply(lane: number): void {
    const next = this.#journal.find(
      ({ seq, args }) =>
        seq > (this.#applied[lane] as number) && (laneOf(args) ?? lane) === lane && args[0] !== 'PING',
    );
    if (next === undefined) return;
    if (laneOf(next.args) !== undefined) {
      this.#runOnce(next);
      this.#applied[lane] = next.seq;
      return;
    }
    const isLast = this.#applied.every((_, one) => !this.#isOpen(one, next.seq));
    if (!isLast) return;
    run(this.#target[next.db] as Data, next.args);
    this.#applied.fill(next.seq);
  }

  #runOnce({ db, args }: Numbered): void {
    const target = this.#target[db] as Data;
    const [name, key = '', value = ''] = args;
    // No two values are alike.
    if (name === 'RPUSH' && target.get(key)?.includes(value)) this.doubled.push(`${db} ${key}: ${value}`);
    run(target, args);
  }

  /** Something of the lane in front of `seq` is not applied. */
  #isOpen(lane: number, seq: number): boolean {
    return this.#journal.some(
      (one) => one.seq < seq && one.seq > (this.#applied[lane] as number) && laneOf(one.args) === lane,
    );
  }

  #moveMark(): void {
    const open = this.#journal.find(({ seq, args }) => {
      if (args[0] === 'PING') return false;
      const lane = laneOf(args);
      return seq > (lane === undefined ? Math.min(...this.#applied) : (this.#applied[lane] as number));
    });
    const last =
      open === undefined ? this.#journal.at(-1) : this.#journal.find(({ seq }) => seq === open.seq - 1);
    if (last !== undefined && last.seq > this.#mark.seq)
      this.#mark = { seq: last.seq, position: last.position };
    this.#told = parsePikaPosition(this.#mark.position);
  }

  #key(): string {
    return KEYS[Math.floor(this.#next() * KEYS.length)] as string;
  }

  #chance(share: number): boolean {
    return this.#next() < share;
  }
}

/** Undefined: all lanes. */
function laneOf([name = '', key = '']: readonly string[]): number | undefined {
  return /^(RENAME|FLUSHDB)$/.test(name) ? undefined : key.charCodeAt(0) % LANES;
}

function run(data: Data, [name, key = '', ...rest]: readonly string[]): void {
  const values = data.get(key) ?? [];
  if (name === 'SET') data.set(key, [rest[0] as string]);
  else if (name === 'RPUSH') data.set(key, [...values, ...rest]);
  else if (name === 'LPOP') {
    if (values.length > 1) data.set(key, values.slice(1));
    else data.delete(key);
  } else if (name === 'DEL') data.delete(key);
  else if (name === 'FLUSHDB') data.clear();
  else if (name === 'RENAME') {
    if (values.length > 0) data.set(rest[0] as string, values);
    data.delete(key);
  } else if (name !== 'PING') throw new Error(`${name} was passed on`);
}

function commandsOf(resp: Buffer): string[][] {
  const scanner = new RespScanner();
  scanner.reset(resp);
  const commands: string[][] = [];
  while (scanner.next()) commands.push(scanner.args().map(String));
  return commands;
}
