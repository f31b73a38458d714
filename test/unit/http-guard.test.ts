import { describe, expect, test } from 'vitest';
import { callerOf, FailureLimit } from '../../src/roles/http-guard.ts';

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

test.each([
  ['10.0.0.1', '10.0.0.1'],
  ['::ffff:10.0.0.1', '10.0.0.1'],
  ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
  ['2001:db8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
  ['2001:db8:1:3::1', '2001:db8:1:3::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:0DB8:0::', '2001:db8:0:0::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['1:2::192.0.2.1', '1:2:0:0::/64'],
  ['::1', '0:0:0:0::/64'],
])('guesses of %s count for %s', (address, caller) => {
  expect(callerOf(address)).toBe(caller);
});
