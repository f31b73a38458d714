/** What Pika writes for one command, in its binlog files and on the wire alike. */
export interface PikaItem {
  /** Unix seconds, by the clock of the node that wrote this binlog: a Pika slave stamps anew. */
  readonly execTimeS: number;
  readonly termId: number;
  /** One more for every item, but from 0 again after a full sync: identifies nothing. */
  readonly logicId: number;
  /**
   * Where the writer stood before the item, and before it went on to a new file: no position to resume from. That is
   * the end of the item, which only the file or the message around it tells.
   */
  readonly startFilenum: number;
  readonly startOffset: number;
  /** One command as a RESP array; of a `padding` item something else. A view of the bytes that were decoded. */
  readonly resp: Buffer;
}

export const ITEM_HEADER_BYTES = 34;
export const ITEM_TYPE = 1;
const TWO_32 = 2 ** 32;

export class ItemError extends Error {
  override readonly name = 'ItemError';
  readonly expected: string;

  constructor(expected: string, found: string) {
    super(`not a binlog item: expected ${expected}, found ${found}`);
    this.expected = expected;
  }
}

/** Little-endian: type u16, time u32, term u32, logic id u64, filenum u32, offset u64, length u32, content. @throws ItemError */
export function decodeItem(bytes: Buffer): PikaItem {
  if (bytes.length < ITEM_HEADER_BYTES)
    throw new ItemError(`at least ${ITEM_HEADER_BYTES} bytes`, String(bytes.length));
  const type = bytes.readUInt16LE(0);
  if (type !== ITEM_TYPE) throw new ItemError(`item type ${ITEM_TYPE}`, String(type));
  const content = bytes.readUInt32LE(30);
  if (content !== bytes.length - ITEM_HEADER_BYTES)
    throw new ItemError(`${content} bytes of content`, String(bytes.length - ITEM_HEADER_BYTES));
  return {
    execTimeS: bytes.readUInt32LE(2),
    termId: bytes.readUInt32LE(6),
    logicId: uint64At(bytes, 10),
    startFilenum: bytes.readUInt32LE(18),
    startOffset: uint64At(bytes, 22),
    resp: bytes.subarray(ITEM_HEADER_BYTES),
  };
}

/** Exact up to 2^53, which no file reaches. */
export function uint64At(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * TWO_32;
}
