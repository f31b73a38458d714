// Reads the blocks of one of Pika's binlog files into items' bytes.
//
// A file is a row of 64 KiB blocks. A record (8 bytes of header, payload) never crosses a block; an item that does not
// fit is cut into records of the types first, middle ..., last. There is no checksum.
//
// It promises:
// 1. Items come whole and in order, each with the offset behind it, which is the only place to resume at.
// 2. What Pika itself writes and skips is skipped: the tail of 8 bytes or less of a block (it may hold an empty record of
//    the type first, so that an item begins with middle or last), and the padding that a full sync leaves.
// 3. Anything else that is no record throws BlockError at its offset, after everything before it was given out.
// Memory: one chunk (1 MiB); for an item in pieces, of at most ITEM_BYTES_MAX, twice its size.

import type { FileHandle } from 'node:fs/promises';

export const BLOCK_BYTES = 65_536;
export const RECORD_HEADER_BYTES = 8;
const CHUNK_BYTES = 16 * BLOCK_BYTES;
/** A master can send no more than 512 MiB; this leaves room for what is around it. */
export const ITEM_BYTES_MAX = 513 * 1024 * 1024;

const FULL = 1;
const FIRST = 2;
const MIDDLE = 3;
const LAST = 4;
const PADDING = 6;

export interface BlockItem {
  /** Of a chunk that is not written again; of its own where it came in pieces. */
  readonly bytes: Buffer;
  /** Where its first record begins. */
  readonly start: number;
  /** Behind its last record. */
  readonly end: number;
}

/** How a file's items end: at the bound; in zeros or at the file's end; in a record or item that is not all there. */
export type FileEnd = 'bound' | 'empty' | 'torn';

export class BlockError extends Error {
  override readonly name = 'BlockError';
  readonly offset: number;
  readonly expected: string;

  constructor(offset: number, expected: string) {
    super(`not a binlog record at byte ${offset}: expected ${expected}`);
    this.offset = offset;
    this.expected = expected;
  }
}

export interface BlockReaderOptions {
  readonly file: FileHandle;
  /** An offset behind an item, or 0. */
  readonly from: number;
  /** Where the writer has ended: items up to here must be whole. Undefined: up to where they stop being so. */
  readonly bound: number | undefined;
}

export class BlockReader {
  readonly #file: FileHandle;
  readonly #from: number;
  readonly #bound: number;
  readonly #isBound: boolean;
  #chunk: Buffer = Buffer.alloc(0);
  /** The file's offset of the chunk. */
  #base = 0;
  #at: number;
  #sought = false;
  #pieces: Buffer[] = [];
  #piecesBytes = 0;
  #start = 0;
  /** Behind the last whole item. */
  #itemEnd: number;
  #found: BlockItem[] = [];
  #end: FileEnd | undefined;

  constructor({ file, from, bound }: BlockReaderOptions) {
    this.#file = file;
    this.#from = from;
    this.#at = from - (from % BLOCK_BYTES);
    this.#itemEnd = from;
    this.#bound = bound ?? Number.POSITIVE_INFINITY;
    this.#isBound = bound !== undefined;
  }

  /** Known once `next` has given undefined. */
  get end(): FileEnd | undefined {
    return this.#end;
  }

  /** Behind the last item that was given out, or the padding behind it. */
  get itemEnd(): number {
    return this.#itemEnd;
  }

  /** The next items, never none; undefined when there are no more. @throws BlockError */
  async next(): Promise<readonly BlockItem[] | undefined> {
    while (this.#end === undefined) {
      this.#found = [];
      await this.#read();
      let failure: unknown;
      try {
        if (!this.#sought) this.#seek();
        this.#end ??= this.#scan();
      } catch (error) {
        failure = error;
      }
      if (this.#found.length === 0 && failure !== undefined) throw failure;
      // What is whole goes out first; the next call stumbles over the same place.
      if (this.#found.length > 0) return this.#found;
    }
    return undefined;
  }

  /** A chunk from the block that holds `#at`. */
  async #read(): Promise<void> {
    this.#base = this.#at - (this.#at % BLOCK_BYTES);
    // Items are views of it, so it is not used again.
    const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    let length = 0;
    while (length < CHUNK_BYTES) {
      const { bytesRead } = await this.#file.read(chunk, length, CHUNK_BYTES - length, this.#base + length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    this.#chunk = chunk.subarray(0, length);
  }

  /** Walks the records of the first block up to `#from`: an offset between records is no place to begin. */
  #seek(): void {
    const from = this.#from;
    let at = this.#at;
    while (at < from && BLOCK_BYTES - (at % BLOCK_BYTES) > RECORD_HEADER_BYTES) {
      const length = this.#lengthAt(at - this.#base);
      if (length === 0) throw new BlockError(from, 'the end of an item, and the records end before it');
      at += RECORD_HEADER_BYTES + length;
    }
    if (at !== from) throw new BlockError(from, 'the end of an item, found the inside of one');
    this.#at = from;
    this.#sought = true;
  }

  #lengthAt(at: number): number {
    return at + RECORD_HEADER_BYTES <= this.#chunk.length ? this.#chunk.readUIntLE(at, 3) : 0;
  }

  /** Takes the chunk's records; the file's end if it is in here. */
  #scan(): FileEnd | undefined {
    const chunk = this.#chunk;
    for (;;) {
      if (this.#at >= this.#bound) return this.#ended('bound');
      const left = BLOCK_BYTES - (this.#at % BLOCK_BYTES);
      const at = this.#at - this.#base;
      if (left <= RECORD_HEADER_BYTES) {
        this.#at += left;
        continue;
      }
      if (at >= CHUNK_BYTES) return undefined;
      if (at + RECORD_HEADER_BYTES > chunk.length) return this.#ended(at < chunk.length ? 'torn' : 'empty');
      const length = chunk.readUIntLE(at, 3);
      const type = chunk[at + 7] as number;
      if (length === 0 || type === 0) return this.#ended('empty');
      if (length > left - RECORD_HEADER_BYTES)
        throw new BlockError(this.#at, `a record within its block, found one of ${length} bytes`);
      const from = at + RECORD_HEADER_BYTES;
      const after = this.#at + RECORD_HEADER_BYTES + length;
      if (from + length > chunk.length || after > this.#bound) return this.#ended('torn');
      this.#record(type, chunk.subarray(from, from + length), after);
      this.#at = after;
    }
  }

  #record(type: number, payload: Buffer, after: number): void {
    const begun = this.#pieces.length > 0;
    if (type === PADDING && !begun) {
      this.#itemEnd = after;
      return;
    }
    if (type !== FULL && type !== FIRST && type !== MIDDLE && type !== LAST)
      throw new BlockError(this.#at, `a record of the types 1 to 4 or 6, found ${type}`);
    if (begun && (type === FULL || type === FIRST))
      throw new BlockError(this.#at, 'the rest of the item before it, found the beginning of another');
    // Without a first record before them, middle and last can only stand at a block's begin.
    if (!begun && (type === MIDDLE || type === LAST) && !this.#mayBegin())
      throw new BlockError(this.#at, 'the beginning of an item, found the rest of one');
    if (!begun) this.#start = this.#at;
    if (type === FULL) {
      this.#take(payload, after);
      return;
    }
    this.#piecesBytes += payload.length;
    if (this.#piecesBytes > ITEM_BYTES_MAX)
      throw new BlockError(this.#start, `an item of at most ${ITEM_BYTES_MAX} bytes`);
    this.#pieces.push(payload);
    if (type !== LAST) return;
    const bytes = Buffer.concat(this.#pieces, this.#piecesBytes);
    this.#pieces = [];
    this.#piecesBytes = 0;
    this.#take(bytes, after);
  }

  /** The item before has left exactly the room of the empty first record that is not looked at. */
  #mayBegin(): boolean {
    return this.#at % BLOCK_BYTES === 0 && this.#itemEnd === this.#at - RECORD_HEADER_BYTES;
  }

  #take(bytes: Buffer, end: number): void {
    this.#found.push({ bytes, start: this.#start, end });
    this.#itemEnd = end;
  }

  #ended(how: FileEnd): FileEnd {
    const pending = this.#pieces.length > 0;
    if (!this.#isBound) return pending ? 'torn' : how;
    if (how !== 'bound') throw new BlockError(this.#at, `records up to byte ${this.#bound}`);
    if (pending) throw new BlockError(this.#start, `a whole item before byte ${this.#bound}`);
    return how;
  }
}
