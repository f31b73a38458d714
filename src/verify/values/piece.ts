/** About what one piece of a large value weighs, on one side. */
export const PIECE_BYTES = 256 * 1024;
const GROWTH_MAX = 4;

/**
 * How many elements to ask for next, so that a piece weighs about PIECE_BYTES. What elements weigh is learned from the
 * pieces before: asking the server would cost it a walk through the value. The first piece is small.
 */
export class PieceSize {
  readonly #min: number;
  readonly #max: number;
  #count: number;

  constructor(first = 64, min = 4, max = 8_192) {
    this.#count = first;
    this.#min = min;
    this.#max = max;
  }

  get count(): number {
    return this.#count;
  }

  /** `elements` that were read together weighed `bytes`. */
  learn(elements: number, bytes: number): void {
    if (elements === 0) return;
    const fitting = Math.floor((PIECE_BYTES * elements) / Math.max(1, bytes));
    const grown = Math.min(fitting, this.#count * GROWTH_MAX, this.#max);
    this.#count = Math.max(this.#min, grown);
  }
}
