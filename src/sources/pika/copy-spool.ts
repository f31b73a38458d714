// The log of a copy, on disk before anything of it is numbered: a copy that is made again comes out differently.
//
//   <spool>/000001.copy   header frame, then record frames
//           000002.copy   the same, behind it
//   frame: length of what it says u32, length of its commands u32, CRC-32 of both u32, what it says (JSON), commands (RESP)
//
// An offset counts the bytes of records since the copy began. A header says where its file begins, which parts of the
// files before it count, and the state of the copy there: so the newest whole header decides alone, and files that are
// read and acknowledged can go.
//
// Who goes on with a log makes a file of its own: first it claims the next number (created exclusively), then it looks
// where the log ends, then it writes its header. Who writes looks for a file with a higher number after each write to
// the disk, and yields what it wrote only if there is none. So what was yielded is in every log that is gone on with, and
// what a process writes that was thought dead is in none.

import { type FileHandle, open, readdir } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { AbortedError } from '../../runtime/errors.ts';
import { writeAll } from '../redis-link/snapshot-file.ts';
import type { Spool } from '../redis-link/spool.ts';
import { type CopyDelta, CopyState } from './copy-state.ts';

const FRAME_BYTES = 12;
const SEGMENT_BYTES_MAX = 64 * 1024 * 1024;
/** Files that a spool holds at least, for only whole ones can go. */
const SEGMENTS_MIN = 8;
const NAME = /^(\d{6})\.copy$/;

/** What a record says of its commands. */
export interface RecordFacts {
  /** Number of the database at the target. */
  readonly db: number;
  readonly timeMs: number;
  readonly keys: number;
  readonly malformed?: string | undefined;
  readonly refused?:
    | { readonly code: string; readonly command: string; readonly key: string | null }
    | undefined;
}

export interface CopyRecord extends RecordFacts {
  readonly resp: Buffer;
  readonly deltas: readonly CopyDelta[];
}

export interface StoredRecord extends RecordFacts {
  readonly resp: Buffer;
  readonly start: number;
  readonly end: number;
  /** The copy is over, and the state says where the log goes on. */
  readonly last: boolean;
}

interface Part {
  readonly number: number;
  readonly start: number;
  readonly end: number;
  /** In its file. */
  readonly headerBytes: number;
}

interface Header {
  readonly start: number;
  readonly parts: readonly Part[];
}

interface Facts extends RecordFacts {
  readonly deltas: readonly CopyDelta[];
}

export class CopySpool {
  readonly state = new CopyState();
  readonly #spool: Spool;
  #parts: Part[] = [];
  #handle: FileHandle | undefined;
  #number = 0;
  #start = 0;
  #headerBytes = 0;
  #end = 0;
  /** Behind the last record with commands: nothing is acknowledged beyond it. */
  #tellsTo = 0;
  #isFull = false;
  #isStopped = false;

  private constructor(spool: Spool) {
    this.#spool = spool;
  }

  static async open(spool: Spool): Promise<CopySpool> {
    const copy = new CopySpool(spool);
    const number = ((await numbersIn(spool)).at(-1) ?? 0) + 1;
    const handle = await open(spool.file(nameOf(number)), 'wx+', 0o600);
    try {
      await copy.#recall(number);
      await copy.#begin(number, handle);
      return copy;
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  get id(): string {
    return this.#spool.id;
  }

  get end(): number {
    return this.#end;
  }

  get bytes(): number {
    return this.#spool.bytes;
  }

  /** It waits until something is acknowledged, and goes. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** What waits for room throws. */
  stop(): void {
    this.#isStopped = true;
    this.#spool.freed.ring();
  }

  has(offset: number): boolean {
    const first = this.#parts[0]?.start ?? this.#start;
    return offset >= first && offset <= this.#end;
  }

  /** Records that are on the disk, from `offset` on, up to where the log ended when it was opened. */
  async *read(offset: number): AsyncGenerator<StoredRecord, void> {
    let at = offset;
    for (const part of this.#parts.slice()) {
      if (part.end <= at) continue;
      for await (const { record, end } of recordsOf(this.#spool, part, at)) {
        yield { ...record, start: at, end, last: record.deltas.some(({ kind }) => kind === 'end') };
        at = end;
      }
      if (at !== part.end) throw new Error(`${this.#spool.file(nameOf(part.number))} is damaged`);
    }
  }

  /** Durable when it returns. The state is the caller's to change before: a new file begins with it. */
  async append(records: readonly CopyRecord[]): Promise<readonly StoredRecord[]> {
    if (this.#handle === undefined) throw new Error('the log of the copy is closed');
    const buffers: Buffer[] = [];
    const stored: StoredRecord[] = [];
    let at = this.#end;
    let tellsTo = this.#tellsTo;
    for (const { resp, ...facts } of records) {
      const frame = frameOf(facts, resp);
      buffers.push(...frame);
      const end = at + bytesOf(frame);
      if (tells({ resp, ...facts })) tellsTo = end;
      stored.push({ ...facts, resp, start: at, end, last: facts.deltas.some(({ kind }) => kind === 'end') });
      at = end;
    }
    await this.#waitForRoom(at - this.#end);
    await writeAll(this.#handle, buffers, this.#headerBytes + this.#end - this.#start);
    await this.#handle.datasync();
    this.#spool.account(at - this.#end);
    [this.#end, this.#tellsTo] = [at, tellsTo];
    await this.#checkOwn();
    if (this.#end - this.#start >= this.#segmentBytes) await this.#rotate();
    return stored;
  }

  /** Nothing in front of `offset` is needed any more. */
  async release(offset: number): Promise<void> {
    while ((this.#parts[0]?.end ?? Number.POSITIVE_INFINITY) <= offset) {
      const part = this.#parts.shift() as Part;
      await this.#spool.removeFile(nameOf(part.number), part.headerBytes + part.end - part.start);
    }
  }

  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    await handle?.close();
  }

  async #recall(own: number): Promise<void> {
    const numbers = (await numbersIn(this.#spool)).filter((number) => number < own).reverse();
    for (const number of numbers) {
      const found = await headerOf(this.#spool, number);
      if (found === undefined) continue;
      const { header, headerBytes, deltas } = found;
      for (const delta of deltas) this.state.apply(delta);
      let end = header.start;
      const whole = { number, start: header.start, end: Number.POSITIVE_INFINITY, headerBytes };
      for await (const { record, end: behind } of recordsOf(this.#spool, whole, header.start)) {
        for (const delta of record.deltas) this.state.apply(delta);
        end = behind;
        if (tells(record)) this.#tellsTo = end;
      }
      const present = header.parts.filter((part) => numbers.includes(part.number));
      this.#parts = [...present, { number, start: header.start, end, headerBytes }];
      this.#end = end;
      return;
    }
  }

  async #begin(number: number, handle: FileHandle): Promise<void> {
    const header: Header = { start: this.#end, parts: this.#parts };
    const frame = frameOf({ ...header, deltas: [...this.state.deltas()] }, Buffer.alloc(0));
    await writeAll(handle, frame, 0);
    await handle.sync();
    await syncDirectory(this.#spool.path);
    this.#handle = handle;
    this.#number = number;
    this.#start = this.#end;
    this.#headerBytes = bytesOf(frame);
    this.#spool.account(this.#headerBytes);
    await this.#checkOwn();
  }

  async #rotate(): Promise<void> {
    const before = this.#handle as FileHandle;
    const number = this.#number + 1;
    const handle = await open(this.#spool.file(nameOf(number)), 'wx+', 0o600);
    const part = { number: this.#number, start: this.#start, end: this.#end, headerBytes: this.#headerBytes };
    this.#parts.push(part);
    await this.#begin(number, handle);
    await before.close();
  }

  /** As long as something will go: only whole files can, and one whose last records say nothing only behind others that do. */
  async #waitForRoom(bytes: number): Promise<void> {
    try {
      while (!this.#isStopped && this.#isOwed && !this.#spool.hasRoom(bytes)) {
        this.#isFull = true;
        await this.#spool.freed.wait();
      }
    } finally {
      this.#isFull = false;
    }
    if (this.#isStopped) throw new AbortedError();
  }

  /** The oldest file can still be acknowledged. */
  get #isOwed(): boolean {
    const [oldest] = this.#parts;
    return oldest !== undefined && oldest.end <= this.#tellsTo;
  }

  get #segmentBytes(): number {
    return Math.min(SEGMENT_BYTES_MAX, this.#spool.bytesMax / SEGMENTS_MIN);
  }

  async #checkOwn(): Promise<void> {
    const newest = (await numbersIn(this.#spool)).at(-1);
    if (newest !== this.#number) throw new Error('another process goes on with this copy');
  }
}

/** It becomes an entry, whose position the low-water mark can reach. */
export function tells({ resp, malformed }: Pick<CopyRecord, 'resp' | 'malformed'>): boolean {
  return resp.length > 0 || malformed !== undefined;
}

async function numbersIn(spool: Spool): Promise<number[]> {
  const names = await readdir(spool.path);
  return names
    .flatMap((name) => NAME.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
}

function nameOf(number: number): string {
  return `${String(number).padStart(6, '0')}.copy`;
}

function frameOf(facts: object, resp: Buffer): Buffer[] {
  const said = Buffer.from(JSON.stringify(facts));
  const head = Buffer.alloc(FRAME_BYTES);
  head.writeUInt32LE(said.length, 0);
  head.writeUInt32LE(resp.length, 4);
  head.writeUInt32LE(crc32(resp, crc32(said)), 8);
  return [head, said, resp];
}

function bytesOf(buffers: readonly Buffer[]): number {
  return buffers.reduce((sum, { length }) => sum + length, 0);
}

async function headerOf(
  spool: Spool,
  number: number,
): Promise<{ header: Header; headerBytes: number; deltas: readonly CopyDelta[] } | undefined> {
  const handle = await open(spool.file(nameOf(number)), 'r');
  try {
    const frame = await readFrame(handle, 0);
    if (frame === undefined) return undefined;
    const { deltas, ...header } = frame.said as Header & { deltas: readonly CopyDelta[] };
    return { header, headerBytes: frame.bytes, deltas };
  } finally {
    await handle.close();
  }
}

/** Whole records of a file from `offset` on; what is torn ends them. */
async function* recordsOf(
  spool: Spool,
  { number, start, end, headerBytes }: Part,
  offset: number,
): AsyncGenerator<{ record: Facts & { resp: Buffer }; end: number }, void> {
  const handle = await open(spool.file(nameOf(number)), 'r');
  try {
    for (let at = Math.max(offset, start); at < end; ) {
      const frame = await readFrame(handle, headerBytes + at - start);
      if (frame === undefined) return;
      at += frame.bytes;
      yield { record: { ...(frame.said as Facts), resp: frame.resp }, end: at };
    }
  } finally {
    await handle.close();
  }
}

async function readFrame(
  handle: FileHandle,
  at: number,
): Promise<{ said: unknown; resp: Buffer; bytes: number } | undefined> {
  const head = await readWhole(handle, at, FRAME_BYTES);
  if (head === undefined) return undefined;
  const [saidBytes, respBytes] = [head.readUInt32LE(0), head.readUInt32LE(4)];
  const { size } = await handle.stat();
  if (saidBytes === 0 || at + FRAME_BYTES + saidBytes + respBytes > size) return undefined;
  const body = await readWhole(handle, at + FRAME_BYTES, saidBytes + respBytes);
  if (body === undefined || crc32(body) !== head.readUInt32LE(8)) return undefined;
  const said = JSON.parse(body.toString('utf8', 0, saidBytes));
  return { said, resp: body.subarray(saidBytes), bytes: FRAME_BYTES + body.length };
}

async function readWhole(handle: FileHandle, at: number, length: number): Promise<Buffer | undefined> {
  const buffer = Buffer.allocUnsafeSlow(length);
  for (let have = 0; have < length; ) {
    const { bytesRead } = await handle.read(buffer, have, length - have, at + have);
    if (bytesRead === 0) return undefined;
    have += bytesRead;
  }
  return buffer;
}

async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
