// Puts commands into entries. Where an entry is cut depends on the commands in it and the next one alone, so that a
// resume behind any entry cuts the rest alike: an entry ends in front of a command that would make it larger than
// ENTRY_BYTES, in front of another database, and behind a command that is larger by itself.

import { type Crc64, REGION_BYTES } from './crc64.ts';

const ENTRY_BYTES = REGION_BYTES;

/** What stands around the value in a RESTORE. */
export interface Restored {
  /** The key is [keyStart, keyEnd) of it. */
  readonly keyIn: Buffer;
  readonly keyStart: number;
  readonly keyEnd: number;
  /** ms since 1970 as text; undefined without deadline. */
  readonly deadline: string | undefined;
  readonly idle: string | undefined;
  readonly freq: string | undefined;
  readonly type: number;
  readonly version: number;
}

/** With the count of its arguments. */
const SET = Buffer.from('*3\r\n$3\r\nSET\r\n');
const RESTORE = Buffer.from('$7\r\nRESTORE\r\n');
const REPLACE = Buffer.from('$7\r\nREPLACE\r\n');
const ABSTTL = Buffer.from('$6\r\nABSTTL\r\n');
const IDLETIME = Buffer.from('$8\r\nIDLETIME\r\n');
const FREQ = Buffer.from('$4\r\nFREQ\r\n');
const ZERO = Buffer.from('$1\r\n0\r\n');
/** Type in front, version and CRC behind. */
export const PAYLOAD_EXTRA_BYTES = 11;

export class EntryWriter {
  readonly #crc: Crc64;
  readonly #region: Buffer;
  #out: Buffer;
  #at = 0;
  /** Complete since the last cut. */
  keys = 0;

  constructor(crc: Crc64) {
    this.#crc = crc;
    this.#region = crc.region;
    this.#out = crc.region;
  }

  get isEmpty(): boolean {
    return this.#at === 0;
  }

  /** True if `bytes` more would not fit: the entry has to be taken first. */
  isFullFor(bytes: number): boolean {
    return this.#at > 0 && this.#at + bytes > ENTRY_BYTES;
  }

  /** The bytes of the entry; the next one begins empty. */
  take(): Buffer {
    const resp = this.#out === this.#region ? Buffer.from(this.#region.subarray(0, this.#at)) : this.#out;
    this.#out = this.#region;
    this.#at = 0;
    this.keys = 0;
    return resp;
  }

  /** The caller has made sure that it fits. */
  command(args: readonly Buffer[], bytes: number): void {
    this.#reserve(bytes);
    this.#header(42, args.length);
    for (const arg of args) this.#bulk(arg);
  }

  set(restored: Restored, value: Buffer, start: number, end: number, bytes: number): void {
    this.#reserve(bytes);
    const { keyIn, keyStart, keyEnd } = restored;
    this.#raw(SET);
    this.#header(36, keyEnd - keyStart);
    this.#copy(keyIn, keyStart, keyEnd);
    this.#crlf();
    this.#header(36, end - start);
    this.#copy(value, start, end);
    this.#crlf();
  }

  restore(restored: Restored, value: Buffer, start: number, end: number, bytes: number): void {
    this.#reserve(bytes);
    const { keyIn, keyStart, keyEnd, deadline, idle, freq } = restored;
    this.#header(42, restoreArgc(restored));
    this.#raw(RESTORE);
    this.#header(36, keyEnd - keyStart);
    this.#copy(keyIn, keyStart, keyEnd);
    this.#crlf();
    if (deadline === undefined) this.#raw(ZERO);
    else this.#text(deadline);
    this.#payload(restored, value, start, end);
    this.#raw(REPLACE);
    if (deadline !== undefined) this.#raw(ABSTTL);
    if (idle !== undefined) {
      this.#raw(IDLETIME);
      this.#text(idle);
    }
    if (freq !== undefined) {
      this.#raw(FREQ);
      this.#text(freq);
    }
  }

  #payload({ type, version }: Restored, value: Buffer, start: number, end: number): void {
    this.#header(36, end - start + PAYLOAD_EXTRA_BYTES);
    const from = this.#at;
    const out = this.#out;
    out[this.#at++] = type;
    this.#copy(value, start, end);
    out[this.#at++] = version & 255;
    out[this.#at++] = version >> 8;
    if (out === this.#region) this.#crc.sumRegion(from, this.#at);
    else this.#crc.sum(NO_SUM, out, from, this.#at).copy(out, this.#at);
    this.#at += 8;
    this.#crlf();
  }

  #reserve(bytes: number): void {
    if (bytes <= ENTRY_BYTES) return;
    this.#out = Buffer.allocUnsafe(bytes);
    this.#at = 0;
  }

  /** `*3\r\n` or `$3\r\n` */
  #header(mark: number, count: number): void {
    const out = this.#out;
    out[this.#at++] = mark;
    const end = this.#at + digits(count);
    let rest = count;
    for (let at = end - 1; at >= this.#at; at--) {
      out[at] = 48 + (rest % 10);
      rest = Math.floor(rest / 10);
    }
    this.#at = end;
    this.#crlf();
  }

  #bulk(bytes: Buffer): void {
    this.#header(36, bytes.length);
    this.#copy(bytes, 0, bytes.length);
    this.#crlf();
  }

  #text(text: string): void {
    this.#header(36, text.length);
    for (let i = 0; i < text.length; i++) this.#out[this.#at++] = text.charCodeAt(i);
    this.#crlf();
  }

  #raw(bytes: Buffer): void {
    this.#copy(bytes, 0, bytes.length);
  }

  #copy(bytes: Buffer, start: number, end: number): void {
    const out = this.#out;
    let to = this.#at;
    // A native copy costs as much as a loop over some 40 bytes.
    if (end - start > 40) bytes.copy(out, to, start, end);
    else for (let from = start; from < end; ) out[to++] = bytes[from++] as number;
    this.#at += end - start;
  }

  #crlf(): void {
    this.#out[this.#at++] = 13;
    this.#out[this.#at++] = 10;
  }
}

const NO_SUM = Buffer.alloc(8);

function restoreArgc({ deadline, idle, freq }: Restored): number {
  return 5 + (deadline === undefined ? 0 : 1) + (idle === undefined ? 0 : 2) + (freq === undefined ? 0 : 2);
}

export function restoreBytes(restored: Restored, valueBytes: number): number {
  const { keyStart, keyEnd, deadline, idle, freq } = restored;
  let bytes = 4 + RESTORE.length + bulkBytes(keyEnd - keyStart) + REPLACE.length;
  bytes += bulkBytes(valueBytes + PAYLOAD_EXTRA_BYTES);
  bytes += deadline === undefined ? ZERO.length : bulkBytes(deadline.length) + ABSTTL.length;
  if (idle !== undefined) bytes += IDLETIME.length + bulkBytes(idle.length);
  if (freq !== undefined) bytes += FREQ.length + bulkBytes(freq.length);
  return bytes;
}

export function setBytes(keyBytes: number, valueBytes: number): number {
  return SET.length + bulkBytes(keyBytes) + bulkBytes(valueBytes);
}

export function commandBytes(args: readonly Buffer[]): number {
  let bytes = digits(args.length) + 3;
  for (const arg of args) bytes += bulkBytes(arg.length);
  return bytes;
}

/** `$3\r\nabc\r\n` */
function bulkBytes(length: number): number {
  return digits(length) + 5 + length;
}

function digits(n: number): number {
  let count = 1;
  for (let limit = 10; n >= limit; limit *= 10) count++;
  return count;
}
