// Makes a value by ordinary commands, where the target does not take it by RESTORE: DEL, what adds the elements,
// PEXPIREAT. A generator that stops whenever bytes are missing (window.need) or enough is written (sink.isFull),
// and goes on from there: of a value whose encoding is a list it holds a batch of elements, of a string a piece.
//
// Where commands are cut depends on the value alone.

import { type Collector, fields, fieldsWithDeadlines, plain, scores } from './element-batch.ts';
import { TYPE } from './format.ts';
import { LzfStream } from './lzf.ts';
import { type Blob, intset, listpack, ziplist, zipmap } from './packed.ts';
import { rebuildStream } from './rebuild-stream.ts';
import { type Rebuilt, type Sink, type Steps, whole } from './rebuilt.ts';
import type { StringHead, ValueReader } from './value-reader.ts';

export function* rebuild(value: Rebuilt, reader: ValueReader, sink: Sink): Steps {
  sink.command([Buffer.from('DEL'), value.key]);
  yield* elements(value, reader, sink);
  if (value.deadline !== undefined) {
    sink.command([Buffer.from('PEXPIREAT'), value.key, Buffer.from(value.deadline)]);
  }
}

function elements(value: Rebuilt, reader: ValueReader, sink: Sink): Steps {
  const { key } = value;
  switch (value.type) {
    case TYPE.string:
      return string(value, reader, sink);
    case TYPE.list:
      return counted(reader, plain(sink, 'RPUSH', key), [STRING_PART]);
    case TYPE.listZiplist:
      return packed(reader, plain(sink, 'RPUSH', key), ziplist);
    case TYPE.listQuicklist:
      return quicklist(reader, plain(sink, 'RPUSH', key), false);
    case TYPE.listQuicklist2:
      return quicklist(reader, plain(sink, 'RPUSH', key), true);
    case TYPE.set:
      return counted(reader, plain(sink, 'SADD', key), [STRING_PART]);
    case TYPE.setIntset:
      return packed(reader, plain(sink, 'SADD', key), intset);
    case TYPE.setListpack:
      return packed(reader, plain(sink, 'SADD', key), listpack);
    case TYPE.zset:
      return counted(reader, scores(sink, key), [STRING_PART, (from) => from.floatText()]);
    case TYPE.zset2:
      return counted(reader, scores(sink, key), [STRING_PART, (from) => from.double()]);
    case TYPE.zsetZiplist:
      return packed(reader, scores(sink, key), ziplist);
    case TYPE.zsetListpack:
      return packed(reader, scores(sink, key), listpack);
    case TYPE.hash:
      return counted(reader, fields(sink, key), [STRING_PART, STRING_PART]);
    case TYPE.hashZipmap:
      return packed(reader, fields(sink, key), zipmap);
    case TYPE.hashZiplist:
      return packed(reader, fields(sink, key), ziplist);
    case TYPE.hashListpack:
      return packed(reader, fields(sink, key), listpack);
    case TYPE.hashListpackExPreGa:
      return packed(reader, fieldsWithDeadlines(sink, key, 'last'), listpack);
    case TYPE.hashListpackEx:
      return afterMinimum(reader, () => packed(reader, fieldsWithDeadlines(sink, key, 'last'), listpack));
    case TYPE.hashMetadataPreGa:
      return counted(reader, fieldsWithDeadlines(sink, key, 'first'), [
        deadlinePart(0n),
        STRING_PART,
        STRING_PART,
      ]);
    case TYPE.hashMetadata:
      return afterMinimum(reader, (minimum) => {
        const batch = fieldsWithDeadlines(sink, key, 'first');
        return counted(reader, batch, [deadlinePart(minimum - 1n), STRING_PART, STRING_PART]);
      });
    case TYPE.valkeyHash2:
      return counted(reader, fieldsWithDeadlines(sink, key, 'last'), [STRING_PART, STRING_PART, timePart]);
    default:
      return rebuildStream(value, reader, sink);
  }
}

type Part = (reader: ValueReader) => Buffer | undefined;

const STRING_PART: Part = (reader) => reader.string();

function timePart(reader: ValueReader): Buffer | undefined {
  const time = reader.time();
  return time === undefined ? undefined : Buffer.from(time);
}

/** 0 is none; else it counts from `base`. */
function deadlinePart(base: bigint): Part {
  return (reader) => {
    const ahead = reader.wide();
    if (ahead === undefined) return undefined;
    return Buffer.from(String(ahead === 0n ? 0n : base + ahead));
  };
}

function* afterMinimum(reader: ValueReader, then: (minimum: bigint) => Steps): Steps {
  const minimum = yield* whole(() => reader.time());
  yield* then(BigInt(minimum));
}

function* counted(reader: ValueReader, batch: Collector, parts: readonly Part[]): Steps {
  let left = yield* whole(() => reader.length());
  for (; left > 0; left--) {
    for (const part of parts) {
      let element = part(reader);
      for (; element === undefined; element = part(reader)) yield;
      batch.add(element);
    }
    if (batch.isFull) yield;
  }
  batch.flush();
}

function* packed(reader: ValueReader, batch: Collector, list: (blob: Blob) => Generator<Buffer>): Steps {
  yield* addPacked(reader, batch, list);
  batch.flush();
}

function* addPacked(reader: ValueReader, batch: Collector, list: (blob: Blob) => Generator<Buffer>): Steps {
  const { offset } = reader.window;
  const bytes = yield* whole(() => reader.string());
  for (const element of list({ bytes, offset })) {
    batch.add(element);
    if (batch.isFull) yield;
  }
}

const PLAIN_NODE = 1;

function* quicklist(reader: ValueReader, batch: Collector, hasContainers: boolean): Steps {
  let left = yield* whole(() => reader.length());
  for (; left > 0; left--) {
    const container = hasContainers ? yield* whole(() => reader.length()) : 2;
    if (container === PLAIN_NODE) {
      const element = yield* whole(() => reader.string());
      batch.add(element);
    } else if (container === 2) {
      yield* addPacked(reader, batch, hasContainers ? listpack : ziplist);
    } else {
      throw reader.window.bad('a quicklist node');
    }
    if (batch.isFull) yield;
  }
  batch.flush();
}

function* string(value: Rebuilt, reader: ValueReader, sink: Sink): Steps {
  const { key, pieceBytes } = value;
  let command = Buffer.from('SET');
  const piece = (bytes: Buffer) => {
    sink.command([command, key, bytes]);
    command = Buffer.from('APPEND');
  };
  const head = yield* whole(() => reader.stringHead());
  if (head.lzfBytes !== undefined) return yield* lzfString(reader, head, pieceBytes, piece, sink);
  let left = head.bytes;
  do {
    const bytes = Math.min(left, pieceBytes);
    const part = yield* whole(() => head.text ?? reader.bytes(bytes));
    piece(part);
    left -= bytes;
    if (sink.isFull) yield;
  } while (left > 0);
}

/** Bytes that are unpacked at a time. */
const LZF_ROOM_BYTES = 1_048_576;
const LZF_INPUT_BYTES = 65_536;

function* lzfString(
  reader: ValueReader,
  head: StringHead,
  pieceBytes: number,
  piece: (bytes: Buffer) => void,
  sink: Sink,
): Steps {
  const { window } = reader;
  const lzf = new LzfStream(LZF_ROOM_BYTES);
  let packedLeft = head.lzfBytes as number;
  let left = head.bytes;
  while (packedLeft > 0) {
    const ready = Math.min(packedLeft, LZF_INPUT_BYTES);
    while (window.length < ready) {
      window.short(ready);
      yield;
    }
    const used = lzf.push(window.buffer.subarray(window.at, window.at + ready), ready === packedLeft);
    if (used < 0) throw window.bad('an LZF string');
    window.at += used;
    packedLeft -= used;
    if (lzf.length > left) throw window.bad('an LZF string of the length that it claims');
    while (lzf.length > 0) {
      const bytes = lzf.take(pieceBytes);
      left -= bytes.length;
      piece(bytes);
      if (sink.isFull) yield;
    }
  }
  if (left !== 0) throw window.bad('an LZF string of the length that it claims');
}
