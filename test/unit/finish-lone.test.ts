import { expect, test } from 'vitest';
import { atTargetOnly } from '../../src/finish/lone.ts';
import type { Pair } from '../../src/verify/values/pair.ts';

const SESSION = { db: 0, key: Buffer.from('session') };

/** What EXISTS says at each side, look by look. */
function servers(looks: { readonly source: readonly number[]; readonly target: readonly number[] }): Pair {
  const side = (answers: readonly number[]) => {
    let look = 0;
    return { select: () => Promise.resolve(true), call: () => Promise.resolve([answers[look++]]) };
  };
  return { source: side(looks.source), target: side(looks.target) } as unknown as Pair;
}

test('a key that is written and ends again between two looks is looked at once more', async () => {
  let waits = 0;
  const pair = servers({ source: [0, 0, 0], target: [1, 1, 0] });
  const left = await atTargetOnly(pair, [SESSION], () => Promise.resolve(void waits++));
  expect(left).toEqual([]);
  expect(waits).toBe(2);
});

test('a key that is gone on both sides, and comes again, is not asked for a second time', async () => {
  const pair = servers({ source: [0, 0], target: [0, 1] });
  expect(await atTargetOnly(pair, [SESSION], () => Promise.reject(new Error('not caught up')))).toEqual([]);
});

test('a key that stays at the target is named', async () => {
  const pair = servers({ source: [0, 0, 0, 0], target: [1, 1, 1, 1] });
  expect(await atTargetOnly(pair, [SESSION], () => Promise.resolve())).toEqual([SESSION]);
});
