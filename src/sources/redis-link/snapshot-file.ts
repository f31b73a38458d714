// The snapshot on its way through the spool: one side writes it as it arrives, the other may read it meanwhile.

import { type FileHandle, open } from 'node:fs/promises';
import { sleep } from '../../runtime/backoff.ts';
import { StopError } from '../../runtime/errors.ts';
import { Bell } from './bell.ts';
import { selectedDbOf } from './rdb-head.ts';
import type { LinkSocket } from './socket.ts';
import { isDiskFull, type Spool } from './spool.ts';

const WRITE_BYTES = 1024 * 1024;
const READ_BYTES = 1024 * 1024;
const DISK_RETRY_MS = 1_000;
const PART = 'snapshot.rdb.part';

export class SnapshotFile {
  readonly #spool: Spool;
  readonly #handle: FileHandle;
  readonly #changed = new Bell();
  readonly #onNotice: (text: string) => void;
  #written: number;
  #total: number | undefined;
  #complete: boolean;
  #failure: unknown;
  #closed = false;
  #readers = 0;

  private constructor(
    spool: Spool,
    handle: FileHandle,
    bytes: number | undefined,
    onNotice: (text: string) => void,
  ) {
    this.#spool = spool;
    this.#handle = handle;
    this.#written = bytes ?? 0;
    this.#total = bytes;
    this.#complete = bytes !== undefined;
    this.#onNotice = onNotice;
  }

  /** A snapshot that an earlier process received; undefined unless it is whole. */
  static async complete(spool: Spool): Promise<SnapshotFile | undefined> {
    const bytes = await spool.snapshotBytes();
    if (bytes === undefined) return undefined;
    return new SnapshotFile(spool, await open(spool.snapshotPath, 'r'), bytes, () => {});
  }

  static async begin(spool: Spool, onNotice: (text: string) => void): Promise<SnapshotFile> {
    return new SnapshotFile(spool, await open(spool.file(PART), 'wx+', 0o600), undefined, onNotice);
  }

  get receivedBytes(): number {
    return this.#written;
  }

  get totalBytes(): number | undefined {
    return this.#total;
  }

  get isComplete(): boolean {
    return this.#complete;
  }

  /** Takes the whole snapshot from the socket; `end` is its length, or the bytes that end it. */
  async receive(socket: LinkSocket, end: number | Buffer, signal: AbortSignal): Promise<void> {
    if (typeof end === 'number') {
      this.#total = end;
      this.#checkRoom(end);
    }
    const arriving = typeof end === 'number' ? byLength(socket, end) : byMark(socket, end);
    let batch: Buffer[] = [];
    let batchBytes = 0;
    let writing: Promise<void> = Promise.resolve();
    for await (const bytes of arriving) {
      batch.push(bytes);
      batchBytes += bytes.length;
      if (batchBytes < WRITE_BYTES) continue;
      // The next piece is received while this one is written, and no more than that.
      await writing;
      writing = this.#write(batch, batchBytes, signal);
      writing.catch(() => {});
      batch = [];
      batchBytes = 0;
    }
    await writing;
    await this.#write(batch, batchBytes, signal);
    await this.#handle.sync();
    await this.#spool.completeSnapshot(this.#spool.file(PART));
    this.#total = this.#written;
    this.#complete = true;
    this.#changed.ring();
  }

  /** The file's bytes from `offset` on, waiting for those that have not arrived. */
  async *bytes(offset: number, signal: AbortSignal): AsyncGenerator<Buffer, void> {
    let at = offset;
    this.#readers++;
    const wake = () => this.#changed.ring();
    signal.addEventListener('abort', wake, { once: true });
    try {
      while (!signal.aborted) {
        if (at < this.#written) {
          const buffer = Buffer.allocUnsafeSlow(Math.min(READ_BYTES, this.#written - at));
          const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, at);
          if (bytesRead === 0) throw new Error('the spooled snapshot is shorter than it was');
          at += bytesRead;
          yield buffer.subarray(0, bytesRead);
        } else if (this.#complete) return;
        else if (this.#failure !== undefined) throw this.#failure;
        else await this.#changed.wait();
      }
    } finally {
      signal.removeEventListener('abort', wake);
      this.#readers--;
      if (this.#closed) await this.#closeHandle();
    }
  }

  /** The database that is selected where the stream behind the snapshot begins. */
  async streamDb(signal: AbortSignal): Promise<number> {
    let head = Buffer.alloc(0);
    for await (const bytes of this.bytes(0, signal)) {
      head = Buffer.concat([head, bytes]);
      const db = selectedDbOf(head);
      if (db !== undefined) return db;
    }
    return 0;
  }

  /** The link is gone: what has not arrived never will. */
  fail(error: unknown): void {
    this.#failure ??= error;
    this.#changed.ring();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.fail(new Error('the snapshot was closed'));
    await this.#closeHandle();
  }

  async #closeHandle(): Promise<void> {
    if (this.#readers === 0) await this.#handle.close().catch(() => {});
  }

  async #write(batch: readonly Buffer[], bytes: number, signal: AbortSignal): Promise<void> {
    this.#checkRoom(this.#written + bytes);
    for (let told = false; ; told = true) {
      try {
        if (bytes > 0) await writeAll(this.#handle, batch, this.#written);
        break;
      } catch (error) {
        if (!isDiskFull(error)) throw error;
        if (!told) this.#onNotice(`the disk of ${this.#spool.path} is full: the snapshot waits for room`);
        await sleep(DISK_RETRY_MS, signal);
      }
    }
    this.#written += bytes;
    this.#spool.account(bytes);
    this.#changed.ring();
  }

  #checkRoom(bytes: number): void {
    if (bytes <= this.#spool.bytesMax) return;
    throw new StopError(
      'SPOOL_TOO_SMALL',
      `the source's snapshot has ${this.#total ?? `more than ${this.#written}`} bytes, and the spool may have ${this.#spool.bytesMax}`,
      { hint: 'allow a larger spool (--spool-max), on a disk that has the room (--data-dir)' },
    );
  }
}

/** Like writev to the end: the system may take less than it is given. */
export async function writeAll(handle: FileHandle, buffers: readonly Buffer[], at: number): Promise<void> {
  let rest = [...buffers];
  let position = at;
  while (rest.length > 0) {
    let { bytesWritten } = await handle.writev(rest, position);
    position += bytesWritten;
    let whole = 0;
    while (whole < rest.length && bytesWritten >= (rest[whole] as Buffer).length)
      bytesWritten -= (rest[whole++] as Buffer).length;
    rest = rest.slice(whole);
    if (bytesWritten > 0) rest[0] = (rest[0] as Buffer).subarray(bytesWritten);
  }
}

async function* byLength(socket: LinkSocket, length: number): AsyncGenerator<Buffer, void> {
  for (let left = length; left > 0; ) {
    const bytes = await socket.read();
    socket.unread(bytes.subarray(left));
    const ours = bytes.subarray(0, left);
    left -= ours.length;
    yield ours;
  }
}

/**
 * Without the mark. It is looked for at the end of what has arrived only: the source sends nothing behind it before
 * it is acknowledged.
 */
async function* byMark(socket: LinkSocket, mark: Buffer): AsyncGenerator<Buffer, void> {
  let held: Buffer = Buffer.alloc(0);
  for (;;) {
    const bytes = await socket.read();
    const all = bytes.length >= mark.length ? bytes : Buffer.concat([held, bytes]);
    const keep = Math.max(0, all.length - mark.length);
    if (all === bytes && held.length > 0) yield held;
    if (keep > 0) yield all.subarray(0, keep);
    held = Buffer.from(all.subarray(keep));
    if (held.equals(mark)) return;
  }
}
