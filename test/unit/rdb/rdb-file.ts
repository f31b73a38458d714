import { Crc64 } from '../../../src/rdb/crc64.ts';

/** Bytes of an RDB file by hand: what no server at hand can write. */
export type Part = Buffer | string | number | readonly Part[];

export function bytes(...parts: readonly Part[]): Buffer {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'number') return Buffer.from([part]);
      if (typeof part === 'string') return Buffer.from(part, 'latin1');
      return Buffer.isBuffer(part) ? part : bytes(...part);
    }),
  );
}

/** A length of the shortest form. */
export function len(n: number | bigint): Buffer {
  if (n < 64) return Buffer.from([Number(n)]);
  if (n < 16_384) return Buffer.from([0x40 | (Number(n) >> 8), Number(n) & 255]);
  const long = Buffer.alloc(9, 0x81);
  long.writeBigUInt64BE(BigInt(n), 1);
  return long;
}

export function str(content: string | Buffer): Buffer {
  return bytes(len(content.length), content);
}

export function int64(n: number | bigint): Buffer {
  const eight = Buffer.alloc(8);
  eight.writeBigInt64LE(BigInt(n));
  return eight;
}

export function double(n: number): Buffer {
  const eight = Buffer.alloc(8);
  eight.writeDoubleLE(n);
  return eight;
}

/** 16 bytes, big-endian. */
export function rawId(ms: number, seq: number): Buffer {
  const id = Buffer.alloc(16);
  id.writeBigUInt64BE(BigInt(ms), 0);
  id.writeBigUInt64BE(BigInt(seq), 8);
  return id;
}

/** A whole file: the records between header and EOF. */
export function rdb(version: string, ...records: readonly Part[]): Buffer {
  const body = bytes(version, ...records, 0xff);
  return bytes(body, new Crc64().sum(Buffer.alloc(8), body));
}

function uint16(n: number): Buffer {
  return Buffer.from([n & 255, n >> 8]);
}

function uint32(n: number): Buffer {
  return Buffer.concat([uint16(n & 0xffff), uint16(n >>> 16)]);
}

/** Short strings and small integers only. */
export function listpack(...elements: readonly (string | number)[]): Buffer {
  const entries = elements.map((element) => {
    if (typeof element === 'string') return bytes(0x80 | element.length, element, element.length + 1);
    if (element >= 0 && element < 128) return bytes(element, 1);
    if (element >= -4096 && element < 4096) {
      const raw = element & 0x1fff;
      return bytes(0xc0 | (raw >> 8), raw & 255, 2);
    }
    return bytes(0xf4, int64(element), 9);
  });
  const body = Buffer.concat(entries);
  return bytes(uint32(body.length + 7), uint16(elements.length), body, 0xff);
}

/** Short strings and integers of each width. */
export function ziplist(...elements: readonly (string | number)[]): Buffer {
  let before = 0;
  const entries = elements.map((element) => {
    const entry = bytes(before, ziplistBody(element));
    before = entry.length;
    return entry;
  });
  const body = Buffer.concat(entries);
  const tail = entries.length === 0 ? 10 : 10 + body.length - before;
  return bytes(uint32(body.length + 11), uint32(tail), uint16(elements.length), body, 0xff);
}

function ziplistBody(element: string | number): Buffer {
  if (typeof element === 'string') return str(element);
  if (element >= 0 && element <= 12) return bytes(0xf1 + element);
  const [mark, width] = (
    [
      [0xfe, 1],
      [0xc0, 2],
      [0xf0, 3],
      [0xd0, 4],
    ] as const
  ).find(([, size]) => Math.abs(element) < 2 ** (8 * size - 1)) ?? [0xe0, 8];
  const number = int64(element).subarray(0, width);
  return bytes(mark, number);
}

export function intset(width: 2 | 4 | 8, ...elements: readonly number[]): Buffer {
  return bytes(
    uint32(width),
    uint32(elements.length),
    ...elements.map((element) => int64(element).subarray(0, width)),
  );
}
