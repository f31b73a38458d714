import { expect, test } from 'vitest';
import { CommandList, type Origin } from '../../src/sequencer/command-list.ts';
import { LaneUnion, unionOf } from '../../src/sequencer/lane-set.ts';
import { commandsOf, entry, read, run, sequencer } from './sequencer-log.ts';

const originOf = (db: number): Origin => ({ buffer: Buffer.alloc(10), db, timeMs: 0, deadlineMs: Infinity });

test('a list gives back what was added, however much that is, and begins anew when it is cleared', () => {
  const list = new CommandList();
  const origins = [originOf(0), originOf(1)];
  const pair = [1, 2];
  for (const count of [70_000, 3]) {
    for (let at = 0; at < count; at++) {
      const lanes = at % 3 === 0 ? pair : at % 3 === 1 ? 'all' : at % 8;
      list.add(origins[at % 2] as Origin, at, at + 5, 2 ** 40 + at, lanes, at % 5 === 0);
    }
    expect(list.count).toBe(count);
    for (const at of [0, 1, 2, count - 1]) {
      expect([list.seq(at), list.start(at), list.end(at)]).toEqual([2 ** 40 + at, at, at + 5]);
      expect(list.origin(at)).toBe(origins[at % 2]);
      expect(list.lanes(at)).toEqual(at % 3 === 0 ? pair : at % 3 === 1 ? 'all' : at % 8);
      expect(list.tied(at)).toBe(at % 5 === 0);
    }
    list.clear();
  }
});

test('lanes are put together sorted, and once each', () => {
  expect(unionOf(3, 3)).toBe(3);
  expect(unionOf(3, 1)).toEqual([1, 3]);
  expect(unionOf(1, 3)).toBe(unionOf(3, 1));
  expect(unionOf([1, 3], 3)).toEqual([1, 3]);
  expect(unionOf([1, 30], 9)).toEqual([1, 9, 30]);
  expect(unionOf(0, [1, 30])).toEqual([0, 1, 30]);
  expect(unionOf([0, 5], 'all')).toBe('all');
  expect(unionOf(5000, 2)).toEqual([2, 5000]);
});

test('a union of lanes is empty again when it was taken', () => {
  const union = new LaneUnion(4);
  union.add(3);
  union.add([0, 3]);
  expect(union.take()).toEqual([0, 3]);
  union.add('all');
  expect(union.take()).toEqual([0, 1, 2, 3]);
  expect(union.take()).toEqual([]);
});

test('a segment of many commands has each of them once, in order, whatever it is copied from', () => {
  const limits = {
    roundBytesMax: 1e7,
    segmentBytesMax: 1e7,
    segmentGapMax: 1e4,
    segmentDenseMin: 2,
    transactionBytesMax: 1e6,
  };
  const between = Array.from({ length: 1_000 }, (_, n) =>
    n % 7 === 0 ? `EXPIRE d ${n}` : n % 11 === 0 ? `SELECT ${n % 3}` : `SET a ${n}`,
  );
  const half = between.length / 2;
  const made = run(sequencer({ limits }), [
    entry(1, ['RENAME b c', ...between.slice(0, half)]),
    entry(2, [...between.slice(half), 'RENAME c b', 'SET b 1', 'SET c 2']),
  ]);
  const found = read(made.rounds);
  expect(found.gates).toHaveLength(1);
  const values = found.gates.flatMap(commandsOf).map((text) => Number(text.split(' ')[0]));
  const selects = between.flatMap((line, n) => (line.startsWith('SELECT') ? [n + 2] : []));
  const seqs = Array.from({ length: between.length + 4 }, (_, n) => n + 1);
  expect(values).toEqual(seqs.filter((seq) => !selects.includes(seq)));
  expect([...found.lanes.values()].flat().filter(({ kind }) => kind === 'batch')).toEqual([]);
});
