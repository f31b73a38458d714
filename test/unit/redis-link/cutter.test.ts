import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCommand, encodeCommands } from '../../../src/binlog/resp.ts';
import { StopError } from '../../../src/runtime/errors.ts';
import { CommandCutter } from '../../../src/sources/redis-link/cutter.ts';
import { parsePlace, type StreamPlace } from '../../../src/sources/redis-link/position.ts';
import type { Entry } from '../../../src/sources/source.ts';

const replid = 'a'.repeat(40);
const START = { replid, offset: 1_000, db: 3, transactionBytesMax: 1024 * 1024 };

function placeOf(entry: Entry): StreamPlace {
  return parsePlace(entry.position) as StreamPlace;
}

function cut(stream: Buffer, sizes: readonly number[] = [stream.length]): Entry[] {
  const cutter = new CommandCutter(START);
  const entries: Entry[] = [];
  let at = 0;
  for (let i = 0; at < stream.length; i++) {
    const size = Math.max(1, sizes[i % sizes.length] as number);
    entries.push(...cutter.push(stream.subarray(at, at + size), 5));
    at += size;
  }
  return entries;
}

const word = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));
const plain = fc.array(word, { maxLength: 5 }).map((args) => encodeCommand(['SET', ...args]));
const unit = fc.oneof(
  { weight: 8, arbitrary: plain },
  { weight: 1, arbitrary: fc.nat(15).map((db) => encodeCommand(['select', db])) },
  { weight: 1, arbitrary: fc.constant(Buffer.from('\n')) },
  { weight: 1, arbitrary: fc.constant(encodeCommand(['PING'])) },
  {
    weight: 1,
    arbitrary: fc
      .array(plain, { maxLength: 400 })
      .map((inner) => Buffer.concat([encodeCommand(['MULTI']), ...inner, encodeCommand(['EXEC'])])),
  },
);

test('every byte is in one entry, whatever the pieces; only newlines are left out', () => {
  fc.assert(
    fc.property(
      fc.array(unit, { minLength: 1, maxLength: 60 }),
      fc.array(fc.integer({ min: 1, max: 5_000 }), { minLength: 1, maxLength: 9 }),
      (units, sizes) => {
        const stream = Buffer.concat(units);
        const entries = cut(stream, sizes);
        let at = START.offset;
        let db = START.db;
        for (const entry of entries) {
          const { offset } = placeOf(entry);
          const start = offset - entry.resp.length;
          // Between two entries there is nothing but newlines.
          for (let i = at; i < start; i++) expect(stream[i - START.offset]).toBe(10);
          expect(entry.resp.equals(stream.subarray(start - START.offset, offset - START.offset))).toBe(true);
          expect(entry.db).toBe(db);
          db = placeOf(entry).db;
          at = offset;
        }
        for (let i = at; i < START.offset + stream.length; i++) expect(stream[i - START.offset]).toBe(10);
        for (const { resp } of entries) expect(count(resp, 'MULTI')).toBe(count(resp, 'EXEC'));
      },
    ),
    { numRuns: 300 },
  );
});

function count(resp: Buffer, name: string): number {
  return resp.toString('latin1').split(`*1\r\n$${name.length}\r\n${name}\r\n`).length - 1;
}

test('the place behind an entry names the database that is selected there', () => {
  const [entry] = cut(
    encodeCommands([
      ['SET', 'a', '1'],
      ['SELECT', 7],
      ['SET', 'b', '1'],
    ]),
  );
  expect(entry?.db).toBe(3);
  expect(placeOf(entry as Entry)).toMatchObject({ db: 7, replid });
});

test('entries do not change while more is read', () => {
  const big = encodeCommands(Array.from({ length: 5_000 }, (_, i) => ['SET', `key:${i}`, 'x'.repeat(300)]));
  const cutter = new CommandCutter(START);
  const entries: { entry: Entry; was: Buffer }[] = [];
  for (let at = 0; at < big.length; at += 60_000) {
    for (const entry of cutter.push(big.subarray(at, at + 60_000), 0))
      entries.push({ entry, was: Buffer.from(entry.resp) });
  }
  for (const { entry, was } of entries) expect(entry.resp.equals(was)).toBe(true);
  expect(Buffer.concat(entries.map(({ was }) => was)).equals(big)).toBe(true);
  expect(entries.every(({ entry }) => entry.resp.length < 34_000)).toBe(true);
});

test('a value larger than a block is one entry', () => {
  const command = encodeCommand(['SET', 'big', Buffer.alloc(5_000_000, 'v')]);
  const entries = cut(Buffer.concat([encodeCommand(['PING']), command, encodeCommand(['PING'])]), [65_536]);
  const [big] = entries.filter(({ resp }) => resp.includes(command));
  expect(big?.resp.buffer.byteLength).toBeGreaterThanOrEqual(command.length);
  expect(big?.resp.buffer.byteLength).toBeLessThan(command.length + 1_100_000);
});

test('a transaction above the limit stops', () => {
  const cutter = new CommandCutter({ ...START, transactionBytesMax: 10_000 });
  cutter.push(encodeCommand(['MULTI']), 0);
  const more = () => {
    for (let i = 0; i < 100; i++) cutter.push(encodeCommand(['SET', 'k', 'x'.repeat(200)]), 0);
  };
  expect(more).toThrow(StopError);
  expect(more).toThrow(/transaction at offset 1015 .* more than 10000 bytes/);
});

test.each([
  ['+OK\r\n', 1_000],
  ['*1\r\n$4\r\nPINGx\r\n', 1_012],
  ['*1\r\n:4\r\n', 1_004],
  ['*0\r\n', 1_001],
])('what is no command (%j) stops at its offset', (text, offset) => {
  const push = () => new CommandCutter(START).push(Buffer.from(text.padEnd(40, 'x')), 0);
  expect(push).toThrow(`at offset ${offset}`);
});
