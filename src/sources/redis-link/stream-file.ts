// A run of the stream on disk: a header of 64 bytes, then the bytes. The header names how many of them are on the disk
// for good, and is written after they are: whoever finds the file after a crash may trust it that far.

import { randomBytes } from 'node:crypto';
import { type FileHandle, open, readdir, rm, stat } from 'node:fs/promises';
import { writeAll } from './snapshot-file.ts';
import type { Spool } from './spool.ts';

const HEADER_BYTES = 64;
const SYNC_BYTES = 8 * 1024 * 1024;
const SYNC_MS = 1_000;
const NAME = /^stream-([0-9a-f]{40})-(\d{1,15})-[0-9a-f]{8}\.log$/;

export class StreamFile {
  readonly name: string;
  /** Offset of its first byte, in bytes of the stream before it. */
  readonly start: number;
  readonly #spool: Spool;
  readonly #handle: FileHandle;
  readonly #writtenAtMs: number;
  #end: number;
  #synced: number;
  #syncedAtMs = Date.now();

  private constructor(
    spool: Spool,
    name: string,
    handle: FileHandle,
    place: { readonly start: number; readonly end: number; readonly atMs: number },
  ) {
    this.#spool = spool;
    this.name = name;
    this.#handle = handle;
    this.start = place.start;
    this.#end = place.end;
    this.#synced = place.end;
    this.#writtenAtMs = place.atMs;
  }

  static async create(spool: Spool, replid: string, start: number): Promise<StreamFile> {
    const name = `stream-${replid}-${start}-${randomBytes(4).toString('hex')}.log`;
    const handle = await open(spool.file(name), 'wx+', 0o600);
    try {
      await writeAll(handle, [header(0)], 0);
    } catch (error) {
      // A full disk is tried again, with another file.
      await handle.close();
      await rm(spool.file(name), { force: true });
      throw error;
    }
    spool.account(HEADER_BYTES);
    return new StreamFile(spool, name, handle, { start, end: start, atMs: Date.now() });
  }

  get end(): number {
    return this.#end;
  }

  /** When its bytes arrived, at the latest. */
  get writtenAtMs(): number {
    return this.#writtenAtMs;
  }

  /** All or nothing counts: what a failed call wrote is written again. */
  async append(buffers: readonly Buffer[], bytes: number): Promise<void> {
    await writeAll(this.#handle, buffers, HEADER_BYTES + this.#end - this.start);
    this.#end += bytes;
    this.#spool.account(bytes);
    if (this.#end - this.#synced >= SYNC_BYTES || Date.now() - this.#syncedAtMs >= SYNC_MS) await this.sync();
  }

  async sync(): Promise<void> {
    const end = this.#end;
    await this.#handle.datasync();
    await writeAll(this.#handle, [header(end - this.start)], 0);
    this.#synced = end;
    this.#syncedAtMs = Date.now();
  }

  async read(offset: number, bytesMax: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafeSlow(Math.min(bytesMax, this.#end - offset));
    const at = HEADER_BYTES + offset - this.start;
    const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, at);
    if (bytesRead === 0) throw new Error(`the spooled stream ${this.name} is shorter than it was`);
    return buffer.subarray(0, bytesRead);
  }

  async close(): Promise<void> {
    await this.#handle.close().catch(() => {});
  }

  async remove(): Promise<void> {
    await this.close();
    await this.#spool.removeFile(this.name, HEADER_BYTES + this.#end - this.start);
  }

  /**
   * The files that hold the stream of `replid` from `offset` on without a hole, in order. Those that lead nowhere are
   * removed.
   */
  static async chain(spool: Spool, replid: string, offset: number): Promise<StreamFile[]> {
    const found = await StreamFile.#all(spool, replid);
    const chain: StreamFile[] = [];
    for (let at = offset; ; ) {
      const next = found
        .filter((file) => file.start <= at && file.end > at)
        .reduce<StreamFile | undefined>(
          (best, file) => (best && best.end >= file.end ? best : file),
          undefined,
        );
      if (next === undefined) break;
      chain.push(next);
      at = next.end;
    }
    await Promise.all(found.filter((file) => !chain.includes(file)).map((file) => file.close()));
    return chain;
  }

  static async #all(spool: Spool, replid: string): Promise<StreamFile[]> {
    const files: StreamFile[] = [];
    for (const name of await readdir(spool.path)) {
      const [, of, start] = NAME.exec(name) ?? [];
      if (of !== replid) continue;
      const file = await StreamFile.#open(spool, name, Number(start));
      if (file !== undefined) files.push(file);
    }
    return files;
  }

  static async #open(spool: Spool, name: string, start: number): Promise<StreamFile | undefined> {
    try {
      const handle = await open(spool.file(name), 'r');
      const head = Buffer.alloc(HEADER_BYTES);
      const { bytesRead } = await handle.read(head, 0, HEADER_BYTES, 0);
      const [, bytes] =
        /^lanegate stream 1 (\d{1,15}) *\n$/.exec(head.toString('latin1', 0, bytesRead)) ?? [];
      const { size, mtimeMs } = await handle.stat();
      const length = Math.min(Number(bytes ?? 0), Math.max(0, size - HEADER_BYTES));
      return new StreamFile(spool, name, handle, { start, end: start + length, atMs: mtimeMs });
    } catch (error) {
      // Its owner has removed it meanwhile.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Removes the files of `spool` that a later process can make no use of: those of no chain. */
  static async removeOthers(spool: Spool, chain: readonly StreamFile[]): Promise<void> {
    const names = new Set(chain.map((file) => file.name));
    for (const name of await readdir(spool.path)) {
      if (!NAME.test(name) || names.has(name)) continue;
      const size = (await stat(spool.file(name)).catch(() => undefined))?.size ?? 0;
      await rm(spool.file(name), { force: true });
      spool.account(-size);
    }
  }
}

function header(bytes: number): Buffer {
  return Buffer.from(`${`lanegate stream 1 ${bytes}`.padEnd(HEADER_BYTES - 1)}\n`, 'latin1');
}
