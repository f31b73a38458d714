// What a Redis-protocol server answers: values, errors, and how their lines are read (RESP2 and RESP3).

export type Reply = string | number | bigint | Buffer | null | ReplyError | Reply[];

/** An error reply. Returned as a value: what it means depends on the command. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError';
  /** The first word: `WRONGTYPE`, `OOM`, `ERR`. */
  readonly code: string;

  constructor(text: string) {
    super(text);
    const space = text.indexOf(' ');
    this.code = space === -1 ? text : text.slice(0, space);
  }
}

/** The code that counts: behind "EXECABORT Transaction discarded because of: " stands the real one. */
export function refusalCode(error: ReplyError): string {
  if (error.code !== 'EXECABORT') return error.code;
  return /because of:? -?([A-Z]+)\b/.exec(error.message)?.[1] ?? error.code;
}

export function isUnknownCommand(reply: Reply | undefined): boolean {
  return reply instanceof ReplyError && /unknown command/i.test(reply.message);
}

/** The bytes are not RESP, or not the reply that can stand here. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError';
}

/** `index` counts the batch's commands from 0. */
export interface CommandError {
  readonly index: number;
  readonly error: ReplyError;
}

export type BatchOutcome =
  | { readonly kind: 'committed'; readonly errors: readonly CommandError[]; readonly replies: number }
  | { readonly kind: 'fenced' }
  | { readonly kind: 'aborted'; readonly errors: readonly CommandError[]; readonly error: ReplyError };

/**
 * Blobs of more than `aboveBytes` are read as LEFT_OUT and cost no memory; with `before`, in a reply that is an array only
 * those before its element of that number.
 */
export interface LeaveOut {
  readonly aboveBytes: number;
  readonly before?: number;
}

/** Stands where a blob was left out. */
export const LEFT_OUT = Buffer.alloc(0);

/** What servers send nests a few levels deep; a frame for each level is memory that no byte limit counts. */
const NESTING_MAX = 128;

interface Frame {
  readonly items: Reply[];
  left: number;
}

/** Puts replies together from their parts, in the order of the wire. Maps and sets become flat arrays, as in RESP2. */
export class ReplyBuilder {
  readonly #replyBytesMax: number;
  readonly #open: Frame[] = [];
  #complete: Reply[] = [];
  #replyBytes = 0;

  constructor(replyBytesMax: number) {
    this.#replyBytesMax = replyBytesMax;
  }

  get completeReplies(): number {
    return this.#complete.length;
  }

  /** Between two replies, not inside an array. */
  get atTop(): boolean {
    return this.#open.length === 0;
  }

  /** The outermost array's element that is being read. */
  get element(): number {
    return this.#open[0]?.items.length ?? 0;
  }

  take(): Reply[] {
    const replies = this.#complete;
    this.#complete = [];
    return replies;
  }

  /** @throws ProtocolError when the current reply has grown too large */
  count(bytes: number): void {
    this.#replyBytes += bytes;
    if (this.#replyBytes > this.#replyBytesMax) {
      throw new ProtocolError(`a reply of more than ${this.#replyBytesMax} bytes`);
    }
  }

  /** The next `elements` additions are an array's. @throws ProtocolError when it nests too deep */
  openArray(elements: number): void {
    if (this.#open.length >= NESTING_MAX)
      throw new ProtocolError(`a reply that nests deeper than ${NESTING_MAX}`);
    if (elements === 0) this.add([]);
    else this.#open.push({ items: [], left: elements });
  }

  add(reply: Reply): void {
    let done = reply;
    for (let frame = this.#open.at(-1); frame !== undefined; frame = this.#open.at(-1)) {
      frame.items.push(done);
      if (--frame.left > 0) return;
      this.#open.pop();
      done = frame.items;
    }
    this.#complete.push(done);
    this.#replyBytes = 0;
  }
}

/** The first byte of a reply. */
export const RESP = {
  array: 0x2a,
  attribute: 0x7c,
  bigNumber: 0x28,
  blobError: 0x21,
  boolean: 0x23,
  bulk: 0x24,
  double: 0x2c,
  error: 0x2d,
  integer: 0x3a,
  map: 0x25,
  null: 0x5f,
  push: 0x3e,
  set: 0x7e,
  simple: 0x2b,
  verbatim: 0x3d,
} as const;

const MINUS = 0x2d;
const ZERO = 0x30;
// A number of 15 digits is a safe integer.
const SAFE_DIGITS = 15;

export function isBlob(type: number | undefined): boolean {
  return type === RESP.bulk || type === RESP.verbatim || type === RESP.blobError;
}

export function isAggregate(type: number | undefined): boolean {
  return (
    type === RESP.array ||
    type === RESP.map ||
    type === RESP.set ||
    type === RESP.push ||
    type === RESP.attribute
  );
}

/** A reply that is one line. `start` is at its type byte, `end` at its CR. */
export function lineReply(buffer: Buffer, start: number, end: number): Reply {
  if (buffer[start] === RESP.integer) return integerReply(buffer, start + 1, end);
  const text = buffer.toString('utf8', start + 1, end);
  switch (buffer[start]) {
    case RESP.simple:
      return text;
    case RESP.error:
      return new ReplyError(text);
    case RESP.null:
      return null;
    case RESP.double:
      return Number(text.replace('inf', 'Infinity'));
    case RESP.boolean:
      return text === 't' ? 1 : 0;
    case RESP.bigNumber:
      return bigint(text);
    default:
      throw new ProtocolError(`not a reply: ${shownLine(buffer, start)}`);
  }
}

/** The number after a type byte: a length or a number of elements, -1 for "no value". */
export function lineLength(buffer: Buffer, start: number, end: number): number {
  if (end - start === 3 && buffer[start + 1] === MINUS && buffer[start + 2] === ZERO + 1) return -1;
  const length = digits(buffer, start + 1, end);
  if (length === undefined) throw new ProtocolError(`not a length: ${shownLine(buffer, start)}`);
  return length;
}

/** For messages: the beginning of the line, without what is not printable. */
export function shownLine(buffer: Buffer, start: number): string {
  return JSON.stringify(buffer.toString('latin1', start, start + 40).split('\r')[0]);
}

function integerReply(buffer: Buffer, from: number, end: number): number | bigint {
  const negative = buffer[from] === MINUS;
  const value = digits(buffer, negative ? from + 1 : from, end);
  if (value !== undefined) return negative ? 0 - value : value;
  const big = bigint(buffer.toString('latin1', from, end));
  const number = Number(big);
  return Number.isSafeInteger(number) ? number : big;
}

function bigint(text: string): bigint {
  if (!/^[+-]?\d+$/.test(text)) throw new ProtocolError(`not a number: ${JSON.stringify(text.slice(0, 40))}`);
  return BigInt(text);
}

function digits(buffer: Buffer, from: number, end: number): number | undefined {
  if (from >= end || end - from > SAFE_DIGITS) return undefined;
  let value = 0;
  for (let at = from; at < end; at++) {
    const digit = (buffer[at] ?? 0) - ZERO;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value;
}
