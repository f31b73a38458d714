// Reads the parts of a value from the window and consumes them. Every method returns undefined when the part has
// not arrived as a whole (the window knows what is missing) and then has consumed nothing.

import type { ByteWindow } from './byte-window.ts';
import { LengthReader } from './length-reader.ts';
import { isPlausible, unpack } from './lzf.ts';

const LZF = 3;
const SPECIAL_FLOATS = ['nan', 'inf', '-inf'] as const;

/** A string that the target takes in no command. */
export class OversizedError extends Error {
  override readonly name = 'OversizedError';
  readonly bytes: number;

  constructor(bytes: number) {
    super(`a string of ${bytes} bytes`);
    this.bytes = bytes;
  }
}

/** What stands in front of a string's bytes. */
export interface StringHead {
  /** Of the string. */
  readonly bytes: number;
  /** Of its LZF form, where that is what follows. */
  readonly lzfBytes: number | undefined;
  /** The string itself where it was an integer; then nothing follows. */
  readonly text: Buffer | undefined;
}

export class ValueReader {
  readonly window: ByteWindow;
  /** Index behind the string that `stringAt` has read. */
  after = 0;
  readonly #bytesMax: number;
  readonly #length = new LengthReader();

  /** @param bytesMax of one string; larger ones throw OversizedError before memory is taken for them */
  constructor(window: ByteWindow, bytesMax: number) {
    this.window = window;
    this.#bytesMax = bytesMax;
  }

  length(): number | undefined {
    const { window } = this;
    if (!this.#length.readPlain(window, window.at)) return undefined;
    window.at = this.#length.after;
    return this.#length.value;
  }

  /** All 64 bits. */
  wide(): bigint | undefined {
    if (this.length() === undefined) return undefined;
    return this.#length.exact;
  }

  bytes(count: number): Buffer | undefined {
    const { window } = this;
    if (window.length < count) return window.short(count);
    window.at += count;
    return window.buffer.subarray(window.at - count, window.at);
  }

  string(): Buffer | undefined {
    const string = this.stringAt(this.window.at);
    if (string !== undefined) this.window.at = this.after;
    return string;
  }

  /** For strings that are too long to be held; what follows is to be read by `bytes`. */
  stringHead(): StringHead | undefined {
    const { window } = this;
    const length = this.#length;
    if (!length.read(window, window.at)) return undefined;
    const { value, after } = length;
    if (!length.isSpecial) {
      window.at = after;
      return { bytes: value, lzfBytes: undefined, text: undefined };
    }
    if (value !== LZF) {
      const text = this.string();
      return text === undefined ? undefined : { bytes: text.length, lzfBytes: undefined, text };
    }
    if (!length.readPlain(window, after)) return undefined;
    const lzfBytes = length.value;
    if (!length.readPlain(window, length.after)) return undefined;
    if (!isPlausible(lzfBytes, length.value)) throw window.bad('an LZF string');
    window.at = length.after;
    return { bytes: length.value, lzfBytes, text: undefined };
  }

  /** Milliseconds as text. */
  time(): string | undefined {
    return this.bytes(8)?.readBigInt64LE().toString();
  }

  /** A score as text. */
  double(): Buffer | undefined {
    const bytes = this.bytes(8);
    return bytes === undefined ? undefined : Buffer.from(scoreText(bytes.readDoubleLE()), 'latin1');
  }

  floatText(): Buffer | undefined {
    const { window } = this;
    if (window.length < 1) return window.short(1);
    const length = window.buffer[window.at] as number;
    const special = SPECIAL_FLOATS[length - 253];
    if (special !== undefined) {
      window.at += 1;
      return Buffer.from(special);
    }
    return this.bytes(1 + length)?.subarray(1);
  }

  /** Like `stringAt` for one that stands there as it is: where it begins; it ends at `after`. Below 0: ask `stringAt`. */
  plainAt(at: number): number {
    const { window } = this;
    const length = this.#length;
    if (!length.read(window, at) || length.isSpecial) return -1;
    this.after = length.after + length.value;
    return this.after > window.end ? -1 : length.after;
  }

  /** Reads the string at index `at` without consuming it; a view where it stands there as it is. */
  stringAt(at: number): Buffer | undefined {
    const { window } = this;
    const length = this.#length;
    if (!length.read(window, at)) return undefined;
    const { value, after } = length;
    if (length.isSpecial) return value === LZF ? this.#unpacked(after) : this.#integer(value, after);
    if (value > this.#bytesMax) throw new OversizedError(value);
    this.after = after + value;
    if (this.after > window.end) return window.short(this.after - window.at);
    return window.buffer.subarray(after, this.after);
  }

  #integer(encoding: number, at: number): Buffer | undefined {
    const { window } = this;
    if (encoding > LZF) throw window.bad('a string', at - window.at);
    const bytes = 1 << encoding;
    this.after = at + bytes;
    if (this.after > window.end) return window.short(this.after - window.at);
    return Buffer.from(String(window.buffer.readIntLE(at, bytes)), 'latin1');
  }

  #unpacked(at: number): Buffer | undefined {
    const { window } = this;
    const length = this.#length;
    if (!length.readPlain(window, at)) return undefined;
    const packed = length.value;
    if (!length.readPlain(window, length.after)) return undefined;
    const { value, after } = length;
    if (!isPlausible(packed, value)) throw window.bad('an LZF string', at - window.at);
    if (value > this.#bytesMax) throw new OversizedError(value);
    this.after = after + packed;
    if (this.after > window.end) return window.short(this.after - window.at);
    const string = unpack(window.buffer.subarray(after, this.after), value);
    if (string === undefined) throw window.bad('an LZF string', at - window.at);
    return string;
  }
}

/** As strtod reads it back to the same double. */
function scoreText(score: number): string {
  if (score === Number.POSITIVE_INFINITY) return 'inf';
  if (score === Number.NEGATIVE_INFINITY) return '-inf';
  return Object.is(score, -0) ? '-0' : String(score);
}
