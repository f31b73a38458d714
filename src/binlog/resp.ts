// The one place where RESP commands are read and written. The scanner runs over every command of the
// log, so it allocates nothing per command: it leaves offsets into the caller's buffer, valid until the
// next call of `next` or `reset`.
//
// It promises:
// 1. `next` returns true with one whole command in [start, end), or false at the end of the buffer.
// 2. Anything else throws RespError, and then `start` is where the bad command begins. It never reads
//    behind the buffer and never reserves memory for a length that the buffer cannot hold.

const CR = 13;
const LF = 10;
const ZERO = 48;
const ASTERISK = 42;
const DOLLAR = 36;

export const ARGC_MAX = 1_048_576;
export const BULK_BYTES_MAX = 512 * 1024 * 1024;
/** `$0\r\n\r\n`: what each announced argument needs at the least. */
const BULK_BYTES_MIN = 6;
const INITIAL_ARGS = 64;

export class RespError extends Error {
  override readonly name = 'RespError';
  /** Byte in the scanned buffer at which it stopped making sense. */
  readonly offset: number;
  readonly expected: string;

  constructor(offset: number, expected: string) {
    super(`not a RESP command: expected ${expected} at byte ${offset}`);
    this.offset = offset;
    this.expected = expected;
  }
}

export class RespScanner {
  buffer: Buffer = Buffer.alloc(0);
  /** The current command is [start, end) of the buffer. */
  start = 0;
  end = 0;
  argc = 0;
  argStart = new Int32Array(INITIAL_ARGS);
  argEnd = new Int32Array(INITIAL_ARGS);
  /** Behind the argument at which the buffer ended too early; 0 when that was not in the midst of one. */
  wanted = 0;

  reset(buffer: Buffer, from = 0): void {
    this.buffer = buffer;
    this.start = from;
    this.end = from;
    this.argc = 0;
  }

  /** Moves to the next command. False at a clean end; throws RespError on anything malformed. */
  next(): boolean {
    const buffer = this.buffer;
    const limit = buffer.length;
    let at = this.end;
    this.start = at;
    this.argc = 0;
    this.wanted = 0;
    if (at >= limit) return false;

    if (buffer[at] !== ASTERISK) throw new RespError(at, "'*'");
    let from = ++at;
    let value = 0;
    while (at < limit) {
      const digit = (buffer[at] as number) - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
      if (value > ARGC_MAX) throw new RespError(from, `at most ${ARGC_MAX} arguments`);
      at++;
    }
    if (
      at + 1 >= limit ||
      buffer[at] !== CR ||
      buffer[at + 1] !== LF ||
      buffer[from] === ZERO ||
      at === from
    ) {
      throw this.#headerError(from, at, 'the number of arguments', 1);
    }
    at += 2;
    const argc = value;
    if (argc * BULK_BYTES_MIN > limit - at) throw new RespError(limit, `${argc} whole arguments`);
    if (argc > this.argStart.length) this.#grow(argc);

    const argStart = this.argStart;
    const argEnd = this.argEnd;
    for (let i = 0; i < argc; i++) {
      if (at >= limit || buffer[at] !== DOLLAR) throw new RespError(at, "'$'");
      from = ++at;
      value = 0;
      while (at < limit) {
        const digit = (buffer[at] as number) - ZERO;
        if (digit < 0 || digit > 9) break;
        value = value * 10 + digit;
        if (value > BULK_BYTES_MAX) throw new RespError(from, `at most ${BULK_BYTES_MAX} bytes`);
        at++;
      }
      if (
        at + 1 >= limit ||
        buffer[at] !== CR ||
        buffer[at + 1] !== LF ||
        at === from ||
        (buffer[from] === ZERO && at > from + 1)
      ) {
        throw this.#headerError(from, at, 'a length', 0);
      }
      at += 2;
      const end = at + value;
      if (end + 1 >= limit) {
        this.wanted = end + 2;
        throw new RespError(limit, `${value} bytes and CRLF`);
      }
      if (buffer[end] !== CR || buffer[end + 1] !== LF) throw new RespError(end, 'CRLF');
      argStart[i] = at;
      argEnd[i] = end;
      at = end + 2;
    }
    this.argc = argc;
    this.end = at;
    return true;
  }

  /** A view, not a copy: it lives as long as the scanned buffer. */
  arg(i: number): Buffer {
    return this.buffer.subarray(this.argStart[i], this.argEnd[i]);
  }

  args(): Buffer[] {
    const list = new Array<Buffer>(this.argc);
    for (let i = 0; i < this.argc; i++) list[i] = this.arg(i);
    return list;
  }

  #grow(argc: number): void {
    const size = 2 ** Math.ceil(Math.log2(argc));
    this.argStart = new Int32Array(size);
    this.argEnd = new Int32Array(size);
  }

  #headerError(from: number, at: number, what: string, min: number): RespError {
    const digits = at - from;
    if (digits === 0 || this.buffer[from] === ZERO) {
      if (digits !== 1 || min > 0)
        return new RespError(from, `${what} of at least ${min} without leading zeros`);
    }
    return new RespError(at, 'CRLF');
  }
}

const CRLF = Buffer.from('\r\n');

/** One RESP array of bulk strings. Strings are UTF-8, numbers are decimal. */
export function encodeCommand(args: readonly (Buffer | string | number)[]): Buffer {
  const parts: Buffer[] = [Buffer.from(`*${args.length}\r\n`)];
  for (const arg of args) {
    const bytes = Buffer.isBuffer(arg) ? arg : Buffer.from(String(arg));
    parts.push(Buffer.from(`$${bytes.length}\r\n`), bytes, CRLF);
  }
  return Buffer.concat(parts);
}

export function encodeCommands(list: readonly (readonly (Buffer | string | number)[])[]): Buffer {
  return Buffer.concat(list.map(encodeCommand));
}
