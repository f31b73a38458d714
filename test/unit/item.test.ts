import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type GateItem,
  gateHeader,
  IndexWriter,
  insertedIn,
  type LaneItem,
  laneHeader,
  parseGateHeader,
  parseGateItem,
  parseLaneHeader,
  parseLaneItem,
  readIndex,
} from '../../src/journal/item.ts';

const NOTHING = Buffer.alloc(0);
const SEQ_MAX = 2 ** 50;
const seq = fc.oneof(
  fc.nat(200),
  fc.maxSafeNat().map((value) => value % SEQ_MAX),
);
const gap = fc.oneof({ weight: 5, arbitrary: fc.nat(40) }, fc.nat(2 ** 40));
const command = fc.record({
  gap,
  inserted: fc.boolean(),
  continues: fc.boolean(),
  lanes: fc.option(fc.uniqueArray(fc.nat(255), { minLength: 1, maxLength: 6 }), { nil: undefined }),
});
const generation = fc
  .tuple(fc.integer({ min: 1, max: 999 }), fc.nat(2 ** 31))
  .map(([counter, suffix]) => `${counter}.${suffix.toString(16)}`);

describe('the index of an item', () => {
  test('gives back what was written, in a lane item', () => {
    fc.assert(
      fc.property(seq, fc.array(command, { minLength: 1, maxLength: 400 }), (first, commands) => {
        const writer = new IndexWriter();
        writer.begin(first);
        let at = first;
        const written = commands.map(({ gap, inserted, continues }, i) => {
          if (i > 0) at += gap;
          writer.add(at, inserted, continues);
          return { seq: at, inserted, continues, lanes: undefined };
        });
        const index = writer.take();
        expect(readIndex(index, first)).toEqual(written);
        expect(insertedIn(index, 'lane')).toBe(written.filter(({ inserted }) => inserted).length);
      }),
    );
  });

  test('gives back what was written, with its lanes, in a gate item, which counts from 0', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 200 }), (commands) => {
        const writer = new IndexWriter();
        writer.begin(0);
        let at = 0;
        const written = commands.map(({ gap, inserted, continues, lanes }) => {
          at += gap;
          writer.add(at, inserted, continues);
          writer.addLanes(lanes);
          return { seq: at, inserted, continues, lanes };
        });
        const index = writer.take();
        expect(readIndex(index, 'gate')).toEqual(written);
        expect(insertedIn(index, 'gate')).toBe(written.filter(({ inserted }) => inserted).length);
      }),
    );
  });

  test('a writer begins anew: what it wrote before is gone', () => {
    const writer = new IndexWriter();
    writer.begin(1);
    writer.add(900, true, true);
    const before = writer.take();
    writer.begin(5);
    writer.add(5, false, false);
    expect(readIndex(writer.take(), 5)).toEqual([
      { seq: 5, inserted: false, continues: false, lanes: undefined },
    ]);
    expect(readIndex(before, 1)).toMatchObject([{ seq: 900 }]);
  });

  test('one that is cut short is an error, never fewer lanes or a smaller number', () => {
    const writer = new IndexWriter();
    writer.begin(0);
    writer.add(100_000, false, false);
    writer.addLanes([1, 200]);
    const whole = writer.take();
    for (let length = 1; length < whole.length; length++)
      expect(() => readIndex(whole.subarray(0, length), 'gate')).toThrow(RangeError);
  });
});

const laneItem: fc.Arbitrary<LaneItem> = fc.record({
  kind: fc.constantFrom('batch' as const, 'marker' as const),
  generation,
  seq,
  previous: seq,
  first: seq,
  count: fc.nat(10_000),
  db: fc.nat(15),
  dbLast: fc.nat(15),
  dbMax: fc.nat(15),
  timeMs: fc.nat(2 ** 41),
  deadlineMs: fc.oneof(fc.nat(2 ** 41), fc.constant(Infinity)),
  bytesBefore: fc.maxSafeNat(),
  index: fc.constant(NOTHING),
  commands: fc.constant(NOTHING),
});

const gateItem: fc.Arbitrary<GateItem> = fc.record({
  generation,
  seq,
  first: seq,
  lanes: fc.uniqueArray(fc.nat(255), { minLength: 1, maxLength: 8 }),
  previous: fc.array(seq, { minLength: 1, maxLength: 8 }),
  count: fc.nat(10_000),
  db: fc.nat(15),
  dbLast: fc.nat(15),
  dbMax: fc.nat(15),
  timeMs: fc.nat(2 ** 41),
  deadlineMs: fc.oneof(fc.nat(2 ** 41), fc.constant(Infinity)),
  bytesBefore: fc.maxSafeNat(),
  erases: fc.boolean(),
  swapped: fc.array(fc.nat(15), { maxLength: 4 }),
  title: fc.constantFrom('FLUSHDB', 'RENAME +3', 'FUNCTION LOAD', 'JSON.MERGE', 'MULTI +12'),
  index: fc.constant(NOTHING),
  commands: fc.constant(NOTHING),
});

describe('the header of an item', () => {
  test('gives back a lane item', () => {
    fc.assert(
      fc.property(laneItem, (item) => {
        const text = `${laneHeader(item)} ${item.bytesBefore}`;
        expect(parseLaneHeader(`${item.seq}-0`, text)).toEqual(item);
      }),
    );
  });

  test('gives back a gate item', () => {
    fc.assert(
      fc.property(gateItem, (item) => {
        const text = `${gateHeader(item)} ${item.bytesBefore}`;
        expect(parseGateHeader(`${item.seq}-0`, text)).toEqual(item);
      }),
    );
  });

  test('one of another kind, or without the bytes that the journal adds, is an error', () => {
    expect(() => parseLaneHeader('1-0', 'g 1.a 0 1 1 0 0 0 5 0')).toThrow('not a lane item');
    expect(() => parseLaneHeader('1-0', 'b 1.a 0 1 1 0 0 0 5')).toThrow('not a lane item');
    expect(() => parseGateHeader('1-0', 'b 1.a 0 1 1 0 0 0 5 0')).toThrow('not a gate item');
  });
});

test('bytes stay bytes', () => {
  const commands = Buffer.from([0, 255, 13, 10, 128]);
  const index = Buffer.from([4]);
  const name = Buffer.from('x');
  const header = Buffer.from('b 1.a 0 1 1 0 0 0 5 0');
  const item = parseLaneItem([Buffer.from('7-0'), [name, header, name, index, name, commands]]);
  expect([item.seq, item.index, item.commands]).toEqual([7, index, commands]);
  const gate = parseGateItem(9, 'g 1.a 9 1 0 0 0 5 0 0,1 3,4 - FLUSHDB 0', [name, index, name, commands]);
  expect([gate.seq, gate.previous, gate.index, gate.commands]).toEqual([9, [3, 4], index, commands]);
});
