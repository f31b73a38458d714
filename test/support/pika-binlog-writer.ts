import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeCommand } from '../../src/binlog/resp.ts';

const BLOCK_BYTES = 65_536;
const HEADER_BYTES = 8;

export interface WrittenItem {
  readonly filenum: number;
  readonly start: number;
  readonly end: number;
}

export interface WriterOptions {
  /** A file above this size is left for the next one. */
  readonly fileBytes?: number;
  readonly firstFilenum?: number;
}

type Args = readonly (string | Buffer | number)[];

/** Writes binlog files as a Pika master does: 64 KiB blocks, records in pieces, roll, manifest. */
export class PikaBinlogWriter {
  readonly dir: string;
  readonly #fileBytes: number;
  readonly #files = new Map<number, Buffer[]>();
  #filenum: number;
  #offset = 0;
  #logicId = 0;

  constructor(dir: string, options: WriterOptions = {}) {
    this.dir = dir;
    mkdirSync(dir, { recursive: true });
    this.#fileBytes = options.fileBytes ?? 104_857_600;
    this.#filenum = options.firstFilenum ?? 0;
    this.#files.set(this.#filenum, []);
  }

  get place(): { filenum: number; offset: number } {
    return { filenum: this.#filenum, offset: this.#offset };
  }

  /** One command. */
  append(args: Args, execTimeS = 1_700_000_000): WrittenItem {
    return this.appendContent(encodeCommand(args), execTimeS);
  }

  appendContent(content: Buffer, execTimeS = 1_700_000_000): WrittenItem {
    const item = this.#item(content, execTimeS);
    if (this.#offset > this.#fileBytes) {
      this.#files.set(++this.#filenum, []);
      this.#offset = 0;
    }
    const start = this.#offset;
    this.#records(item, execTimeS);
    return { filenum: this.#filenum, start, end: this.#offset };
  }

  /** What a full sync leaves: everything up to `offset` is records of type 6. */
  pad(offset: number): void {
    while (this.#offset < offset) {
      const left = Math.min(BLOCK_BYTES - (this.#offset % BLOCK_BYTES), offset - this.#offset);
      if (left < HEADER_BYTES) this.#put(Buffer.alloc(left));
      else this.#record(Buffer.alloc(left - HEADER_BYTES, '*'), 0, 6);
    }
  }

  /** Bytes as they are, no item. */
  raw(bytes: Buffer): void {
    this.#put(bytes);
  }

  /** Files, with `zeros` behind the last one as preallocation leaves them, and the manifest. */
  write(options: { manifest?: boolean; zeros?: number } = {}): void {
    for (const [filenum, parts] of this.#files) {
      const zeros = filenum === this.#filenum ? (options.zeros ?? 0) : 0;
      writeFileSync(join(this.dir, `write2file${filenum}`), Buffer.concat([...parts, Buffer.alloc(zeros)]));
    }
    if (options.manifest === false) return;
    const manifest = Buffer.alloc(BLOCK_BYTES);
    manifest.writeUInt32LE(this.#filenum, 0);
    manifest.writeBigUInt64LE(BigInt(this.#offset), 4);
    manifest.writeBigUInt64LE(BigInt(this.#logicId), 12);
    writeFileSync(join(this.dir, 'manifest'), manifest);
  }

  #item(content: Buffer, execTimeS: number): Buffer {
    const header = Buffer.alloc(34);
    header.writeUInt16LE(1, 0);
    header.writeUInt32LE(execTimeS, 2);
    header.writeBigUInt64LE(BigInt(++this.#logicId), 10);
    header.writeUInt32LE(this.#filenum, 18);
    header.writeBigUInt64LE(BigInt(this.#offset), 22);
    header.writeUInt32LE(content.length, 30);
    return Buffer.concat([header, content]);
  }

  /** The empty record of type first in exactly 8 bytes is Pika's own. */
  #records(item: Buffer, execTimeS: number): void {
    let at = 0;
    do {
      const left = BLOCK_BYTES - (this.#offset % BLOCK_BYTES);
      if (left < HEADER_BYTES) {
        this.#put(Buffer.alloc(left));
        continue;
      }
      const length = Math.min(item.length - at, left - HEADER_BYTES);
      const begins = at === 0 && !this.#begun;
      const ends = at + length === item.length;
      const type = begins ? (ends ? 1 : 2) : ends ? 4 : 3;
      this.#record(item.subarray(at, at + length), execTimeS, type);
      this.#begun = !ends;
      at += length;
    } while (at < item.length);
  }

  #begun = false;

  #record(payload: Buffer, seconds: number, type: number): void {
    const header = Buffer.alloc(HEADER_BYTES);
    header.writeUIntLE(payload.length, 0, 3);
    header.writeUInt32LE(seconds, 3);
    header[7] = type;
    this.#put(Buffer.concat([header, payload]));
  }

  #put(bytes: Buffer): void {
    this.#files.get(this.#filenum)?.push(bytes);
    this.#offset += bytes.length;
  }
}
