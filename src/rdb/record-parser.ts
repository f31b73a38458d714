// The records of a snapshot, one after the other: opcodes and keys. Turns keys into commands and these into entries.
//
// A record is everything from the opcodes that belong to a key (deadline, idle time, frequency) to the end of its
// value. The window's `at` stands at the begin of a record until the record is whole; only a rebuild consumes a value
// while it is read. A place therefore always is the begin of a record and the number of its commands that are out.

import type { ByteWindow } from './byte-window.ts';
import type { Crc64 } from './crc64.ts';
import { commandBytes, EntryWriter, PAYLOAD_EXTRA_BYTES, restoreBytes, setBytes } from './entry-writer.ts';
import {
  isCounted,
  isValkey,
  KEY_META,
  OPCODE,
  payloadVersion,
  SKIPPED,
  SLOT_IMPORT,
  shapeOf,
  TYPE,
  typeOf,
} from './format.ts';
import { LengthReader } from './length-reader.ts';
import type { RdbEntry, RdbPlace, ReadRdbOptions } from './rdb-log.ts';
import { rebuild } from './rebuild.ts';
import type { Sink, Steps } from './rebuilt.ts';
import { deadlineText, moduleName, refusal } from './record-texts.ts';
import { OversizedError, ValueReader } from './value-reader.ts';
import { ValueScan } from './value-scan.ts';

type Given = Required<Pick<ReadRdbOptions, 'rules' | 'chunkBytes' | 'onNotice' | 'onAux'>>;
type RecordParserOptions = Given & { readonly version: number; readonly from: RdbPlace | undefined };

/** Payloads above it are rebuilt, whatever the target takes: two of them may be in memory at a time. */
const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;
/** An element of a value cannot be cut, nor can what is packed into one string. */
const ELEMENT_BYTES_MAX = 512 * 1024 * 1024;
const PIECE_BYTES_MAX = 1024 * 1024;
const DB_MAX = 1_000_000;
const FUNCTION_LOAD = ['FUNCTION', 'LOAD', 'REPLACE'].map((word) => Buffer.from(word));

type State = 'short' | 'full' | 'end';

export class RecordParser implements Sink {
  /** Complete, in all entries. */
  keys = 0;
  readonly #window: ByteWindow;
  readonly #options: RecordParserOptions;
  readonly #writer: EntryWriter;
  readonly #reader: ValueReader;
  readonly #scan = new ValueScan();
  readonly #opcodeScan = new ValueScan();
  readonly #length = new LengthReader();
  readonly #payloadBytesMax: number;
  readonly #pieceBytes: number;
  /** Of string payloads. */
  readonly #stringVersion: number | undefined;
  #db: number;
  #entries: RdbEntry[] = [];
  #pendingBytes = 0;
  /** A key that is being rebuilt. */
  #steps: Steps | undefined;
  /** The record whose commands come next; while it is rebuilt the window is ahead of it. */
  #offset: number;
  #crc = '';
  #piece = 0;
  /** Commands of the first record that an earlier run has put out. */
  #skip: number;
  readonly #noticed = new Set<string>();
  // What stands in front of the key in its record, and the key with the begin of its value, from the record's begin.
  #deadline: string | undefined;
  #idle: string | undefined;
  #freq: string | undefined;
  #type = 0;
  #key: Buffer = Buffer.alloc(0);
  #valueAt = 0;

  constructor(window: ByteWindow, crc: Crc64, options: RecordParserOptions) {
    this.#window = window;
    this.#options = options;
    this.#writer = new EntryWriter(crc);
    const { bulkBytesMax } = options.rules;
    this.#payloadBytesMax = Math.min(bulkBytesMax, PAYLOAD_BYTES_MAX);
    this.#pieceBytes = Math.max(64, Math.min(bulkBytesMax, PIECE_BYTES_MAX));
    this.#reader = new ValueReader(window, ELEMENT_BYTES_MAX);
    this.#db = options.from?.db ?? 0;
    this.#skip = options.from?.piece ?? 0;
    this.#offset = window.offset;
    this.#stringVersion = payloadVersion(TYPE.string, options.version, options.rules.rdbVersion);
  }

  get isFull(): boolean {
    return this.#pendingBytes >= this.#options.chunkBytes;
  }

  /** The entries since the last call, as soon as they are a chunk (`all`: however few they are). */
  take(all: boolean): RdbEntry[] {
    if (!all && !this.isFull) return [];
    const entries = this.#entries;
    this.#entries = [];
    this.#pendingBytes = 0;
    return entries;
  }

  /** Goes on until bytes are missing (window.need), a chunk is full, or the EOF opcode is consumed. */
  run(): State {
    const window = this.#window;
    for (;;) {
      if (this.isFull) return 'full';
      if (this.#steps !== undefined) {
        if (!this.#rebuildStep()) return this.isFull ? 'full' : 'short';
      } else if (this.#scan.active) {
        if (!this.#value()) return 'short';
      } else {
        const record = this.#checkedRecord(window);
        if (record !== 'more') return record;
      }
    }
  }

  /** One command of the record at hand. */
  command(args: readonly Buffer[]): void {
    for (const arg of args) {
      if (arg.length > this.#options.rules.bulkBytesMax) throw new OversizedError(arg.length);
    }
    if (this.#skip > 0) {
      this.#skip--;
      this.#piece++;
      return;
    }
    const bytes = commandBytes(args);
    if (this.#writer.isFullFor(bytes)) this.#cut();
    this.#writer.command(args, bytes);
    this.#piece++;
  }

  /** A key or a field of the header that claims to be larger than any string can be is no record. */
  #checkedRecord(window: ByteWindow): State | 'more' {
    try {
      return this.#record(window);
    } catch (error) {
      if (!(error instanceof OversizedError)) throw error;
      throw window.bad(`something smaller than ${error.message}`, 0);
    }
  }

  #record(window: ByteWindow): State | 'more' {
    this.#deadline = undefined;
    this.#idle = undefined;
    this.#freq = undefined;
    for (let ahead = 0; ; ) {
      if (window.length <= ahead) {
        window.short(ahead + 1);
        return 'short';
      }
      const byte = window.buffer[window.at + ahead] as number;
      if (byte < OPCODE.slotImportOrKeyMeta) return this.#keyAndValue(byte, ahead + 1) ? 'more' : 'short';
      const behind = this.#attribute(byte, ahead + 1);
      if (behind < 0) return 'short';
      if (behind > 0) {
        ahead = behind;
        continue;
      }
      if (ahead > 0) throw window.bad('a key', ahead);
      if (byte === OPCODE.eof) {
        this.#cut();
        window.at += 1;
        return 'end';
      }
      return this.#opcode(byte) ? 'more' : 'short';
    }
  }

  /** Opcodes that belong to the key behind them. Returns the place behind; 0: it is none; below 0: it is not whole. */
  #attribute(opcode: number, at: number): number {
    const window = this.#window;
    const index = window.at + at;
    if (opcode === OPCODE.expireTimeMs) {
      if (!this.#has(at + 8)) return -1;
      this.#deadline = deadlineText(window.buffer, index);
      return at + 8;
    }
    if (opcode === OPCODE.expireTime) {
      if (!this.#has(at + 4)) return -1;
      this.#deadline = String(Math.max(1, window.buffer.readInt32LE(index) * 1000));
      return at + 4;
    }
    if (opcode === OPCODE.freq) {
      if (!this.#has(at + 1)) return -1;
      this.#freq = String(window.buffer[index]);
      return at + 1;
    }
    if (opcode === OPCODE.idle) {
      if (!this.#length.readPlain(window, index)) return -1;
      this.#idle = String(this.#length.value);
      return this.#length.after - window.at;
    }
    if (opcode === OPCODE.slotImportOrKeyMeta && !isValkey(this.#options.version)) {
      this.#opcodeScan.start(KEY_META, at);
      if (!this.#opcodeScan.run(window)) return -1;
      this.#notice('left out what modules have noted about keys (key metadata)');
      return this.#opcodeScan.used;
    }
    return 0;
  }

  /** An opcode that stands alone; false if it is not whole. */
  #opcode(byte: number): boolean {
    const window = this.#window;
    if (byte === OPCODE.selectDb) return this.#selectDb();
    if (byte === OPCODE.aux) return this.#aux();
    if (byte === OPCODE.function2) return this.#function();
    if (byte === OPCODE.functionPreGa) throw window.bad('no function of a release candidate of Redis 7.0');
    this.#opcodeScan.start(SKIPPED.get(byte) ?? SLOT_IMPORT, 1);
    if (!this.#opcodeScan.run(window)) return false;
    if (byte === OPCODE.moduleAux) {
      this.#length.readPlain(window, window.at + 1);
      this.#notice(`left out what the module type ${moduleName(this.#length.exact)} keeps beside the keys`);
    }
    window.at += this.#opcodeScan.used;
    return true;
  }

  #selectDb(): boolean {
    const window = this.#window;
    if (!this.#length.readPlain(window, window.at + 1)) return false;
    const db = this.#length.value;
    if (db > DB_MAX) throw window.bad(`a database below ${DB_MAX}`);
    if (db !== this.#db) this.#cut();
    window.at = this.#length.after;
    this.#db = db;
    return true;
  }

  #aux(): boolean {
    const window = this.#window;
    const name = this.#reader.stringAt(window.at + 1);
    if (name === undefined) return false;
    const value = this.#reader.stringAt(this.#reader.after);
    if (value === undefined) return false;
    window.at = this.#reader.after;
    this.#options.onAux(name.toString('latin1'), value.toString('latin1'));
    return true;
  }

  #function(): boolean {
    const window = this.#window;
    const code = this.#reader.stringAt(window.at + 1);
    if (code === undefined) return false;
    // In this order: the entry in front of it ends in front of the opcode.
    const { after } = this.#reader;
    this.command([...FUNCTION_LOAD, code]);
    this.#piece = 0;
    window.at = after;
    return true;
  }

  #keyAndValue(byte: number, ahead: number): boolean {
    const window = this.#window;
    const type = typeOf(byte, this.#options.version);
    if (type === undefined) throw window.bad('a known type of value', ahead - 1);
    if (type === TYPE.string && this.#restoreString(ahead)) return true;
    const key = this.#reader.stringAt(window.at + ahead);
    if (key === undefined) return false;
    this.#type = type;
    this.#key = key;
    if (key.length > this.#options.rules.bulkBytesMax) {
      throw this.#refused(new OversizedError(key.length), 'a key');
    }
    this.#valueAt = this.#reader.after - window.at;
    if (this.#payloadVersion() === undefined) this.#rebuild();
    else this.#scan.start(shapeOf(type), this.#valueAt);
    return true;
  }

  /** The way of most keys: a string that is there as a whole, under a key that stands there as it is. */
  #restoreString(ahead: number): boolean {
    const window = this.#window;
    const version = this.#stringVersion;
    if (version === undefined) return false;
    const keyStart = this.#reader.plainAt(window.at + ahead);
    if (keyStart < 0) return false;
    const keyEnd = this.#reader.after;
    const end = this.#scan.wholeString(window, keyEnd);
    const bytesMax = this.#payloadBytesMax;
    if (end < 0 || end - keyEnd + PAYLOAD_EXTRA_BYTES > bytesMax || keyEnd - keyStart > bytesMax)
      return false;
    this.#put(window.buffer, keyStart, keyEnd, TYPE.string, version, keyEnd, end);
    window.at = end;
    return true;
  }

  /** Goes on looking for the end of the value; false if it has not arrived. */
  #value(): boolean {
    const window = this.#window;
    const whole = this.#scan.run(window);
    if (this.#scan.used - this.#valueAt + PAYLOAD_EXTRA_BYTES > this.#payloadBytesMax) {
      this.#scan.active = false;
      this.#rebuild();
      return true;
    }
    if (!whole) return false;
    this.#restore(window.at + this.#valueAt, window.at + this.#scan.used);
    return true;
  }

  #restore(start: number, end: number): void {
    const window = this.#window;
    if (end - start === 1 && window.buffer[start] === 0 && isCounted(this.#type)) {
      this.#notice('left out empty keys, which old servers could write by mistake');
    } else {
      const version = this.#payloadVersion() as number;
      this.#put(this.#key, 0, this.#key.length, this.#type & 255, version, start, end);
    }
    window.at = end;
  }

  #put(
    keyIn: Buffer,
    keyStart: number,
    keyEnd: number,
    type: number,
    version: number,
    start: number,
    end: number,
  ): void {
    const { buffer } = this.#window;
    const deadline = this.#deadline;
    const idle = this.#idle;
    const freq = this.#freq;
    const restored = { keyIn, keyStart, keyEnd, type, version, deadline, idle, freq };
    // Where nothing else is known of the key, a plain string is the same by SET, without a checksum at either end.
    const isBare = deadline === undefined && idle === undefined && freq === undefined;
    const plain = isBare && type === TYPE.string ? this.#reader.plainAt(start) : -1;
    const bytes = plain < 0 ? restoreBytes(restored, end - start) : setBytes(keyEnd - keyStart, end - plain);
    if (this.#writer.isFullFor(bytes)) this.#cutHere();
    if (plain < 0) this.#writer.restore(restored, buffer, start, end, bytes);
    else this.#writer.set(restored, buffer, plain, end, bytes);
    this.#writer.keys++;
    this.keys++;
  }

  #payloadVersion(): number | undefined {
    return payloadVersion(this.#type, this.#options.version, this.#options.rules.rdbVersion);
  }

  #rebuild(): void {
    if (this.#type === TYPE.module2) throw this.#refused(undefined, 'a value of a module');
    const window = this.#window;
    this.#begin();
    window.at += this.#valueAt;
    const { rules, onNotice } = this.#options;
    const what = { type: this.#type, key: this.#key, deadline: this.#deadline };
    const how = { targetVersion: rules.rdbVersion, pieceBytes: this.#pieceBytes, onNotice };
    this.#steps = rebuild({ ...what, ...how }, this.#reader, this);
  }

  /** False if it has to wait. */
  #rebuildStep(): boolean {
    try {
      if (this.#steps?.next().done !== true) return false;
    } catch (error) {
      throw this.#refused(error, 'a value');
    }
    this.#steps = undefined;
    this.#piece = 0;
    this.#skip = 0;
    this.#writer.keys++;
    this.keys++;
    return true;
  }

  /** Remembers the record that is about to be consumed: places inside it point to its begin. */
  #begin(): void {
    this.#offset = this.#window.offset;
    this.#crc = this.#window.checksum()?.toString('hex') ?? '';
    this.#piece = 0;
  }

  /** Ends the entry in front of the next command: inside the record that is being rebuilt, or in front of the window. */
  #cut(): void {
    if (this.#writer.isEmpty) return;
    if (this.#piece > 0 || this.#steps !== undefined) this.#entry(this.#offset, this.#crc, this.#piece);
    else this.#cutHere();
  }

  #cutHere(): void {
    this.#entry(this.#window.offset, this.#window.checksum()?.toString('hex') ?? '', 0);
  }

  #entry(offset: number, crc: string, piece: number): void {
    const { keys } = this.#writer;
    const place = { offset, db: this.#db, piece, version: this.#options.version, crc };
    const resp = this.#writer.take();
    this.#entries.push({ place, db: this.#db, resp, keys });
    this.#pendingBytes += resp.length;
  }

  #has(ahead: number): boolean {
    if (this.#window.length >= ahead) return true;
    this.#window.short(ahead);
    return false;
  }

  #notice(text: string): void {
    if (this.#noticed.has(text)) return;
    this.#noticed.add(text);
    this.#options.onNotice(text);
  }

  #refused(error: unknown, what: string): unknown {
    return refusal(error, what, this.#key, this.#db, this.#window.offset);
  }
}
