// The bytes of a file that have arrived and are not consumed yet, in one buffer.
//
// It promises:
// 1. What lies in front of `end` never changes: views of it stay valid, also when the window moves on.
// 2. Memory is at most twice what has arrived and is not consumed, plus one chunk.

import type { Crc64 } from './crc64.ts';
import { RdbError } from './rdb-error.ts';

export class ByteWindow {
  buffer: Buffer = Buffer.alloc(0);
  /** The next byte to consume and the end of what is there, as indices of `buffer`. */
  at = 0;
  end = 0;
  /** Bytes from `at` without which the last attempt to read could not go on; 0 when none was short. */
  need = 0;
  /** Offset of `buffer[0]` in the file. */
  #base: number;
  /** True if `buffer` is ours and may be written behind `end`. */
  #owned = false;
  readonly #bytes: AsyncIterator<Buffer>;
  readonly #crc: Crc64;
  /** Of the file up to `#summedTo`; undefined where nobody asks. */
  #sum: Buffer | undefined;
  #summedTo = 0;

  constructor(bytes: AsyncIterable<Buffer>, offset: number, crc: Crc64, sum: Buffer | undefined) {
    this.#bytes = bytes[Symbol.asyncIterator]();
    this.#base = offset;
    this.#crc = crc;
    this.#sum = sum;
  }

  /** Offset of `at` in the file. */
  get offset(): number {
    return this.#base + this.at;
  }

  get length(): number {
    return this.end - this.at;
  }

  /** Waits until there are `wanted` bytes. */
  async fill(wanted: number): Promise<void> {
    while (this.length < wanted) {
      const step = await this.#bytes.next();
      if (step.done === true) {
        throw new RdbError(this.#base + this.end, `at least ${wanted - this.length} more bytes`);
      }
      if (step.value.length > 0) this.#append(step.value, wanted);
    }
    this.need = 0;
  }

  /** Remembers what is missing. */
  short(wanted: number): undefined {
    this.need = wanted;
    return undefined;
  }

  bad(expected: string, ahead = 0): RdbError {
    return new RdbError(this.offset + ahead, expected);
  }

  /** CRC64 of the file up to `at`. */
  checksum(): Buffer | undefined {
    if (this.#sum !== undefined && this.#summedTo < this.at) {
      this.#sum = this.#crc.sum(this.#sum, this.buffer, this.#summedTo, this.at);
      this.#summedTo = this.at;
    }
    return this.#sum;
  }

  #append(chunk: Buffer, wanted: number): void {
    const live = this.length;
    if (this.#owned && this.end + chunk.length <= this.buffer.length) {
      chunk.copy(this.buffer, this.end);
      this.end += chunk.length;
      return;
    }
    this.checksum();
    this.#base += this.at;
    this.#summedTo = 0;
    this.at = 0;
    const size = live + chunk.length;
    if (live === 0) {
      this.buffer = chunk;
      this.#owned = false;
    } else {
      const room = live > chunk.length ? 2 * size : Math.max(size, Math.min(wanted, 2 * size));
      const larger = Buffer.allocUnsafe(room);
      this.buffer.copy(larger, 0, this.end - live, this.end);
      chunk.copy(larger, live);
      this.buffer = larger;
      this.#owned = true;
    }
    this.end = size;
  }
}
