// The lengths in front of everything in an RDB file: 6, 14, 32 or 64 bits, or the mark of a special string encoding.

import type { ByteWindow } from './byte-window.ts';

export class LengthReader {
  /** The length, or the number of the special encoding. Above 2^53 it is rounded: an id (`exact`), never a count. */
  value = 0;
  isSpecial = false;
  /** Index behind it. */
  after = 0;
  #at = 0;
  #buffer: Buffer = Buffer.alloc(0);

  /** Reads the one at index `at`; false if it has not arrived as a whole. */
  read(window: ByteWindow, at: number): boolean {
    if (at >= window.end) {
      window.short(at + 1 - window.at);
      return false;
    }
    const { buffer } = window;
    const first = buffer[at] as number;
    this.isSpecial = first >= 0xc0;
    if (first < 0x40 || first >= 0xc0) {
      this.after = at + 1;
      this.value = first & 0x3f;
      return true;
    }
    const more = first < 0x80 ? 1 : first === 0x80 ? 4 : first === 0x81 ? 8 : 0;
    if (more === 0) throw window.bad('a length', at - window.at);
    this.after = at + 1 + more;
    if (this.after > window.end) {
      window.short(this.after - window.at);
      return false;
    }
    this.#at = at;
    this.#buffer = buffer;
    if (more === 1) this.value = ((first & 0x3f) << 8) | (buffer[at + 1] as number);
    else this.value = buffer.readUInt32BE(at + 1);
    if (more === 8) this.value = this.value * 2 ** 32 + buffer.readUInt32BE(at + 5);
    return true;
  }

  /** Like `read`, but a special encoding is an error. */
  readPlain(window: ByteWindow, at: number): boolean {
    if (!this.read(window, at)) return false;
    if (this.isSpecial) throw window.bad('a length', at - window.at);
    return true;
  }

  /** The last length to its last bit. */
  get exact(): bigint {
    if (this.value <= Number.MAX_SAFE_INTEGER) return BigInt(this.value);
    return this.#buffer.readBigUInt64BE(this.#at + 1);
  }
}
