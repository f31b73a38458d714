import { describe, expect, test } from 'vitest';
import { Backoff, sleep } from '../../src/runtime/backoff.ts';
import { AbortedError } from '../../src/runtime/errors.ts';

describe('the backoff', () => {
  test('its ceiling doubles up to the maximum and falls back on reset', () => {
    const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => 1 });
    expect([1, 2, 3, 4, 5].map(() => backoff.next())).toEqual([200, 400, 800, 1000, 1000]);
    backoff.reset();
    expect(backoff.next()).toBe(200);
  });

  test('it never goes below the minimum', () => {
    const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => 0 });
    expect([backoff.next(), backoff.next()]).toEqual([100, 100]);
  });

  test('two processes do not come back in step', () => {
    const next = (random: number) => {
      const backoff = new Backoff({ minMs: 100, maxMs: 1000, random: () => random });
      return backoff.next();
    };
    expect(next(0.2)).not.toBe(next(0.7));
  });
});

describe('sleep', () => {
  test('it ends when its time has come', async () => {
    await expect(sleep(1, new AbortController().signal)).resolves.toBeUndefined();
  });

  test('it ends as aborted the moment the signal is, also if that was before', async () => {
    const controller = new AbortController();
    const sleeping = sleep(60_000, controller.signal);
    controller.abort();
    await expect(sleeping).rejects.toBeInstanceOf(AbortedError);
    await expect(sleep(60_000, controller.signal)).rejects.toBeInstanceOf(AbortedError);
  });
});
