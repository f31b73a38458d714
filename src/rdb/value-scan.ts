// Finds the end of a value without decoding it, by the shape of its type. When bytes run out it stops and goes on
// from there when there are more: no byte of a header is looked at twice, strings are jumped over.

import type { ByteWindow } from './byte-window.ts';
import { LENGTH, MODULE, type Shape, STRING } from './format.ts';
import { LengthReader } from './length-reader.ts';

interface Frame {
  shape: Shape;
  next: number;
  /** Rounds of the shape still to go, this one included. */
  left: number;
}

const MODULE_FIXED: readonly (number | undefined)[] = [undefined, undefined, undefined, 4, 8];

export class ValueScan {
  /** Bytes from the window's `at` that are known to belong to the value or to stand in front of it. */
  used = 0;
  active = false;
  readonly #frames: Frame[] = [];
  #depth = 0;
  #moduleEnded = false;
  readonly #length = new LengthReader();

  /** Index behind the string at index `at`, below 0 if it has not arrived as a whole: a short cut for strings. */
  wholeString(window: ByteWindow, at: number): number {
    const end = this.#string(window, at);
    return end > window.end ? -1 : end;
  }

  /** Begins a value of this shape, `ahead` bytes behind the window's `at`. */
  start(shape: Shape, ahead: number): void {
    this.used = ahead;
    this.active = true;
    this.#depth = 0;
    this.#push(shape, 1);
  }

  /**
   * True when the end is found and everything up to it has arrived. False: window.need says what is missing.
   * The window's `at` must not move between the calls.
   */
  run(window: ByteWindow): boolean {
    while (this.#depth > 0) {
      const frame = this.#frames[this.#depth - 1] as Frame;
      if (frame.next === frame.shape.length) {
        if (--frame.left > 0) frame.next = 0;
        else this.#depth--;
        continue;
      }
      const part = frame.shape[frame.next] as number | Shape;
      if (typeof part !== 'number') {
        if (!this.#length.readPlain(window, window.at + this.used)) return false;
        const rounds = this.#length.value;
        this.used = this.#length.after - window.at;
        frame.next++;
        if (rounds > 0) this.#push(part, rounds);
      } else if (part > 0) {
        this.used += part;
        frame.next++;
      } else {
        const end = this.#part(window, part, window.at + this.used);
        if (end < 0) return false;
        this.used = end - window.at;
        if (part !== MODULE || this.#moduleEnded) frame.next++;
      }
    }
    if (this.used > window.length) {
      window.need = this.used;
      return false;
    }
    this.active = false;
    return true;
  }

  #push(shape: Shape, left: number): void {
    const frame = this.#frames[this.#depth++];
    if (frame === undefined) {
      this.#frames.push({ shape, next: 0, left });
      return;
    }
    frame.shape = shape;
    frame.next = 0;
    frame.left = left;
  }

  /** Index behind the part at `at`, below 0 if its header has not arrived. */
  #part(window: ByteWindow, part: number, at: number): number {
    if (part === STRING) return this.#string(window, at);
    if (part === LENGTH) return this.#length.readPlain(window, at) ? this.#length.after : -1;
    if (part === MODULE) return this.#module(window, at);
    if (at >= window.end) {
      window.short(at + 1 - window.at);
      return -1;
    }
    const bytes = window.buffer[at] as number;
    return at + 1 + (bytes > 252 ? 0 : bytes);
  }

  #string(window: ByteWindow, at: number): number {
    const length = this.#length;
    if (!length.read(window, at)) return -1;
    if (!length.isSpecial) return length.after + length.value;
    if (length.value < 3) return length.after + (1 << length.value);
    if (length.value > 3) throw window.bad('a string', at - window.at);
    if (!length.readPlain(window, length.after)) return -1;
    const packed = length.value;
    return length.readPlain(window, length.after) ? length.after + packed : -1;
  }

  /** One opcode and its value. */
  #module(window: ByteWindow, at: number): number {
    const length = this.#length;
    if (!length.readPlain(window, at)) return -1;
    const opcode = length.value;
    this.#moduleEnded = opcode === 0;
    if (opcode === 5) return this.#string(window, length.after);
    if (opcode > 5) throw window.bad("a module's opcode", at - window.at);
    if (opcode !== 1 && opcode !== 2) return length.after + (MODULE_FIXED[opcode] ?? 0);
    return length.readPlain(window, length.after) ? length.after : -1;
  }
}
