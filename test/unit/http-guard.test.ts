import { describe, expect, test } from 'vitest';
import { FailureLimit } from '../../src/roles/http-guard.ts';

describe('the limit on wrong passwords', () => {
  test('closes after ten in a minute and opens when the minute is over', () => {
    let now = 1_000;
    const limit = new FailureLimit(() => now);
    for (let n = 0; n < 9; n++) limit.record('10.0.0.1');
    expect(limit.blockedForMs('10.0.0.1')).toBe(0);
    now += 20_000;
    limit.record('10.0.0.1');
    expect(limit.blockedForMs('10.0.0.1')).toBe(40_000);
    expect(limit.blockedForMs('10.0.0.2')).toBe(0);
    now += 40_000;
    expect(limit.blockedForMs('10.0.0.1')).toBe(0);
    limit.record('10.0.0.1');
    expect(limit.blockedForMs('10.0.0.1')).toBe(0);
  });

  test('remembers a bounded number of addresses, the oldest forgotten first', () => {
    const limit = new FailureLimit(() => 0);
    for (let n = 0; n < 10; n++) limit.record('first');
    for (let n = 0; n < 9_999; n++) limit.record(`address ${n}`);
    expect(limit.blockedForMs('first')).toBeGreaterThan(0);
    limit.record('one too many');
    expect(limit.blockedForMs('first')).toBe(0);
  });
});
