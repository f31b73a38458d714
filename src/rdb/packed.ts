// The elements of values that are stored as one string: listpack, ziplist, zipmap, intset. Integers become text.
// Strings are views of the blob. Throws RdbError on anything that does not add up; never reads beyond the blob.

import { RdbError } from './rdb-error.ts';

export interface Blob {
  readonly bytes: Buffer;
  /** Where it begins in the file, for messages. */
  readonly offset: number;
}

const END = 0xff;

function integer(value: number | bigint): Buffer {
  return Buffer.from(String(value), 'latin1');
}

/** View of `length` bytes at `at`. */
function slice(blob: Blob, at: number, length: number, what: string): Buffer {
  if (at + length > blob.bytes.length) throw bad(blob, what);
  return blob.bytes.subarray(at, at + length);
}

function bad(blob: Blob, what: string): RdbError {
  return new RdbError(blob.offset, `a well-formed ${what}`);
}

/** Little-endian and signed, of 1, 2, 3, 4 or 8 bytes. */
function signedAt(blob: Blob, at: number, length: number, what: string): Buffer {
  const bytes = slice(blob, at, length, what);
  return integer(length === 8 ? bytes.readBigInt64LE() : bytes.readIntLE(0, length));
}

const LISTPACK_HEADER_BYTES = 6;
/** Bytes of the integer behind 0xf1 to 0xf4. */
const LISTPACK_INTEGER_BYTES = [2, 3, 4, 8] as const;

export function* listpack(blob: Blob): Generator<Buffer, void> {
  const { bytes } = blob;
  let at = LISTPACK_HEADER_BYTES;
  for (;;) {
    const first = bytes[at];
    if (first === undefined) throw bad(blob, 'listpack');
    if (first === END) return;
    const second = bytes[at + 1] ?? 0;
    let head = 1;
    let length = 0;
    if (first < 0x80) {
      yield integer(first);
    } else if (first >= 0xc0 && first < 0xe0) {
      const raw = ((first & 0x1f) << 8) | second;
      head = 2;
      yield integer(raw > 0xfff ? raw - 0x2000 : raw);
    } else if (first > 0xf0 && first < 0xf5) {
      length = LISTPACK_INTEGER_BYTES[first - 0xf1] as number;
      yield signedAt(blob, at + 1, length, 'listpack');
    } else {
      if (first < 0xc0) {
        length = first & 0x3f;
      } else if (first < 0xf0) {
        head = 2;
        length = ((first & 0x0f) << 8) | second;
      } else if (first === 0xf0) {
        head = 5;
        length = slice(blob, at + 1, 4, 'listpack').readUInt32LE();
      } else {
        throw bad(blob, 'listpack');
      }
      yield slice(blob, at + head, length, 'listpack');
    }
    const size = head + length;
    at += size + backLengthBytes(size);
  }
}

function backLengthBytes(size: number): number {
  if (size < 128) return 1;
  if (size < 16_384) return 2;
  if (size < 2_097_152) return 3;
  return size < 268_435_456 ? 4 : 5;
}

const ZIPLIST_HEADER_BYTES = 10;
const ZIPLIST_INTEGER_BYTES: ReadonlyMap<number, number> = new Map([
  [0xc0, 2],
  [0xd0, 4],
  [0xe0, 8],
  [0xf0, 3],
  [0xfe, 1],
]);

export function* ziplist(blob: Blob): Generator<Buffer, void> {
  const { bytes } = blob;
  let at = ZIPLIST_HEADER_BYTES;
  for (;;) {
    const previous = bytes[at];
    if (previous === undefined) throw bad(blob, 'ziplist');
    if (previous === END) return;
    at += previous === 0xfe ? 5 : 1;
    const first = slice(blob, at, 1, 'ziplist')[0] as number;
    const integerBytes = ZIPLIST_INTEGER_BYTES.get(first);
    if (integerBytes !== undefined) {
      yield signedAt(blob, at + 1, integerBytes, 'ziplist');
      at += 1 + integerBytes;
    } else if (first > 0xf0 && first < 0xfe) {
      yield integer((first & 0x0f) - 1);
      at += 1;
    } else if (first < 0xc0) {
      let head = 1;
      let length = first & 0x3f;
      if (first >= 0x80) {
        head = 5;
        length = slice(blob, at + 1, 4, 'ziplist').readUInt32BE();
      } else if (first >= 0x40) {
        head = 2;
        length = (length << 8) | (slice(blob, at + 1, 1, 'ziplist')[0] as number);
      }
      yield slice(blob, at + head, length, 'ziplist');
      at += head + length;
    } else {
      throw bad(blob, 'ziplist');
    }
  }
}

/** Fields and values in turn. */
export function* zipmap(blob: Blob): Generator<Buffer, void> {
  let at = 1;
  for (let isValue = false; ; isValue = !isValue) {
    const first = slice(blob, at, 1, 'zipmap')[0] as number;
    if (first === END && !isValue) return;
    let length = first;
    at += 1;
    if (first === 254) {
      length = slice(blob, at, 4, 'zipmap').readUInt32LE();
      at += 4;
    } else if (first === END) {
      throw bad(blob, 'zipmap');
    }
    const free = isValue ? (slice(blob, at++, 1, 'zipmap')[0] as number) : 0;
    yield slice(blob, at, length, 'zipmap');
    at += length + free;
  }
}

const INTSET_HEADER_BYTES = 8;

export function* intset(blob: Blob): Generator<Buffer, void> {
  const header = slice(blob, 0, INTSET_HEADER_BYTES, 'intset');
  const width = header.readUInt32LE(0);
  const count = header.readUInt32LE(4);
  if (width !== 2 && width !== 4 && width !== 8) throw bad(blob, 'intset');
  if (INTSET_HEADER_BYTES + count * width > blob.bytes.length) throw bad(blob, 'intset');
  for (let i = 0; i < count; i++) {
    yield signedAt(blob, INTSET_HEADER_BYTES + i * width, width, 'intset');
  }
}
