import { describe, expect, test } from 'vitest';
import type { GateItem } from '../../src/journal/item.ts';
import {
  flushFence,
  flushIntent,
  flushStep,
  placeWrites,
  restoreWrites,
} from '../../src/protocol/flush-gate.ts';
import { beginning } from '../../src/protocol/start.ts';
import { ControlKeys } from '../../src/target/control.ts';

const control = new ControlKeys('test');
const GENERATION = '1.ab';
const begun = beginning({
  pipeline: 'test',
  source: 's',
  from: 'beginning',
  lanes: 2,
  routing: 'r',
  generation: GENERATION,
  journal: 'j1',
  commands: '',
  graceMs: 0,
  position: '0-0',
  timeMs: 1,
});
const IDENTITY = JSON.stringify(begun.identity);
const MARK = JSON.stringify(begun.mark);
const item = { generation: GENERATION, seq: 9, lanes: [0, 1], previous: [7, 4] } as unknown as GateItem;
const at = (a: number, b: number) => [IDENTITY, MARK, `${GENERATION}:${a}`, `${GENERATION}:${b}`];
const STANDING = at(7, 4);
const EMPTY = [null, null, null, null];
const intent = flushIntent(item, 'FLUSHDB', [null, ...STANDING]);
if (!intent) throw new Error('the gate can be recorded');

describe('how far a flush that runs alone has come is told by its record and the target', () => {
  test.each([
    ['the sentinel was not placed', [null, ...STANDING], 'place'],
    ['the sentinel stands', [intent.sentinel, ...STANDING], 'flush'],
    ['another sentinel was left there', ['1.ab:3:00', ...STANDING], 'place'],
    ['sentinel and control keys are gone', [null, ...EMPTY], 'restore'],
    ['the control keys are back', [null, ...at(9, 9)], 'done'],
    ['the mark has moved since', [intent.sentinel, IDENTITY, `${MARK} `, ...STANDING.slice(2)], 'record'],
    ['only the sentinel is left', [intent.sentinel, ...EMPTY], 'foreign'],
    ['one checkpoint is gone', [intent.sentinel, ...STANDING.slice(0, 3), null], 'record'],
    ['only a mark is there', [null, null, MARK, null, null], 'foreign'],
  ])('%s', (_, values, step) => {
    expect(flushStep(intent, values as (string | null)[])).toBe(step);
  });

  test('another generation makes a record void', () => {
    const other = JSON.stringify({ ...begun.identity, generation: '2.cd' });
    expect(flushStep(intent, [null, other, MARK, '2.cd:9', '2.cd:9'])).toBe('done');
  });
});

test('a flush is recorded only where every lane stands at its marker', () => {
  expect(flushIntent(item, 'FLUSHDB', [null, ...at(6, 4)])).toBeUndefined();
  expect(flushIntent(item, 'FLUSHDB', [null, ...at(7, 9)])).toBeUndefined();
  expect(flushIntent(item, 'FLUSHDB', [null, ...EMPTY])).toBeUndefined();
  expect(flushIntent({ ...item, generation: '2.cd' }, 'FLUSHDB', [null, ...STANDING])).toBeUndefined();
});

test('with the sentinel every control key is written once more, which breaks the fences that are open', () => {
  expect(placeWrites(control, intent)).toEqual([
    [control.sentinel, intent.sentinel],
    ...control.all(2).map((key, i) => [key, STANDING[i]]),
  ]);
});

test('what is written back is what was there, with every checkpoint at the gate', () => {
  expect(restoreWrites(control, intent)).toEqual([
    [control.identity, IDENTITY],
    [control.mark, MARK],
    [control.checkpoint(0), `${GENERATION}:9`],
    [control.checkpoint(1), `${GENERATION}:9`],
  ]);
  expect(flushFence(control, 2)).toHaveLength(5);
});
