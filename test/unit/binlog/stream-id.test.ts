import { describe, expect, test } from 'vitest';
import { compareIds, isId, nextId } from '../../../src/binlog/stream-id.ts';

const LAST = 2n ** 64n - 1n;

describe('stream ids', () => {
  test('are ordered as numbers, not as text', () => {
    expect(compareIds('9-1', '10-0')).toBeLessThan(0);
    expect(compareIds('10-10', '10-9')).toBeGreaterThan(0);
    expect(compareIds('10', '10-0')).toBe(0);
    expect(compareIds(`${LAST}-1`, `${LAST - 1n}-2`)).toBeGreaterThan(0);
  });

  test('have a successor, up to the last one', () => {
    expect(nextId('5-1')).toBe('5-2');
    expect(nextId('5')).toBe('5-1');
    expect(nextId(`5-${LAST}`)).toBe('6-0');
    expect(() => nextId(`${LAST}-${LAST}`)).toThrow(RangeError);
  });

  test.each(['', '-', '1-', '-1', 'a-1', '1-1-1', '$', '*', '1-*', `${LAST + 1n}-0`, ' 1'])(
    '%j is none',
    (text) => {
      expect(isId(text)).toBe(false);
      expect(() => compareIds(text, '0-0')).toThrow(TypeError);
    },
  );
});
