import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import { BlockError, type BlockItem, BlockReader } from '../../src/pika/block-reader.ts';
import { decodeItem, ItemError } from '../../src/pika/item.ts';
import { translateItem } from '../../src/pika/translate.ts';
import { FRAME_BYTES_MAX, FrameReader, frameOf } from '../../src/sources/pika/frames.ts';
import { readResponse } from '../../src/sources/pika/messages.ts';
import { PikaBinlogWriter } from '../support/pika-binlog-writer.ts';
import { command, cut, damaged, runs, sizes, value } from './bytes.ts';

const MIB = 1024 * 1024;

test('frames are whole and in order however they are cut, and damage is an error or other frames', () => {
  const stream = fc.array(value, { maxLength: 5 }).map((list) => Buffer.concat(list.map(frameOf)));
  fc.assert(
    fc.property(damaged(stream), sizes, (bytes, pieceSizes) => {
      const read = (pieces: readonly Buffer[]) => {
        const reader = new FrameReader();
        const frames: Buffer[] = [];
        try {
          for (const piece of pieces) for (const frame of reader.push(piece)) frames.push(Buffer.from(frame));
          expect(reader.heldBytes).toBeLessThanOrEqual(MIB);
          return { frames, error: undefined };
        } catch (error) {
          return { frames, error: String(error) };
        }
      };
      const whole = read([bytes]);
      expect(read(cut(bytes, pieceSizes))).toEqual(whole);
      expect(bytes.subarray(0, Buffer.concat(whole.frames.map(frameOf)).length)).toEqual(
        Buffer.concat(whole.frames.map(frameOf)),
      );
    }),
    runs(2_000),
  );
});

test('a frame that is only announced takes no memory, and one that arrives at most twice its size', () => {
  const reader = new FrameReader();
  const header = Buffer.alloc(4);
  header.writeUInt32BE(FRAME_BYTES_MAX);
  expect([...reader.push(header)]).toEqual([]);
  expect([...reader.push(Buffer.from('x'))]).toEqual([]);
  expect(reader.heldBytes).toBeLessThanOrEqual(MIB);
  const piece = Buffer.alloc(MIB, 'y');
  for (let n = 1; n <= 20; n++) {
    expect([...reader.push(piece)]).toEqual([]);
    expect(reader.heldBytes).toBeLessThanOrEqual(2 * (n + 1) * MIB);
  }
});

test('a frame of many pieces is put together byte for byte', () => {
  const message = Buffer.alloc(5 * MIB + 3);
  for (let at = 0; at < message.length; at++) message[at] = (at * 7) % 251;
  const reader = new FrameReader();
  const found = cut(
    Buffer.concat([frameOf(message), frameOf(Buffer.from('z'))]),
    [100_000, 1, 70_001],
  ).flatMap((piece) => [...reader.push(piece)].map((frame) => Buffer.from(frame)));
  expect(found.map((frame) => frame.length)).toEqual([message.length, 1]);
  expect(found[0]?.equals(message)).toBe(true);
});

test('any message of a master is read or refused', async () => {
  const lines = (await readFile(new URL('../fixtures/pika/session-v4.0.1.jsonl', import.meta.url), 'utf8'))
    .trim()
    .split('\n');
  const recorded = lines
    .map((line) => JSON.parse(line) as { from?: string; hex?: string })
    .flatMap(({ from, hex }) =>
      from === 'master' && hex !== undefined ? [Buffer.from(hex, 'hex').subarray(4)] : [],
    );
  expect(recorded.length).toBeGreaterThan(5);
  fc.assert(
    fc.property(damaged(fc.oneof(fc.constantFrom(...recorded), value)), (frame) => {
      try {
        const response = readResponse(frame);
        if (response.kind !== 'binlogSync') return;
        // Nothing is made of it that the frame does not hold.
        const bytes = response.items.reduce((sum, item) => sum + item.bytes.length, 0);
        expect(bytes).toBeLessThanOrEqual(frame.length);
      } catch (error) {
        // What protobufjs throws, and no assertion of this test.
        expect(error).toBeInstanceOf(Error);
        expect((error as Error).name).toMatch(/^(Error|RangeError|ProtocolError)$/);
        expect((error as Error).message).toMatch(
          /out of range|wire type|wireType|missing required|invalid|illegal|depth/i,
        );
      }
    }),
    runs(3_000),
  );
});

const VERBS = [
  'SET',
  'set',
  'PKSETEXAT',
  'SETEX',
  'EXPIRE',
  'PEXPIRE',
  'PKPATTERNMATCHDEL',
  'MULTI',
  'SELECT',
  'slotsmgrt-exec-wrapper',
];
const logged = fc.oneof(
  command,
  fc
    .tuple(
      fc.constantFrom(...VERBS),
      fc.array(fc.oneof(value, fc.constantFrom('EX', 'VX', '10', '-1').map(Buffer.from)), { maxLength: 5 }),
    )
    .map(([verb, args]) => [Buffer.from(verb), ...args]),
);

function itemOf(content: Buffer): Buffer {
  const header = Buffer.alloc(34);
  header.writeUInt16LE(1, 0);
  header.writeUInt32LE(1_700_000_000, 2);
  header.writeUInt32LE(content.length, 30);
  return Buffer.concat([header, content]);
}

test('an item of the binlog becomes whole commands, nothing, or a reason', () => {
  const kinds = new Map<string, number>();
  fc.assert(
    fc.property(damaged(logged.map((args) => itemOf(encodeCommand(args)))), (bytes) => {
      try {
        const translation = translateItem(decodeItem(bytes));
        kinds.set(translation.kind, (kinds.get(translation.kind) ?? 0) + 1);
        if (translation.kind !== 'commands') return;
        const scanner = new RespScanner();
        scanner.reset(translation.resp);
        let count = 0;
        while (scanner.next()) count++;
        expect(count).toBe(1);
      } catch (error) {
        if (!(error instanceof ItemError)) throw error;
        kinds.set('no item', (kinds.get('no item') ?? 0) + 1);
      }
    }),
    runs(4_000),
  );
  for (const kind of ['commands', 'nothing', 'cannot', 'no item'])
    expect(kinds.get(kind), kind).toBeGreaterThan(50);
});

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lanegate-fuzz-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function blocksOf(
  path: string,
  bound: number | undefined,
): Promise<{ items: BlockItem[]; error: BlockError | undefined }> {
  const items: BlockItem[] = [];
  await using file = await open(path);
  const reader = new BlockReader({ file, from: 0, bound });
  try {
    for (let next = await reader.next(); next !== undefined; next = await reader.next()) items.push(...next);
    return { items, error: undefined };
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    return { items, error };
  }
}

test('blocks with any byte wrong give the items in front of it, then an error at its offset or the end', async () => {
  const writer = new PikaBinlogWriter(dir);
  for (let n = 0; n < 40; n++) writer.append(['SET', `key:${n}`, 'v'.repeat((n * 977) % 9_000)]);
  writer.append(['SET', 'large', 'x'.repeat(150_000)]);
  for (let n = 0; n < 5; n++) writer.append(['SET', `key:${n}`, 'v']);
  writer.write();
  const whole = await readFile(join(dir, 'write2file0'));
  const right = (await blocksOf(join(dir, 'write2file0'), undefined)).items.map(({ start, end, bytes }) => ({
    start,
    end,
    bytes,
  }));
  expect(right.length).toBe(46);
  const path = join(dir, 'damaged');
  let errors = 0;
  await fc.assert(
    fc.asyncProperty(damaged(fc.constant(whole)), fc.boolean(), async (bytes, bounded) => {
      await writeFile(path, bytes);
      const { items, error } = await blocksOf(path, bounded ? whole.length : undefined);
      const same = firstDifference(whole, bytes);
      const before = right.filter(({ end }) => end <= same);
      expect(items.length).toBeGreaterThanOrEqual(before.length);
      for (const [i, item] of before.entries()) {
        expect(items[i]?.end).toBe(item.end);
        expect(items[i]?.bytes.equals(item.bytes)).toBe(true);
      }
      const total = items.reduce((sum, item) => sum + item.bytes.length, 0);
      expect(total).toBeLessThanOrEqual(bytes.length);
      if (error === undefined) return;
      errors++;
      expect(error.offset).toBeGreaterThanOrEqual(0);
      expect(error.offset).toBeLessThanOrEqual(Math.max(whole.length, bytes.length));
    }),
    runs(150),
  );
  expect(errors).toBeGreaterThan(20);
});

function firstDifference(a: Buffer, b: Buffer): number {
  const length = Math.min(a.length, b.length);
  for (let at = 0; at < length; at++) if (a[at] !== b[at]) return at;
  return length;
}
