// Cuts the byte stream of a replication link into entries of whole commands. It promises:
// 1. Every byte of the stream is in one entry, but for the bare newlines between commands; positions count them all.
// 2. No entry ends between MULTI and EXEC. Both what makes up a transaction and a single command are bounded.
// 3. Entries are views of blocks that are never written again: they stay what they are.

import { equalsUpper } from '../../binlog/ascii.ts';
import { RespError, RespScanner } from '../../binlog/resp.ts';
import { StopError } from '../../runtime/errors.ts';
import type { Entry } from '../source.ts';
import { formatStream, type Point } from './position.ts';

const BLOCK_BYTES = 1024 * 1024;
const ENTRY_BYTES = 32 * 1024;
/** A value of 512 MiB, the most that RESP carries, with its command. */
const COMMAND_BYTES_MAX = 513 * 1024 * 1024;
const LF = 10;
const CR = 13;
const SELECT = Buffer.from('SELECT');
const MULTI = Buffer.from('MULTI');
const EXEC = Buffer.from('EXEC');
const DB_MAX = 999_999_999;

export interface CutterStart extends Point {
  readonly db: number;
  readonly transactionBytesMax: number;
}

export class CommandCutter {
  readonly #replid: string;
  readonly #transactionBytesMax: number;
  readonly #scanner = new RespScanner();
  #block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
  /** Bytes of the block that are filled. */
  #filled = 0;
  /** Where in the block the next entry begins, and how far whole commands have been found. */
  #entry = 0;
  #scanned = 0;
  /** Where in the block the argument ends that is still to come; 0 if that is not known. */
  #wanted = 0;
  /** Offset of the stream at the block's first byte. */
  #base: number;
  /** Selected database at the entry's start, and behind the last whole command. */
  #entryDb: number;
  #db: number;
  #transaction: number | undefined;

  constructor(start: CutterStart) {
    this.#replid = start.replid;
    this.#transactionBytesMax = start.transactionBytesMax;
    this.#base = start.offset;
    this.#entryDb = start.db;
    this.#db = start.db;
  }

  /** Offset behind the last whole command. */
  get offset(): number {
    return this.#base + this.#scanned;
  }

  /** The entries that `bytes` complete; perhaps none. @throws StopError */
  push(bytes: Buffer, timeMs: number): Entry[] {
    this.#fill(bytes);
    const entries: Entry[] = [];
    const block = this.#block.subarray(0, this.#filled);
    const scanner = this.#scanner;
    scanner.reset(block, this.#scanned);
    try {
      for (;;) {
        if (block[scanner.end] === LF) this.#newline(entries, timeMs);
        else if (!scanner.next()) break;
        else this.#command(entries, timeMs);
      }
    } catch (error) {
      if (!(error instanceof RespError)) throw error;
      if (!isCutOff(error, block)) throw this.#malformed(error);
      this.#wanted = scanner.wanted;
    }
    this.#checkBounds();
    if (this.#transaction === undefined) this.#cut(entries, timeMs);
    // The next command may be long in coming.
    if (this.#entry === this.#filled && this.#block.length > BLOCK_BYTES) this.#nextBlock(0);
    return entries;
  }

  #command(entries: Entry[], timeMs: number): void {
    const scanner = this.#scanner;
    const { buffer, argc } = scanner;
    const at = scanner.argStart[0] as number;
    const end = scanner.argEnd[0] as number;
    this.#scanned = scanner.end;
    const length = end - at;
    if (length === 6 && argc === 2 && equalsUpper(buffer, at, end, SELECT)) this.#select();
    else if (length === 5 && equalsUpper(buffer, at, end, MULTI)) this.#transaction = this.offset;
    else if (length === 4 && equalsUpper(buffer, at, end, EXEC)) this.#transaction = undefined;
    if (this.#scanned - this.#entry >= ENTRY_BYTES && this.#transaction === undefined)
      this.#cut(entries, timeMs);
  }

  #select(): void {
    const db = Number(this.#scanner.arg(1).toString('latin1'));
    // What is no database the target refuses, and ingest stops there.
    if (Number.isInteger(db) && db >= 0 && db <= DB_MAX) this.#db = db;
  }

  /** Counts in the stream, but is no part of a command: the entry ends before it, the next begins behind it. */
  #newline(entries: Entry[], timeMs: number): void {
    const at = this.#scanner.end;
    if (this.#transaction !== undefined)
      throw this.#malformed(new RespError(at, 'a command between MULTI and EXEC'));
    this.#cut(entries, timeMs);
    this.#scanned = at + 1;
    this.#entry = at + 1;
    this.#scanner.reset(this.#scanner.buffer, at + 1);
  }

  #cut(entries: Entry[], timeMs: number): void {
    if (this.#scanned === this.#entry) return;
    entries.push({
      position: formatStream({ replid: this.#replid, offset: this.offset }, this.#db),
      resp: this.#block.subarray(this.#entry, this.#scanned),
      skip: 0,
      db: this.#entryDb,
      timeMs,
      malformed: undefined,
    });
    this.#entry = this.#scanned;
    this.#entryDb = this.#db;
  }

  #fill(bytes: Buffer): void {
    if (this.#filled + bytes.length > this.#block.length) this.#nextBlock(bytes.length);
    bytes.copy(this.#block, this.#filled);
    this.#filled += bytes.length;
  }

  /**
   * What is not cut yet moves to a block of its own; one that has to grow does so by half, at the least, and at once to the
   * end of the argument that it was cut off in, and what comes along with that.
   */
  #nextBlock(bytes: number): void {
    const kept = this.#block.subarray(this.#entry, this.#filled);
    const wanted = this.#wanted === 0 ? 0 : this.#wanted - this.#entry + BLOCK_BYTES;
    const block = Buffer.allocUnsafeSlow(
      Math.max(BLOCK_BYTES, kept.length + Math.max(bytes, kept.length / 2), wanted),
    );
    this.#wanted = 0;
    kept.copy(block);
    this.#block = block;
    this.#base += this.#entry;
    this.#scanned -= this.#entry;
    this.#filled = kept.length;
    this.#entry = 0;
  }

  #checkBounds(): void {
    const command = this.#filled - this.#scanned;
    const begun = this.#transaction;
    const transaction = begun === undefined ? 0 : this.#base + this.#filled - begun;
    if (transaction > this.#transactionBytesMax) {
      throw new StopError(
        'TRANSACTION_TOO_LARGE',
        `the transaction at offset ${begun} of the replication stream has more than ${this.#transactionBytesMax} bytes`,
        { hint: 'allow more (--transaction-bytes), then: lanegate lane resume ingest' },
      );
    }
    if (command > COMMAND_BYTES_MAX) {
      throw new StopError(
        'COMMAND_TOO_LARGE',
        `the command at offset ${this.offset} of the replication stream has more than ${COMMAND_BYTES_MAX} bytes`,
        { hint: 'begin anew behind it: lanegate reset, then lanegate run' },
      );
    }
  }

  #malformed(error: RespError): StopError {
    const offset = this.#base + error.offset;
    return new StopError(
      'SOURCE_MALFORMED',
      `the replication stream makes no sense at offset ${offset}: expected ${error.expected}`,
      {
        hint: 'lanegate lane resume ingest   (reads it again)',
        facts: { offset },
      },
    );
  }
}

/** The command goes on behind the block. */
function isCutOff(error: RespError, block: Buffer): boolean {
  const last = block.length - 1;
  return error.offset >= block.length || (error.offset === last && block[last] === CR);
}
