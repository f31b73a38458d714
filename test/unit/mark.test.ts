import { describe, expect, test } from 'vitest';
import { frontGates, gateIsOpen } from '../../src/journal/front.ts';
import { type GateItem, parseGateHeader } from '../../src/journal/item.ts';
import { type LaneView, laneIsWhole, lanesWithGap, lowWaterMark } from '../../src/journal/mark.ts';

function view(lane: number, tail: number, next?: Partial<NonNullable<LaneView['next']>>): LaneView {
  const base = { kind: 'batch', generation: '1.a', seq: 0, previous: 0, first: 0, bytesBefore: 0, timeMs: 0 };
  const item = next && { ...base, ...next, kind: next.kind ?? ('batch' as const) };
  return { lane, tail, inBytes: 0, outBytes: 0, seen: undefined, awake: '', next: item };
}

function gate(seq: number, lanes: readonly number[]): GateItem {
  return parseGateHeader(`${seq}-0`, `g 1.a ${seq} 1 0 0 0 5 0 ${lanes} ${lanes.map(() => 0)} - X 0`);
}

describe('the low-water mark', () => {
  test('is the head when every lane has reached its tail, however far behind an idle lane is', () => {
    expect(lowWaterMark(90, [view(0, 3), view(1, 88)], [3, 88])).toBe(90);
    expect(lowWaterMark(0, [view(0, 0)], [0])).toBe(0);
  });

  test('stands directly before the first command that is not applied, not at the smallest checkpoint', () => {
    const views = [view(0, 60, { seq: 60, previous: 5, first: 50 }), view(1, 88)];
    expect(lowWaterMark(90, views, [5, 88])).toBe(49);
  });

  test('is the checkpoint where that stands inside an item of another cut', () => {
    const views = [view(0, 60, { seq: 60, previous: 5, first: 20 })];
    expect(lowWaterMark(90, views, [33])).toBe(33);
  });

  test('takes a marker for the first seq of its segment', () => {
    const marker = { kind: 'marker' as const, seq: 70, previous: 12, first: 40 };
    expect(lowWaterMark(90, [view(0, 70, marker), view(1, 90)], [12, 90])).toBe(39);
    // A prefix of the segment is applied.
    expect(lowWaterMark(90, [view(0, 70, marker), view(1, 70, marker)], [55, 55])).toBe(55);
  });

  test('is undefined while a lane has a gap or no checkpoint', () => {
    const behindAGap = view(0, 60, { seq: 60, previous: 10, first: 20 });
    expect(lowWaterMark(90, [behindAGap], [9])).toBeUndefined();
    expect(lowWaterMark(90, [view(0, 60)], [9])).toBeUndefined();
    expect(lowWaterMark(90, [view(0, 3), view(1, 3)], [3])).toBeUndefined();
  });

  test('is at most the head where a checkpoint is above it (a journal that was made anew)', () => {
    expect(lowWaterMark(20, [view(0, 20), view(1, 4)], [77, 30])).toBe(20);
  });
});

describe('a lane is whole', () => {
  test('at or above its tail, with items or without', () => {
    expect(laneIsWhole(view(0, 20), 20)).toBe(true);
    expect(laneIsWhole(view(0, 20), 35)).toBe(true);
  });

  test('below its tail if the next item follows a seq that is applied', () => {
    expect(laneIsWhole(view(0, 20, { seq: 20, previous: 7, first: 8 }), 7)).toBe(true);
    expect(laneIsWhole(view(0, 20, { seq: 20, previous: 7, first: 8 }), 6)).toBe(false);
    expect(laneIsWhole(view(0, 20), 19)).toBe(false);
  });

  test('never with a missing checkpoint, not even an empty one', () => {
    expect(lanesWithGap([view(0, 0), view(1, 0)], [0])).toEqual([1]);
  });
});

describe('gates at the front', () => {
  test('a gate is open until every lane of it has passed it', () => {
    expect(gateIsOpen(gate(9, [0, 2]), [9, 0, 8])).toBe(true);
    expect(gateIsOpen(gate(9, [0, 2]), [9, 0, 30])).toBe(false);
  });

  test('are those before which no open gate stands on any of their lanes', () => {
    const gates = [gate(3, [0, 1]), gate(5, [1, 2]), gate(6, [3, 4]), gate(7, [2, 5])];
    expect(frontGates(gates, [0, 0, 0, 0, 0, 0]).map(({ seq }) => seq)).toEqual([3, 6]);
    expect(frontGates(gates, [3, 3, 0, 0, 0, 0]).map(({ seq }) => seq)).toEqual([5, 6]);
  });

  test('a gate behind a blocked one blocks its own lanes as well', () => {
    const gates = [gate(3, [0, 1]), gate(5, [1, 2]), gate(7, [2, 3])];
    expect(frontGates(gates, [0, 0, 0, 0]).map(({ seq }) => seq)).toEqual([3]);
  });

  test('a gate that one lane has passed and another not is open still', () => {
    expect(frontGates([gate(3, [0, 1]), gate(5, [0, 1])], [4, 2]).map(({ seq }) => seq)).toEqual([3]);
  });
});
