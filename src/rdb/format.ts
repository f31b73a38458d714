// Numbers of the RDB format (redis/redis src/rdb.h and valkey-io/valkey src/rdb.h): opcodes, value types, what a
// value of each type is made of, and since which version a type exists.
//
// Redis and Valkey share the format up to version 11. From there they differ: Redis went on with 12, Valkey with
// 80, and type 22 and opcode 243 mean something else on each side.

export const OPCODE = {
  slotImportOrKeyMeta: 243,
  slotInfo: 244,
  function2: 245,
  functionPreGa: 246,
  moduleAux: 247,
  idle: 248,
  freq: 249,
  aux: 250,
  resizeDb: 251,
  expireTimeMs: 252,
  expireTime: 253,
  selectDb: 254,
  eof: 255,
} as const;

export const TYPE = {
  string: 0,
  list: 1,
  set: 2,
  zset: 3,
  hash: 4,
  zset2: 5,
  module2: 7,
  hashZipmap: 9,
  listZiplist: 10,
  setIntset: 11,
  zsetZiplist: 12,
  hashZiplist: 13,
  listQuicklist: 14,
  streamListpacks: 15,
  hashListpack: 16,
  zsetListpack: 17,
  listQuicklist2: 18,
  streamListpacks2: 19,
  setListpack: 20,
  streamListpacks3: 21,
  hashMetadataPreGa: 22,
  hashListpackExPreGa: 23,
  hashMetadata: 24,
  hashListpackEx: 25,
  streamListpacks4: 26,
  streamListpacks5: 27,
  /** 22 in a file of Valkey's; never a byte of a file. */
  valkeyHash2: 256 + 22,
} as const;

const VALKEY_SINCE = 80;
const SHARED_UP_TO = 11;

/** Parts of a shape that are no fixed number of bytes. */
export const STRING = -1;
export const LENGTH = -2;
/** A number as text behind one byte of length (253 to 255: nan, inf, -inf). */
export const FLOAT_TEXT = -3;
/** What a module wrote: opcodes, each with its value, up to opcode 0. */
export const MODULE = -4;

/** What stands one behind the other; a nested shape stands as often as the length in front of it says. */
export type Shape = readonly (number | Shape)[];

const PENDING: Shape = [16, 8, LENGTH];

function streamShape(revision: 1 | 2 | 3 | 4 | 5): Shape {
  const consumer: Shape = [STRING, revision >= 3 ? 16 : 8, [16]];
  const offset = revision >= 2 ? [LENGTH] : [];
  const unowned: Shape = revision >= 5 ? [[16]] : [];
  const group: Shape = [STRING, LENGTH, LENGTH, ...offset, PENDING, consumer, ...unowned];
  const counters = revision >= 2 ? [LENGTH, LENGTH, LENGTH, LENGTH, LENGTH] : [];
  const idempotence: Shape =
    revision >= 4 ? [LENGTH, LENGTH, [STRING, [STRING, LENGTH, LENGTH]], LENGTH, LENGTH] : [];
  return [[STRING, STRING], LENGTH, LENGTH, LENGTH, ...counters, group, ...idempotence];
}

interface TypeFacts {
  readonly shape: Shape;
  readonly since: number;
}

const FACTS: ReadonlyMap<number, TypeFacts> = new Map<number, TypeFacts>([
  [TYPE.string, { shape: [STRING], since: 1 }],
  [TYPE.list, { shape: [[STRING]], since: 1 }],
  [TYPE.set, { shape: [[STRING]], since: 1 }],
  [TYPE.zset, { shape: [[STRING, FLOAT_TEXT]], since: 1 }],
  [TYPE.hash, { shape: [[STRING, STRING]], since: 1 }],
  [TYPE.zset2, { shape: [[STRING, 8]], since: 8 }],
  [TYPE.module2, { shape: [LENGTH, MODULE], since: 8 }],
  [TYPE.hashZipmap, { shape: [STRING], since: 2 }],
  [TYPE.listZiplist, { shape: [STRING], since: 2 }],
  [TYPE.setIntset, { shape: [STRING], since: 2 }],
  [TYPE.zsetZiplist, { shape: [STRING], since: 2 }],
  [TYPE.hashZiplist, { shape: [STRING], since: 4 }],
  [TYPE.listQuicklist, { shape: [[STRING]], since: 7 }],
  [TYPE.streamListpacks, { shape: streamShape(1), since: 9 }],
  [TYPE.hashListpack, { shape: [STRING], since: 10 }],
  [TYPE.zsetListpack, { shape: [STRING], since: 10 }],
  [TYPE.listQuicklist2, { shape: [[LENGTH, STRING]], since: 10 }],
  [TYPE.streamListpacks2, { shape: streamShape(2), since: 10 }],
  [TYPE.setListpack, { shape: [STRING], since: 11 }],
  [TYPE.streamListpacks3, { shape: streamShape(3), since: 11 }],
  [TYPE.hashMetadataPreGa, { shape: [[LENGTH, STRING, STRING]], since: 12 }],
  [TYPE.hashListpackExPreGa, { shape: [STRING], since: 12 }],
  [TYPE.hashMetadata, { shape: [8, [LENGTH, STRING, STRING]], since: 12 }],
  [TYPE.hashListpackEx, { shape: [8, STRING], since: 12 }],
  [TYPE.streamListpacks4, { shape: streamShape(4), since: 13 }],
  [TYPE.streamListpacks5, { shape: streamShape(5), since: 14 }],
  [TYPE.valkeyHash2, { shape: [[STRING, STRING, 8]], since: VALKEY_SINCE }],
]);

export function isValkey(version: number): boolean {
  return version >= VALKEY_SINCE;
}

/** The type that a type byte means in a file of this version; undefined if it means none that is known. */
export function typeOf(byte: number, version: number): number | undefined {
  if (isValkey(version) && byte > TYPE.streamListpacks3) {
    return byte === TYPE.hashMetadataPreGa ? TYPE.valkeyHash2 : undefined;
  }
  return FACTS.has(byte) ? byte : undefined;
}

export function shapeOf(type: number): Shape {
  return (FACTS.get(type) as TypeFacts).shape;
}

/** The version to write behind a RESTORE payload of this type; undefined if the target cannot take it. */
export function payloadVersion(type: number, fileVersion: number, targetVersion: number): number | undefined {
  const since = (FACTS.get(type) as TypeFacts).since;
  let version = Math.min(fileVersion, targetVersion);
  if (isValkey(fileVersion) !== isValkey(targetVersion)) version = Math.min(version, SHARED_UP_TO);
  return version >= since ? version : undefined;
}

/** True where a value is nothing but a counted list: a count of 0 then is an empty key, which no server accepts. */
export function isCounted(type: number): boolean {
  const shape = shapeOf(type);
  return shape.length === 1 && typeof shape[0] !== 'number';
}

/** Of opcode 243 in a file of Redis': in front of a key; in one of Valkey's: by itself. */
export const KEY_META: Shape = [[4, MODULE]];
export const SLOT_IMPORT: Shape = [STRING, [LENGTH, LENGTH]];

/** Opcodes that are read over, and what stands behind them. */
export const SKIPPED: ReadonlyMap<number, Shape> = new Map<number, Shape>([
  [OPCODE.slotInfo, [LENGTH, LENGTH, LENGTH]],
  [OPCODE.resizeDb, [LENGTH, LENGTH]],
  [OPCODE.moduleAux, [LENGTH, MODULE]],
]);
