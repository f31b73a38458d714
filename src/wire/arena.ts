const ARENA_BYTES_MAX = 8 * 1024 * 1024;

/**
 * Memory for the values of a reply, taken again for the next one: allocating it anew for each reply of a busy log costs
 * more in garbage collection than reading it. A value is good until the next reply into the same arena begins.
 */
export class Arena {
  #bytes = Buffer.alloc(0);
  #used = 0;
  #wanted = 0;

  /** Another reply begins. */
  reset(): void {
    if (this.#wanted > this.#bytes.length && this.#bytes.length < ARENA_BYTES_MAX) {
      const grown = Math.min(ARENA_BYTES_MAX, this.#wanted + (this.#wanted >> 2));
      this.#bytes = Buffer.allocUnsafeSlow(grown);
    }
    this.#used = 0;
    this.#wanted = 0;
  }

  take(length: number): Buffer {
    this.#wanted += length;
    const end = this.#used + length;
    if (end > this.#bytes.length) return Buffer.allocUnsafe(length);
    const taken = this.#bytes.subarray(this.#used, end);
    this.#used = end;
    return taken;
  }
}

/** Two arenas in turn: the values of a reply are good until the next but one begins. */
export class ArenaPair {
  readonly #arenas = [new Arena(), new Arena()] as const;
  #turn = 0;

  next(): Arena {
    this.#turn ^= 1;
    return this.#arenas[this.#turn as 0 | 1];
  }
}
