// Adds to the deadlines of single hash fields in what DUMP gives and RESTORE takes:
//
//   type (1 byte), value, RDB version (2 bytes), CRC64 (8 bytes)
//
// Redis' two types count all deadlines from the earliest, which stands in front: that one alone is changed. Where the
// fields are packed into a listpack they are absolute: the value is written as the other type, which a server that knows one
// knows as well. In Valkey's they stand absolute behind each field.

import { Crc64 } from './crc64.ts';
import { isValkey, TYPE } from './format.ts';
import { unpack } from './lzf.ts';
import { listpack } from './packed.ts';

const FOOTER_BYTES = 10;
const TIME_BYTES = 8;
const NO_SUM = Buffer.alloc(8);
/** Type bytes; Valkey's is 22, which release candidates of Redis 7.4 used for something else. */
const FIRST = 22;
const LAST: number = TYPE.hashListpackEx;

/** Cheap: false if `heldBack` would change nothing. */
export function mayHoldFieldDeadlines(payload: Uint8Array, at: number): boolean {
  const type = payload[at] as number;
  return type >= FIRST && type <= LAST;
}

/** The payload with `graceMs` added to every field's deadline; undefined where there is none, or it is malformed. */
export function heldBack(payload: Buffer, graceMs: number): Buffer | undefined {
  const end = payload.length - FOOTER_BYTES;
  if (end <= 1) return undefined;
  const valkey = isValkey(payload.readUInt16LE(end));
  const type = payload[0] as number;
  try {
    if (type === TYPE.hashMetadata && !valkey) return signed(withMinimum(payload, graceMs));
    if (type === TYPE.hashListpackEx && !valkey) return signed(unpacked(payload, end, graceMs));
    if (type === FIRST && valkey) return signed(withFields(payload, end, graceMs));
  } catch (error) {
    // The target says what is wrong with it.
    if (!(error instanceof RangeError) && (error as Error).name !== 'RdbError') throw error;
  }
  return undefined;
}

function withMinimum(payload: Buffer, graceMs: number): Buffer {
  const changed = Buffer.from(payload);
  changed.writeBigInt64LE(payload.readBigInt64LE(1) + BigInt(graceMs), 1);
  return changed;
}

function unpacked(payload: Buffer, end: number, graceMs: number): Buffer {
  const minimum = payload.readBigInt64LE(1);
  const { bytes } = stringAt(payload, 1 + TIME_BYTES, end);
  const elements = [...listpack({ bytes, offset: 0 })];
  const head = Buffer.from([TYPE.hashMetadata, 0, 0, 0, 0, 0, 0, 0, 0]);
  head.writeBigInt64LE(minimum + BigInt(graceMs), 1);
  const parts: Buffer[] = [head, lengthBytes(BigInt(Math.floor(elements.length / 3)))];
  for (let i = 0; i + 2 < elements.length; i += 3) {
    const [field, value, deadline] = elements.slice(i, i + 3) as [Buffer, Buffer, Buffer];
    const ms = BigInt(deadline.toString('latin1'));
    parts.push(lengthBytes(ms === 0n ? 0n : ms - minimum + 1n));
    parts.push(lengthBytes(BigInt(field.length)), field, lengthBytes(BigInt(value.length)), value);
  }
  return Buffer.concat([...parts, payload.subarray(end)]);
}

function withFields(payload: Buffer, end: number, graceMs: number): Buffer {
  const changed = Buffer.from(payload);
  const count = lengthAt(payload, 1);
  let at = count.after;
  for (let left = count.value; left > 0; left--) {
    at = stringEnd(payload, stringEnd(payload, at));
    if (at + TIME_BYTES > end) throw new RangeError('cut off');
    const ms = payload.readBigInt64LE(at);
    if (ms > 0n) changed.writeBigInt64LE(ms + BigInt(graceMs), at);
    at += TIME_BYTES;
  }
  return changed;
}

let crc: Crc64 | undefined;

/** Its CRC made anew, in place. */
function signed(payload: Buffer): Buffer {
  crc ??= new Crc64();
  const end = payload.length - NO_SUM.length;
  crc.sum(NO_SUM, payload, 0, end).copy(payload, end);
  return payload;
}

interface Length {
  readonly value: number;
  readonly after: number;
  /** Of the special forms of a string: 0 to 2 integers, 3 LZF; undefined for a length. */
  readonly form: number | undefined;
}

function lengthAt(bytes: Buffer, at: number): Length {
  const first = bytes.readUInt8(at);
  if (first < 0x40) return { value: first, after: at + 1, form: undefined };
  if (first < 0x80) {
    return { value: ((first & 0x3f) << 8) | bytes.readUInt8(at + 1), after: at + 2, form: undefined };
  }
  if (first === 0x80) return { value: bytes.readUInt32BE(at + 1), after: at + 5, form: undefined };
  if (first === 0x81) return { value: Number(bytes.readBigUInt64BE(at + 1)), after: at + 9, form: undefined };
  if (first < 0xc0 || first > 0xc3) throw new RangeError('no length');
  return { value: 0, after: at + 1, form: first & 3 };
}

function stringEnd(bytes: Buffer, at: number): number {
  const { value, after, form } = lengthAt(bytes, at);
  if (form === undefined) return after + value;
  if (form < 3) return after + (1 << form);
  const packed = lengthAt(bytes, after);
  return lengthAt(bytes, packed.after).after + packed.value;
}

function stringAt(bytes: Buffer, at: number, end: number): { readonly bytes: Buffer } {
  if (stringEnd(bytes, at) !== end) throw new RangeError('not one string');
  const { after, form } = lengthAt(bytes, at);
  if (form === undefined) return { bytes: bytes.subarray(after, end) };
  const packed = lengthAt(bytes, after);
  const whole = lengthAt(bytes, packed.after);
  const text = form === 3 ? unpack(bytes.subarray(whole.after, end), whole.value) : undefined;
  if (text === undefined) throw new RangeError('no packed string');
  return { bytes: text };
}

function lengthBytes(value: bigint): Buffer {
  if (value < 64n) return Buffer.from([Number(value)]);
  if (value < 16_384n) return Buffer.from([0x40 | Number(value >> 8n), Number(value & 255n)]);
  const wide = value >= 2n ** 32n;
  const bytes = Buffer.alloc(wide ? 9 : 5);
  bytes[0] = wide ? 0x81 : 0x80;
  if (wide) bytes.writeBigUInt64BE(value, 1);
  else bytes.writeUInt32BE(Number(value), 1);
  return bytes;
}
