import { encodeCommand } from '../binlog/resp.ts';
import { IndexWriter } from '../journal/item.ts';
import type { BufferPool } from './buffer-pool.ts';
import type { Origin } from './command-list.ts';
import type { Lanes } from './lane-set.ts';

const NOTHING: Buffer = Buffer.alloc(0);
const selects = new Map<number, Buffer>();

/** `SELECT db` as RESP, made once per database. */
export function selectCommand(db: number): Buffer {
  const known = selects.get(db);
  if (known) return known;
  const bytes = encodeCommand(['SELECT', db]);
  selects.set(db, bytes);
  return bytes;
}

/** Gathers the commands of one journal item: their bytes back to back and their index. */
export class BatchBuilder {
  readonly index = new IndexWriter();
  /** Commands gathered, inserted SELECTs included. */
  count = 0;
  first = 0;
  last = 0;
  /** Database of the first command, of the newest one, and the highest. */
  db = 0;
  dbLast = 0;
  dbMax = 0;
  timeMs = 0;
  /** The first of those that its commands set. */
  deadlineMs = Infinity;
  readonly #pool: BufferPool;
  #bytes: Buffer;
  #length = 0;
  /** [runStart, runEnd) of `run` is still to be copied. */
  #run = NOTHING;
  #runStart = 0;
  #runEnd = 0;
  readonly #ofGate: boolean;

  /** A gate's index counts from 0: its `first` may be a MULTI, which is no command of the index. */
  constructor(kind: 'lane' | 'gate', pool: BufferPool) {
    this.#ofGate = kind === 'gate';
    this.#pool = pool;
    this.#bytes = pool.take();
  }

  get byteLength(): number {
    return this.#length;
  }

  /** [start, end) of the origin's buffer, which must not change before `takeCommands`. `lanes`: gate log only. */
  add(origin: Origin, start: number, end: number, seq: number, tied: boolean, lanes?: Lanes): void {
    const { buffer, db } = origin;
    if (this.count === 0) this.#begin(seq, db, origin.timeMs);
    if (origin.deadlineMs < this.deadlineMs) this.deadlineMs = origin.deadlineMs;
    let continues = tied;
    if (db !== this.dbLast) {
      const select = selectCommand(db);
      this.#write(select, 0, select.length);
      this.#register(seq, true, continues, lanes);
      this.dbLast = db;
      if (db > this.dbMax) this.dbMax = db;
      continues = true;
    }
    this.#write(buffer, start, end);
    this.#register(seq, false, continues, lanes);
    this.last = seq;
  }

  /** Memory of the pool: to be given back when nobody reads it any more, or left to the garbage collector. */
  takeCommands(): Buffer {
    this.#copyRun();
    // The source's buffer is not held longer than needed.
    this.#run = NOTHING;
    this.#runStart = 0;
    this.#runEnd = 0;
    const taken = this.#bytes.subarray(0, this.#length);
    this.#bytes = this.#pool.take();
    this.#length = 0;
    this.count = 0;
    return taken;
  }

  #begin(seq: number, db: number, timeMs: number): void {
    this.index.begin(this.#ofGate ? 0 : seq);
    this.first = seq;
    this.db = db;
    this.dbMax = db;
    this.dbLast = db;
    this.timeMs = timeMs;
    this.deadlineMs = Infinity;
  }

  #register(seq: number, inserted: boolean, continues: boolean, lanes: Lanes | undefined): void {
    this.count++;
    this.index.add(seq, inserted, continues);
    if (lanes === undefined) return;
    if (typeof lanes === 'number') this.index.addLane(lanes);
    else this.index.addLanes(lanes === 'all' ? undefined : lanes);
  }

  /** What stands together in the source is copied together. */
  #write(source: Buffer, start: number, end: number): void {
    if (source === this.#run && start === this.#runEnd) {
      this.#runEnd = end;
      return;
    }
    this.#copyRun();
    this.#run = source;
    this.#runStart = start;
    this.#runEnd = end;
  }

  #copyRun(): void {
    const needed = this.#length + this.#runEnd - this.#runStart;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    this.#run.copy(this.#bytes, this.#length, this.#runStart, this.#runEnd);
    this.#length = needed;
  }
}
