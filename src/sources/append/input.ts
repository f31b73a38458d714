// Commands from a byte stream, one a line or as RESP, in bounded memory: nothing is kept but the rest of the last piece.

import { parseLine } from '../../binlog/quoting.ts';
import { RespError, RespScanner } from '../../binlog/resp.ts';
import { messageOf } from '../../runtime/errors.ts';
import { encodeAll } from './encode.ts';

const LF = 10;
const CR = 13;
const DOUBLE_QUOTE = 34;
const SINGLE_QUOTE = 39;
/** Of `MULTI`, `EXEC`, `DISCARD`, `SELECT`: longer names need no look. */
const CONTROL_NAME_BYTES_MAX = 7;
const BULK_BYTES_MIN = 6;
const LINE_BYTES_MAX = 512 * 1024 * 1024;

export interface InputCommand {
  /** One RESP array. */
  readonly bytes: Buffer;
  /** In upper case; '' for a name that does not concern the framing of entries. */
  readonly name: '' | 'MULTI' | 'EXEC' | 'DISCARD' | 'SELECT';
  /** What SELECT selects, if that is a number. */
  readonly db: number | undefined;
  /** Line from 1, or byte offset from 0. */
  readonly at: number;
}

/** The input is wrong at `at`; everything before it was yielded. */
export class InputError extends Error {
  override readonly name = 'InputError';
  readonly at: number;

  constructor(at: number, why: string) {
    super(why);
    this.at = at;
  }
}

/** One command a line in redis-cli's quoting; blank lines are skipped. */
export async function* readLines(input: AsyncIterable<Buffer>): AsyncGenerator<InputCommand[]> {
  let line = 0;
  let rest: Buffer[] = [];
  let restBytes = 0;
  for await (const piece of input) {
    const lastLf = piece.lastIndexOf(LF);
    if (lastLf < 0) {
      rest.push(piece);
      restBytes += piece.length;
      if (restBytes > LINE_BYTES_MAX)
        throw new InputError(line + 1, `the line is longer than ${LINE_BYTES_MAX} bytes`);
      continue;
    }
    const whole = Buffer.concat([...rest, piece.subarray(0, lastLf + 1)]);
    rest = lastLf + 1 < piece.length ? [piece.subarray(lastLf + 1)] : [];
    restBytes = rest[0]?.length ?? 0;
    const parsed = parseLines(whole, line);
    if (parsed.commands.length > 0) yield parsed.commands;
    if (parsed.error !== undefined) throw parsed.error;
    line = parsed.line;
  }
  const parsed = parseLines(Buffer.concat(rest), line);
  if (parsed.commands.length > 0) yield parsed.commands;
  if (parsed.error !== undefined) throw parsed.error;
}

function parseLines(text: Buffer, linesBefore: number) {
  const commands: InputCommand[] = [];
  let line = linesBefore;
  for (let at = 0; at < text.length; ) {
    const lf = text.indexOf(LF, at);
    const end = lf < 0 ? text.length : lf;
    line++;
    try {
      const args = argsOf(text.subarray(at, end));
      if (args.length > 0) commands.push(inputCommand(encodeAll([args]), args[0] as Buffer, args[1], line));
    } catch (error) {
      return { commands, line, error: new InputError(line, messageOf(error)) };
    }
    at = end + 1;
  }
  return { commands, line, error: undefined };
}

function argsOf(line: Buffer): Buffer[] {
  if (line.includes(DOUBLE_QUOTE) || line.includes(SINGLE_QUOTE)) return parseLine(line);
  const args: Buffer[] = [];
  let from = -1;
  for (let i = 0; i <= line.length; i++) {
    const byte = i < line.length ? (line[i] as number) : LF;
    const blank = byte === 32 || (byte >= 9 && byte <= CR);
    if (!blank && from < 0) from = i;
    if (!blank || from < 0) continue;
    args.push(line.subarray(from, i));
    from = -1;
  }
  return args;
}

/** RESP arrays back to back. */
export async function* readResp(input: AsyncIterable<Buffer>): AsyncGenerator<InputCommand[]> {
  const scanner = new RespScanner();
  let offset = 0;
  let parts: Buffer[] = [];
  let partBytes = 0;
  let wanted = 1;
  let broken: RespError | undefined;
  for await (const piece of input) {
    parts.push(piece);
    partBytes += piece.length;
    // A large command comes in many pieces: joining them for each would take the square of its length.
    if (partBytes < wanted) continue;
    const buffer = parts.length === 1 ? piece : Buffer.concat(parts);
    const scanned = scan(scanner, buffer, offset);
    if (scanned.commands.length > 0) yield scanned.commands;
    broken = scanned.error;
    if (broken !== undefined && !isIncomplete(broken, buffer)) throw respError(broken, offset);
    const rest = buffer.subarray(scanned.end);
    wanted = bytesWanted(rest);
    offset += scanned.end;
    parts = rest.length > 0 ? [rest] : [];
    partBytes = rest.length;
  }
  if (partBytes === 0) return;
  const left = Buffer.concat(parts);
  const { error } = scan(scanner, left, offset);
  throw error === undefined || isIncomplete(error, left)
    ? new InputError(offset, `the input ends inside a command of which ${partBytes} bytes are there`)
    : respError(error, offset);
}

function respError(error: RespError, offset: number): InputError {
  return new InputError(offset + error.offset, `not a RESP command: expected ${error.expected}`);
}

function scan(scanner: RespScanner, buffer: Buffer, offset: number) {
  const commands: InputCommand[] = [];
  scanner.reset(buffer);
  try {
    while (scanner.next()) {
      const { start, end, argc } = scanner;
      const bytes = buffer.subarray(start, end);
      const nameBytes = (scanner.argEnd[0] as number) - (scanner.argStart[0] as number);
      if (nameBytes > CONTROL_NAME_BYTES_MAX || nameBytes < 4) commands.push(plain(bytes, offset + start));
      else
        commands.push(
          inputCommand(bytes, scanner.arg(0), argc > 1 ? scanner.arg(1) : undefined, offset + start),
        );
    }
  } catch (error) {
    if (!(error instanceof RespError)) throw error;
    return { commands, end: scanner.start, error };
  }
  return { commands, end: scanner.start, error: undefined };
}

/** The scanner stopped because the buffer ends, not because of what is in it. */
function isIncomplete(error: RespError, buffer: Buffer): boolean {
  return error.offset >= buffer.length || (error.offset === buffer.length - 1 && buffer[error.offset] === CR);
}

/** At least how long the command at the start of `buffer` will be, as far as its headers are there. */
function bytesWanted(buffer: Buffer): number {
  const first = buffer.indexOf('\r\n');
  if (first < 0) return buffer.length + 1;
  const argc = Number(buffer.toString('latin1', 1, first));
  let at = first + 2;
  for (let i = 0; i < argc; i++) {
    const header = at < buffer.length ? buffer.indexOf('\r\n', at) : -1;
    if (header < 0) return Math.max(at + (argc - i) * BULK_BYTES_MIN, buffer.length + 1);
    at = header + 2 + Number(buffer.toString('latin1', at + 1, header)) + 2;
  }
  return Math.max(at, buffer.length + 1);
}

function inputCommand(bytes: Buffer, first: Buffer, second: Buffer | undefined, at: number): InputCommand {
  if (first.length > CONTROL_NAME_BYTES_MAX || first.length < 4) return plain(bytes, at);
  const name = first.toString('latin1').toUpperCase();
  if (name === 'MULTI' || name === 'EXEC' || name === 'DISCARD') return { bytes, name, db: undefined, at };
  if (name !== 'SELECT') return plain(bytes, at);
  const text = second?.toString('latin1') ?? '';
  return { bytes, name, db: /^\d{1,9}$/.test(text) ? Number(text) : undefined, at };
}

function plain(bytes: Buffer, at: number): InputCommand {
  return { bytes, name: '', db: undefined, at };
}
