import { expect, test } from 'vitest';
import { plot } from '../../../bench/plot.ts';

const chart = (values: readonly number[]) => ({
  title: 'lanes',
  points: values.map((value, at) => ({ label: `n${at}`, value, note: `${value} k/s` })),
});

const heights = (svg: string) => [...svg.matchAll(/cy="([\d.]+)"/g)].map(([, y]) => Number(y));

test('a higher value is drawn higher, and equal ones alike in every chart of a row', () => {
  const [low, middle, high, again] = heights(plot('t', 'u', [chart([0.1, 0.2, 0.4]), chart([0.2])]));
  expect(low).toBeGreaterThan(middle as number);
  expect(middle).toBeGreaterThan(high as number);
  expect(again).toBe(middle);
});

test('distances are proportional to the values', () => {
  const [zero = 0, half = 0, whole = 0] = heights(plot('t', 'u', [chart([0, 1, 2])]));
  expect(zero - whole).toBeCloseTo(2 * (zero - half), 0);
});

test('every point stands inside the picture', () => {
  const svg = plot('t', 'u', [chart([0, 999]), chart([5]), chart([37])]);
  const height = Number(/height="(\d+)" role/.exec(svg)?.[1]);
  for (const y of heights(svg)) {
    expect(y).toBeGreaterThan(0);
    expect(y).toBeLessThan(height);
  }
});

test('what has a meaning in XML is escaped', () => {
  const svg = plot('a < b & "c"', 'u', [chart([1])]);
  expect(svg).toContain('a &lt; b &amp; &quot;c&quot;');
});

test('no point and no number are refused', () => {
  expect(() => plot('t', 'u', [chart([])])).toThrow('no points');
  expect(() => plot('t', 'u', [chart([Number.NaN])])).toThrow('not a number');
});
