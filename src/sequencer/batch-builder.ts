import { encodeCommand } from '../binlog/resp.ts';
import { IndexWriter } from '../journal/item.ts';

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
  #bytes = Buffer.allocUnsafeSlow(16 * 1024);
  #length = 0;
  readonly #ofGate: boolean;

  /** A gate's index counts from 0: its `first` may be a MULTI, which is no command of the index. */
  constructor(kind: 'lane' | 'gate') {
    this.#ofGate = kind === 'gate';
  }

  get byteLength(): number {
    return this.#length;
  }

  /** `lanes` is given for the gate log only, where undefined stands for all lanes of the gate. */
  add(
    source: Buffer,
    start: number,
    end: number,
    seq: number,
    db: number,
    timeMs: number,
    continues: boolean,
    lanes?: readonly number[] | 'all',
  ): void {
    if (this.count === 0) this.#begin(seq, db, timeMs);
    let tied = continues;
    if (db !== this.dbLast) {
      this.#write(selectCommand(db), 0, -1);
      this.#register(seq, true, tied, lanes);
      this.dbLast = db;
      if (db > this.dbMax) this.dbMax = db;
      tied = true;
    }
    this.#write(source, start, end);
    this.#register(seq, false, tied, lanes);
    this.last = seq;
  }

  takeCommands(): Buffer {
    const taken = Buffer.from(this.#bytes.subarray(0, this.#length));
    this.#length = 0;
    this.count = 0;
    // A batch that was once huge must not keep its memory.
    if (this.#bytes.length > 4 * 1024 * 1024) this.#bytes = Buffer.allocUnsafeSlow(16 * 1024);
    return taken;
  }

  #begin(seq: number, db: number, timeMs: number): void {
    this.index.begin(this.#ofGate ? 0 : seq);
    this.first = seq;
    this.db = db;
    this.dbMax = db;
    this.dbLast = db;
    this.timeMs = timeMs;
  }

  #register(
    seq: number,
    inserted: boolean,
    continues: boolean,
    lanes: readonly number[] | 'all' | undefined,
  ): void {
    this.count++;
    this.index.add(seq, inserted, continues);
    if (lanes !== undefined) this.index.addLanes(lanes === 'all' ? undefined : lanes);
  }

  #write(source: Buffer, start: number, end: number): void {
    const stop = end < 0 ? source.length : end;
    const needed = this.#length + stop - start;
    if (needed > this.#bytes.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.#bytes.length * 2));
      this.#bytes.copy(larger, 0, 0, this.#length);
      this.#bytes = larger;
    }
    source.copy(this.#bytes, this.#length, start, stop);
    this.#length = needed;
  }
}
