import { read as readCallback } from 'node:fs';
import { promisify } from 'node:util';
import { StopError } from '../../runtime/errors.ts';

const read = promisify(readCallback);

export const BLOCK_BYTES = 1024 * 1024;
/** Room in front of what is read, for what was left of the block before it: seldom is more left. */
const CARRY_BYTES = 64 * 1024;

export interface FileRange {
  readonly path: string;
  readonly fd: number;
  readonly from: number;
  /** Behind the last byte. */
  readonly to: number;
}

/**
 * Reads a file in large pieces, one piece ahead. Every block has memory of its own: what was made of one stays as it is
 * while the next ones are read. Holds two blocks, and twice what `carry` weighs.
 */
export class BlockReader {
  readonly #range: FileRange;
  readonly #blockBytes: number;
  #at: number;
  #ahead: Promise<Buffer> | undefined;

  constructor(range: FileRange, blockBytes = BLOCK_BYTES) {
    this.#range = range;
    this.#blockBytes = blockBytes;
    this.#at = range.from;
  }

  /** `carry` and the bytes behind it; undefined at the end. A large carry doubles with each call. */
  async next(carry: Buffer): Promise<Buffer | undefined> {
    let fresh = await (this.#ahead ?? this.#read(this.#blockBytes));
    this.#ahead = undefined;
    if (fresh.length === CARRY_BYTES) return undefined;
    const missing = carry.length - (fresh.length - CARRY_BYTES);
    if (missing > 0) {
      const more = await this.#read(missing);
      fresh = Buffer.concat([fresh, more.subarray(CARRY_BYTES)]);
    }
    if (this.#at < this.#range.to) {
      this.#ahead = this.#read(this.#blockBytes);
      // Awaited only when the consumer comes back, perhaps never.
      this.#ahead.catch(() => {});
    }
    if (carry.length > CARRY_BYTES) return Buffer.concat([carry, fresh.subarray(CARRY_BYTES)]);
    carry.copy(fresh, CARRY_BYTES - carry.length);
    return fresh.subarray(CARRY_BYTES - carry.length);
  }

  /** Memory must not be given to others while the system still writes to it. */
  async close(): Promise<void> {
    await this.#ahead?.catch(() => {});
  }

  /** At most `bytes`, behind CARRY_BYTES of room. */
  async #read(bytes: number): Promise<Buffer> {
    const { fd, path, to } = this.#range;
    const wanted = Math.min(bytes, to - this.#at);
    const buffer = Buffer.allocUnsafeSlow(CARRY_BYTES + wanted);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await read(fd, buffer, CARRY_BYTES + filled, wanted - filled, this.#at);
      if (bytesRead === 0) throw shorter(path, this.#at, to);
      filled += bytesRead;
      this.#at += bytesRead;
    }
    return buffer;
  }
}

/** The bytes of a range, for readers that keep what they need themselves. */
export async function* blocksOf(range: FileRange): AsyncGenerator<Buffer> {
  const reader = new BlockReader(range);
  const nothing = Buffer.alloc(0);
  try {
    for (;;) {
      const block = await reader.next(nothing);
      if (block === undefined) return;
      yield block;
    }
  } finally {
    await reader.close();
  }
}

function shorter(path: string, at: number, bytes: number): StopError {
  return new StopError(
    'SOURCE_REWOUND',
    `${path} had ${bytes} bytes when it was opened and ends at ${at} now`,
    {
      hint: 'a server that starts cuts a torn tail off its AOF: start lanegate again to read what is there now',
      facts: { offset: at },
    },
  );
}
