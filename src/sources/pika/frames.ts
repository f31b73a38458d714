// Cuts the stream of a connection into frames: four bytes of length, the highest first, and so many bytes of message.
// A frame that lies within one chunk is a view of it; any other is put together in a buffer of its own, which grows with
// what has arrived: a length that is only claimed takes no memory.

export const FRAME_BYTES_MAX = 512 * 1024 * 1024;
const LENGTH_BYTES = 4;
/** Reserved for a frame at once; above it never more than twice what is there. */
const RESERVED_BYTES = 1024 * 1024;

export class FrameReader {
  /** Bytes of a length that a chunk cut. */
  readonly #length = Buffer.alloc(LENGTH_BYTES);
  #lengthBytes = 0;
  /** The frame that is being put together. */
  #frame: Buffer | undefined;
  #frameBytes = 0;
  #filled = 0;

  /** Bytes that are reserved for a frame whose rest is still to come. */
  get heldBytes(): number {
    return this.#frame?.length ?? 0;
  }

  /** The frames that end within `chunk`. @throws Error when a length cannot be one */
  *push(chunk: Buffer): Generator<Buffer, void> {
    let at = 0;
    while (at < chunk.length) {
      if (this.#frame !== undefined) {
        if (this.#filled === this.#frame.length) this.#frame = this.#grown(this.#frame);
        const copied = chunk.copy(this.#frame, this.#filled, at);
        this.#filled += copied;
        at += copied;
        if (this.#filled < this.#frameBytes) continue;
        const frame = this.#frame;
        this.#frame = undefined;
        yield frame;
        continue;
      }
      const copied = chunk.copy(this.#length, this.#lengthBytes, at, at + LENGTH_BYTES - this.#lengthBytes);
      this.#lengthBytes += copied;
      at += copied;
      if (this.#lengthBytes < LENGTH_BYTES) return;
      this.#lengthBytes = 0;
      const length = this.#length.readUInt32BE(0);
      if (length > FRAME_BYTES_MAX)
        throw new Error(`a frame of ${length} bytes: this is not Pika's replication port`);
      if (at + length <= chunk.length) {
        yield chunk.subarray(at, at + length);
        at += length;
      } else {
        this.#frame = Buffer.allocUnsafe(Math.min(length, RESERVED_BYTES));
        this.#frameBytes = length;
        this.#filled = 0;
      }
    }
  }

  #grown(frame: Buffer): Buffer {
    const grown = Buffer.allocUnsafeSlow(Math.min(this.#frameBytes, 2 * frame.length));
    frame.copy(grown);
    return grown;
  }
}

export function frameOf(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(LENGTH_BYTES + message.length);
  frame.writeUInt32BE(message.length, 0);
  frame.set(message, LENGTH_BYTES);
  return frame;
}
