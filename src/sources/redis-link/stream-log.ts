// The stream between the socket and the reader. It promises:
// 1. The reader gets every byte, in order, whatever the pace of either side.
// 2. At most `memoryBytesMax` plus one read of the socket waits in memory: what the reader does not keep up with goes to
//    files of the spool. While a snapshot stands before the stream everything does, because a restart then needs it.
// 3. When neither memory nor spool has room, `isFull` is true: its owner stops reading the socket.
//
//   append --> memory --------------------------> reader        the reader keeps up
//                 \--> files (flush) ----------------^          it does not, or `keepAll`
//
// Offsets count the bytes of the stream that lie before a point. Files behind the acknowledged offset are removed.

import { sleep } from '../../runtime/backoff.ts';
import { Bell } from './bell.ts';
import { isDiskFull, type Spool } from './spool.ts';
import { StreamFile } from './stream-file.ts';

const FILE_BYTES = 64 * 1024 * 1024;
const FLUSH_BYTES = 4 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const DISK_RETRY_MS = 1_000;
const TIMES_MAX = 4_096;

export interface StreamBytes {
  readonly start: number;
  readonly bytes: Buffer;
  /** When they were received. */
  readonly timeMs: number;
}

export interface StreamLogOptions {
  readonly spool: () => Promise<Spool>;
  readonly replid: string;
  /** Where the reader begins. */
  readonly start: number;
  /** What an earlier process spooled from `start` on. */
  readonly files: readonly StreamFile[];
  readonly keepAll: boolean;
  readonly memoryBytesMax: number;
  readonly onNotice: (text: string) => void;
}

export class StreamLog {
  readonly #options: StreamLogOptions;
  readonly #changed = new Bell();
  readonly #stop = new AbortController();
  #spool: Spool | undefined;
  /** In order; what is behind the files, or in them and not dropped yet. */
  #pieces: StreamBytes[] = [];
  #memoryBytes = 0;
  #files: StreamFile[];
  #writing: StreamFile | undefined;
  /** Up to where the files hold what memory has. */
  #flushed: number;
  #reader: number;
  #end: number;
  #keepAll: boolean;
  #flushes: Promise<void> | undefined;
  #failure: unknown;
  #isBlocked = false;
  #isAppending = false;
  #times: { readonly offset: number; readonly timeMs: number }[] = [];

  constructor(options: StreamLogOptions) {
    this.#options = options;
    this.#files = [...options.files];
    this.#reader = options.start;
    this.#end = options.files.at(-1)?.end ?? options.start;
    this.#flushed = this.#end;
    this.#keepAll = options.keepAll;
    for (const file of options.files) this.#times.push({ offset: file.start, timeMs: file.writtenAtMs });
  }

  /** Behind the last byte that was received. */
  get end(): number {
    return this.#end;
  }

  /** Undefined while nothing had to be spooled. */
  get spool(): Spool | undefined {
    return this.#spool;
  }

  get isFull(): boolean {
    return this.#memoryBytes >= this.#options.memoryBytesMax + FLUSH_BYTES;
  }

  /** Neither disk nor spool takes more. */
  get isBlocked(): boolean {
    return this.#isBlocked;
  }

  append(bytes: Buffer, timeMs: number): void {
    this.#mark(timeMs);
    this.#pieces.push({ start: this.#end, bytes, timeMs });
    this.#end += bytes.length;
    this.#memoryBytes += bytes.length;
    this.#flushIfDue();
    this.#changed.ring();
  }

  async room(): Promise<void> {
    while (this.isFull && this.#failure === undefined) await this.#changed.wait();
  }

  /** The next bytes behind the reader; undefined when `signal` is aborted first. */
  async next(signal: AbortSignal): Promise<StreamBytes | undefined> {
    const wake = () => this.#changed.ring();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!signal.aborted) {
        const piece = this.take() ?? (await this.#fromFiles());
        if (piece !== undefined) return piece;
        if (this.#failure !== undefined) throw this.#failure;
        await this.#changed.wait();
      }
      return undefined;
    } finally {
      signal.removeEventListener('abort', wake);
    }
  }

  /** Like `next`, of what is in memory. */
  take(): StreamBytes | undefined {
    const piece = this.#fromMemory();
    if (piece === undefined) return undefined;
    this.#reader = piece.start + piece.bytes.length;
    this.#trim();
    return piece;
  }

  /** Whether the reader can go on at `offset`; it does then. */
  seek(offset: number): boolean {
    let at = offset;
    for (const file of this.#files) if (file.start <= at && at < file.end) at = file.end;
    if (at < this.#memoryStart || at > this.#end) return false;
    this.#reader = offset;
    return true;
  }

  /** Nothing before `offset` will be asked for again, in this process or another. */
  async release(offset: number): Promise<void> {
    this.#keepAll = false;
    if (!this.#isAppending && this.#writing !== undefined && this.#writing.end <= offset)
      this.#writing = undefined;
    const gone = this.#files.filter((file) => file.end <= offset && file !== this.#writing);
    if (gone.length > 0) {
      this.#files = this.#files.filter((file) => !gone.includes(file));
      await Promise.all(gone.map((file) => file.remove()));
    }
    this.#trim();
    this.#flushIfDue();
  }

  /** When the byte at `offset` was received; undefined if it was not. */
  timeAt(offset: number): number | undefined {
    if (offset >= this.#end) return undefined;
    const first = this.#times[0];
    return (this.#times.findLast((mark) => mark.offset <= offset) ?? first)?.timeMs;
  }

  /** No more will come. What is here is read to its end first. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#changed.ring();
  }

  async close(): Promise<void> {
    this.fail(new Error('the link was closed'));
    this.#stop.abort();
    this.#spool?.freed.ring();
    await this.#flushes?.catch(() => {});
    if (this.#keepAll) await this.#flushRest().catch(() => {});
    if (this.#writing !== undefined) await this.#writing.sync().catch(() => {});
    await Promise.all(this.#files.map((file) => file.close()));
  }

  get #memoryStart(): number {
    return this.#pieces[0]?.start ?? this.#end;
  }

  #fromMemory(): StreamBytes | undefined {
    if (this.#reader < this.#memoryStart || this.#reader >= this.#end) return undefined;
    const piece = this.#pieces.find(({ start, bytes }) => start + bytes.length > this.#reader);
    if (piece === undefined || piece.start === this.#reader) return piece;
    return { ...piece, start: this.#reader, bytes: piece.bytes.subarray(this.#reader - piece.start) };
  }

  async #fromFiles(): Promise<StreamBytes | undefined> {
    if (this.#reader >= this.#memoryStart) return undefined;
    const start = this.#reader;
    const file = this.#files.find((one) => one.start <= start && start < one.end);
    if (file === undefined) throw new Error(`the spooled stream has a hole at ${start}`);
    const bytes = await file.read(start, READ_BYTES);
    this.#reader = start + bytes.length;
    return { start, bytes, timeMs: this.timeAt(start) ?? file.writtenAtMs };
  }

  #trim(): void {
    let gone = 0;
    for (const { start, bytes } of this.#pieces) {
      const end = start + bytes.length;
      if (end > this.#flushed && (this.#keepAll || end > this.#reader)) break;
      gone++;
      this.#memoryBytes -= bytes.length;
    }
    if (gone === 0) return;
    this.#pieces.splice(0, gone);
    this.#flushed = Math.max(this.#flushed, this.#memoryStart);
    this.#changed.ring();
  }

  #flushIfDue(): void {
    if (!this.#flushIsDue()) return;
    this.#flushes ??= this.#flush()
      .catch((error: unknown) => this.fail(error))
      .finally(() => {
        this.#flushes = undefined;
      });
  }

  #flushIsDue(): boolean {
    if (this.#failure !== undefined || this.#end <= this.#flushed) return false;
    return this.#keepAll || this.#memoryBytes > this.#options.memoryBytesMax;
  }

  async #flush(): Promise<void> {
    this.#spool ??= await this.#options.spool();
    while (this.#flushIsDue()) {
      const { start, buffers, bytes } = this.#batch();
      if (!(await this.#hasRoom(this.#spool, bytes))) continue;
      if (!(await this.#append(this.#spool, start, buffers, bytes))) continue;
      this.#flushed = Math.max(this.#flushed, start + bytes);
      this.#trim();
    }
  }

  /** A clean end leaves its successor everything that was received, if there is room. */
  async #flushRest(): Promise<void> {
    this.#spool ??= await this.#options.spool();
    while (this.#end > this.#flushed) {
      const { start, buffers, bytes } = this.#batch();
      if (!this.#spool.hasRoom(bytes)) return;
      const file = await this.#fileAt(this.#spool, start);
      await file.append(buffers, bytes);
      this.#flushed = start + bytes;
    }
  }

  /** What goes to the files next. */
  #batch(): { start: number; buffers: readonly Buffer[]; bytes: number } {
    const buffers: Buffer[] = [];
    let bytes = 0;
    let start = this.#end;
    for (const piece of this.#pieces) {
      if (piece.start < this.#flushed) continue;
      start = Math.min(start, piece.start);
      buffers.push(piece.bytes);
      bytes += piece.bytes.length;
      if (bytes >= FLUSH_BYTES) break;
    }
    return { start, buffers, bytes };
  }

  async #fileAt(spool: Spool, start: number): Promise<StreamFile> {
    const current = this.#writing;
    const bytesMax = Math.min(FILE_BYTES, spool.bytesMax / 8);
    if (current?.end === start && current.end - current.start < bytesMax) return current;
    await current?.sync();
    const file = await StreamFile.create(spool, this.#options.replid, start);
    this.#writing = file;
    this.#files.push(file);
    return file;
  }

  async #append(spool: Spool, start: number, batch: readonly Buffer[], bytes: number): Promise<boolean> {
    this.#isAppending = true;
    try {
      const file = await this.#fileAt(spool, start);
      await file.append(batch, bytes);
      this.#isBlocked = false;
      return true;
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.#block('the disk of the spool is full');
      await sleep(DISK_RETRY_MS, this.#stop.signal).catch(() => {});
      return false;
    } finally {
      this.#isAppending = false;
    }
  }

  async #hasRoom(spool: Spool, bytes: number): Promise<boolean> {
    if (spool.hasRoom(bytes)) return true;
    this.#block(`the spool holds ${spool.bytes} bytes of ${spool.bytesMax} that are allowed (--spool-max)`);
    await spool.freed.wait();
    this.#isBlocked = !spool.hasRoom(bytes);
    return false;
  }

  #block(why: string): void {
    if (!this.#isBlocked)
      this.#options.onNotice(`${why}: nothing more is taken from the source until there is room`);
    this.#isBlocked = true;
  }

  #mark(timeMs: number): void {
    const last = this.#times.at(-1);
    if (last !== undefined && timeMs - last.timeMs < 1_000) return;
    this.#times.push({ offset: this.#end, timeMs });
    if (this.#times.length > TIMES_MAX) this.#times = this.#times.filter((_, i) => i % 2 === 0);
  }
}
