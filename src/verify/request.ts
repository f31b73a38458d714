// Many commands of the same few shapes, encoded into one buffer: what is not the key is encoded once, when this file is
// loaded. Per command it costs copying some forty bytes, and no allocation.

const CHUNK_BYTES_MIN = 16 * 1024;
const CR = 13;
const LF = 10;
const DOLLAR = 36;
const ZERO = 48;
/** Copying byte by byte is faster than a call for what is shorter. */
const LOOP_BYTES_MAX = 48;
/** `$4294967295\r\n` and the `\r\n` behind the key. */
const FRAME_BYTES_MAX = 15;

/** A command with a key in it: what stands before the key, and what stands behind it. */
export interface KeyedCommand {
  readonly head: Buffer;
  readonly tail: Buffer;
}

/** `before` and `after` are the arguments around the key. */
export function keyedCommand(before: readonly string[], after: readonly string[] = []): KeyedCommand {
  const bulk = (word: string) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`;
  return {
    head: Buffer.from(`*${before.length + 1 + after.length}\r\n${before.map(bulk).join('')}`),
    tail: Buffer.from(after.map(bulk).join('')),
  };
}

export class Request {
  #buffer = Buffer.allocUnsafe(CHUNK_BYTES_MIN);
  #length = 0;
  #commands = 0;

  get commands(): number {
    return this.#commands;
  }

  /** A view: the request must not be added to while it is under way. */
  get bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }

  add({ head, tail }: KeyedCommand, key: Buffer): void {
    this.#reserve(head.length + key.length + tail.length + FRAME_BYTES_MAX);
    this.#copy(head);
    this.#bulk(key);
    if (tail.length > 0) this.#copy(tail);
    this.#commands++;
  }

  /** One command with many keys, such as EXISTS. */
  addMany(name: string, keys: readonly Buffer[]): void {
    const head = Buffer.from(`*${keys.length + 1}\r\n$${name.length}\r\n${name}\r\n`);
    this.#reserve(head.length);
    this.#copy(head);
    for (const key of keys) {
      this.#reserve(key.length + FRAME_BYTES_MAX);
      this.#bulk(key);
    }
    this.#commands++;
  }

  #bulk(bytes: Buffer): void {
    const buffer = this.#buffer;
    buffer[this.#length++] = DOLLAR;
    this.#digits(bytes.length);
    buffer[this.#length++] = CR;
    buffer[this.#length++] = LF;
    this.#copy(bytes);
    buffer[this.#length++] = CR;
    buffer[this.#length++] = LF;
  }

  #digits(value: number): void {
    let scale = 1;
    while (scale * 10 <= value) scale *= 10;
    for (let left = value; scale >= 1; scale = Math.floor(scale / 10)) {
      const digit = Math.floor(left / scale);
      this.#buffer[this.#length++] = ZERO + digit;
      left -= digit * scale;
    }
  }

  #copy(bytes: Buffer): void {
    const { length } = bytes;
    if (length > LOOP_BYTES_MAX) {
      bytes.copy(this.#buffer, this.#length);
      this.#length += length;
      return;
    }
    const buffer = this.#buffer;
    let at = this.#length;
    for (let i = 0; i < length; i++) buffer[at++] = bytes[i] as number;
    this.#length = at;
  }

  #reserve(bytes: number): void {
    const wanted = this.#length + bytes;
    if (wanted <= this.#buffer.length) return;
    const grown = Buffer.allocUnsafe(Math.max(wanted, this.#buffer.length * 2));
    this.#buffer.copy(grown, 0, 0, this.#length);
    this.#buffer = grown;
  }
}
