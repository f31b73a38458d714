// Commands and keys as people write and read them: the quoting of redis-cli (sdssplitargs, sdscatrepr).

const BACKSLASH = 92;
const DOUBLE = 34;
const SINGLE = 39;
const SMALL_X = 120;
const BARE = /^[!#-&(-[\]-~]+$/;
const ELLIPSIS = '…';

/** What a letter behind a backslash stands for; any other byte stands for itself. */
const ESCAPES: ReadonlyMap<number, number> = new Map([
  [110, 10], // \n
  [114, 13], // \r
  [116, 9], // \t
  [98, 8], // \b
  [97, 7], // \a
]);

const WRITTEN: ReadonlyMap<number, string> = new Map([
  [10, '\\n'],
  [13, '\\r'],
  [9, '\\t'],
  [8, '\\b'],
  [7, '\\a'],
  [BACKSLASH, '\\\\'],
  [DOUBLE, '\\"'],
]);

export class QuotingError extends Error {
  override readonly name = 'QuotingError';
  /** Byte of the line, from 1, at which the quotes go wrong. */
  readonly column: number;

  constructor(column: number, message: string) {
    super(`${message} at column ${column}`);
    this.column = column;
  }
}

interface Cursor {
  readonly line: Buffer;
  at: number;
}

/** The arguments of one line; an empty list for a blank one. Throws QuotingError. */
export function parseLine(line: string | Buffer): Buffer[] {
  const cursor: Cursor = { line: Buffer.isBuffer(line) ? line : Buffer.from(line), at: 0 };
  const args: Buffer[] = [];
  while (skipBlanks(cursor)) args.push(argument(cursor));
  return args;
}

function skipBlanks(cursor: Cursor): boolean {
  while (isBlank(cursor.line[cursor.at])) cursor.at++;
  return cursor.at < cursor.line.length;
}

function argument(cursor: Cursor): Buffer {
  const { line } = cursor;
  const bytes: number[] = [];
  while (cursor.at < line.length && !isBlank(line[cursor.at])) {
    const byte = line[cursor.at] as number;
    if (byte === DOUBLE || byte === SINGLE) {
      quoted(cursor, byte, bytes);
      if (cursor.at < line.length && !isBlank(line[cursor.at])) {
        throw new QuotingError(cursor.at + 1, 'a blank must follow a closing quote');
      }
      break;
    }
    bytes.push(byte);
    cursor.at++;
  }
  return Buffer.from(bytes);
}

function quoted(cursor: Cursor, quote: number, bytes: number[]): void {
  const opened = cursor.at++;
  for (; cursor.at < cursor.line.length; cursor.at++) {
    const byte = cursor.line[cursor.at] as number;
    if (byte === quote) {
      cursor.at++;
      return;
    }
    if (byte !== BACKSLASH) bytes.push(byte);
    else bytes.push(quote === DOUBLE ? escapedInDouble(cursor) : escapedInSingle(cursor));
  }
  throw new QuotingError(opened + 1, 'unbalanced quote');
}

/** Leaves the cursor on the last byte of the escape. */
function escapedInDouble(cursor: Cursor): number {
  const { line, at } = cursor;
  const next = line[at + 1];
  if (next === undefined) return BACKSLASH;
  if (next === SMALL_X) {
    const hex = line.toString('latin1', at + 2, at + 4);
    if (/^[0-9a-f]{2}$/i.test(hex)) {
      cursor.at += 3;
      return Number.parseInt(hex, 16);
    }
  }
  cursor.at++;
  return ESCAPES.get(next) ?? next;
}

/** Between single quotes only \' is an escape. */
function escapedInSingle(cursor: Cursor): number {
  if (cursor.line[cursor.at + 1] !== SINGLE) return BACKSLASH;
  cursor.at++;
  return SINGLE;
}

function isBlank(byte: number | undefined): boolean {
  return byte === 32 || (byte !== undefined && byte >= 9 && byte <= 13);
}

/** Printable: bare where that is unambiguous, else quoted; … behind it if only `max` bytes of more are shown. */
export function formatKey(key: Buffer, max = 64): string {
  const shown = key.subarray(0, max);
  const text = shown.toString('latin1');
  const written = BARE.test(text) ? text : `"${escaped(shown)}"`;
  return key.length > max ? written + ELLIPSIS : written;
}

export function formatCommand(args: readonly Buffer[]): string {
  return args.map((arg) => formatKey(arg, arg.length)).join(' ');
}

function escaped(bytes: Buffer): string {
  let text = '';
  for (const byte of bytes) text += WRITTEN.get(byte) ?? printable(byte);
  return text;
}

function printable(byte: number): string {
  if (byte >= 32 && byte < 127) return String.fromCharCode(byte);
  return `\\x${byte.toString(16).padStart(2, '0')}`;
}
