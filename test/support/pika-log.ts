import { encodeCommand } from '../../src/binlog/resp.ts';
import type { Place } from '../../src/sources/pika/position.ts';

// A database's binlog as Pika keeps it: 64 KiB blocks, records with a header of 8 bytes, files that roll before an item.

const BLOCK_BYTES = 65_536;
const HEADER_BYTES = 8;

export type Argument = Buffer | string | number;

export interface LoggedItem {
  readonly bytes: Buffer;
  readonly end: Place;
}

export class PikaLog {
  readonly items: LoggedItem[] = [];
  readonly #fileBytes: number;
  end: Place = { filenum: 0, offset: 0 };
  /** Files below it are purged. */
  firstFile = 0;
  #logicId = 0;

  constructor(fileBytes: number) {
    this.#fileBytes = fileBytes;
  }

  append(command: readonly Argument[], timeS: number): Place {
    return this.appendContent(encodeCommand(command), timeS);
  }

  appendContent(content: Buffer, timeS: number): Place {
    const bytes = itemOf(content, { timeS, logicId: ++this.#logicId, start: this.end });
    const rolls = this.end.offset > this.#fileBytes;
    const from = rolls ? { filenum: this.end.filenum + 1, offset: 0 } : this.end;
    this.end = { filenum: from.filenum, offset: endOffset(from.offset, bytes.length) };
    this.items.push({ bytes, end: this.end });
    return this.end;
  }

  /** Index of the first item behind `place`; undefined when no item ends there. */
  indexBehind({ filenum, offset }: Place): number | undefined {
    if (offset === 0) {
      const at = this.items.findIndex(({ end }) => end.filenum >= filenum);
      return at < 0 ? (this.end.filenum === filenum ? this.items.length : undefined) : at;
    }
    const at = this.items.findIndex(({ end }) => end.filenum === filenum && end.offset === offset);
    return at < 0 ? undefined : at + 1;
  }

  /** The master dies and loses what it had not written to disk. */
  loseLast(count: number): void {
    this.items.splice(this.items.length - count);
    this.end = this.items.at(-1)?.end ?? { filenum: 0, offset: 0 };
  }
}

function itemOf(content: Buffer, header: { timeS: number; logicId: number; start: Place }): Buffer {
  const bytes = Buffer.alloc(34 + content.length);
  bytes.writeUInt16LE(1, 0);
  bytes.writeUInt32LE(header.timeS, 2);
  bytes.writeBigUInt64LE(BigInt(header.logicId), 10);
  bytes.writeUInt32LE(header.start.filenum, 18);
  bytes.writeBigUInt64LE(BigInt(header.start.offset), 22);
  bytes.writeUInt32LE(content.length, 30);
  content.copy(bytes, 34);
  return bytes;
}

/** Where the last record of an item of so many bytes ends. */
export function endOffset(from: number, bytes: number): number {
  let at = from;
  for (let rest = bytes; rest > 0; ) {
    const left = BLOCK_BYTES - (at % BLOCK_BYTES);
    if (left < HEADER_BYTES) {
      at += left;
      continue;
    }
    const part = Math.min(rest, left - HEADER_BYTES);
    at += HEADER_BYTES + part;
    rest -= part;
  }
  return at;
}
