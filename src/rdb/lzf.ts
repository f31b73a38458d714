// LZF (Marc Lehmann's liblzf) as RDB strings use it: literal runs of up to 32 bytes and references of up to 264 bytes
// into the last 8 KiB.

/** What one byte of input can become at most: a reference of 3 bytes stands for 264. */
const EXPANSION_MAX = 88;
const HISTORY_BYTES = 8192;
/** The longest control with what belongs to it, and what it can become. */
const CONTROL_BYTES_MAX = 33;
const OUTPUT_BYTES_MAX = 264;

/** False if no input of this many bytes can become that many: a claim for which no memory must be taken. */
export function isPlausible(packedBytes: number, bytes: number): boolean {
  return bytes <= packedBytes * EXPANSION_MAX;
}

/** Undefined if the input is none, or becomes anything but `bytes` bytes. */
export function unpack(packed: Buffer, bytes: number): Buffer | undefined {
  if (!isPlausible(packed.length, bytes)) return undefined;
  const out = Buffer.allocUnsafe(bytes);
  const lzf = new Lzf(out);
  if (lzf.run(packed, true) !== packed.length || lzf.at !== bytes) return undefined;
  return out;
}

/** Unpacks into `out`, from `at` on. */
class Lzf {
  readonly out: Buffer;
  at = 0;

  constructor(out: Buffer) {
    this.out = out;
  }

  /** Bytes of `packed` that were used, up to the last whole control that fits; below 0 if it is no LZF. */
  run(packed: Buffer, last: boolean): number {
    const { out } = this;
    let at = this.at;
    let from = 0;
    const limit = last ? packed.length : packed.length - CONTROL_BYTES_MAX;
    const room = last ? out.length : out.length - OUTPUT_BYTES_MAX;
    while (from < limit && (last || at <= room)) {
      const control = packed[from++] as number;
      if (control < 32) {
        const length = control + 1;
        if (from + length > packed.length || at + length > out.length) return -1;
        for (let i = 0; i < length; i++) out[at++] = packed[from++] as number;
        continue;
      }
      let length = (control >> 5) + 2;
      if (length === 9) length += packed[from++] ?? 0;
      if (from >= packed.length) return -1;
      let source = at - ((control & 31) << 8) - (packed[from++] as number) - 1;
      if (source < 0 || at + length > out.length) return -1;
      for (let i = 0; i < length; i++) out[at++] = out[source++] as number;
    }
    this.at = at;
    return from;
  }
}

/** Unpacks a long string piece by piece; holds 8 KiB of history and one piece. */
export class LzfStream {
  readonly #lzf: Lzf;
  #start = 0;

  constructor(pieceBytes: number) {
    this.#lzf = new Lzf(Buffer.allocUnsafe(HISTORY_BYTES + pieceBytes + OUTPUT_BYTES_MAX));
  }

  /** Bytes of `packed` that were used; below 0 if it is no LZF. 0 may mean that `take` is needed first. */
  push(packed: Buffer, last: boolean): number {
    const room = this.#lzf.out.length - this.#lzf.at;
    // With the last input everything has to fit, which only `take` in front of it makes sure for short ones.
    return this.#lzf.run(packed, last && packed.length * EXPANSION_MAX <= room);
  }

  get length(): number {
    return this.#lzf.at - this.#start;
  }

  /** A copy of the next bytes, at most `max`. */
  take(max: number): Buffer {
    const lzf = this.#lzf;
    const end = Math.min(lzf.at, this.#start + max);
    const piece = Buffer.from(lzf.out.subarray(this.#start, end));
    this.#start = end;
    const drop = end - HISTORY_BYTES;
    if (drop > 0) {
      lzf.out.copyWithin(0, drop, lzf.at);
      lzf.at -= drop;
      this.#start -= drop;
    }
    return piece;
  }
}
