const FRESH_BYTES = 16 * 1024;
/** A buffer that was once huge is not kept. */
const KEPT_BYTES_MAX = 4 * 1024 * 1024;
const KEPT_MAX = 64;

/**
 * Memory of batches that are durable in the journal, for those that come: allocating it anew for each round costs more
 * in garbage collection than everything else that the sequencer does.
 */
export class BufferPool {
  readonly #free: Buffer[] = [];

  /** Its content is whatever it was. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(FRESH_BYTES);
  }

  /** `used` is a part of what `take` gave, or of what replaced it when it was too small; nobody may look at it again. */
  giveBack(used: Buffer): void {
    const { buffer } = used;
    if (
      this.#free.length >= KEPT_MAX ||
      buffer.byteLength < FRESH_BYTES ||
      buffer.byteLength > KEPT_BYTES_MAX
    )
      return;
    this.#free.push(Buffer.from(buffer as ArrayBuffer));
  }
}
