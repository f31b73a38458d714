import { describe, expect, test } from 'vitest';
import { encodeCommand } from '../../../src/binlog/resp.ts';
import { RECENT_ITEMS, RECENT_SECONDS, Recent } from '../../../src/sources/pika/recent.ts';
import { StaleKeys } from '../../../src/sources/pika/stale-keys.ts';
import { PikaLog } from '../../support/pika-log.ts';

const TIME = 1_700_000_000;
const START = { filenum: 0, offset: 0 };

function filled(count: number, timeS = TIME): { log: PikaLog; recent: Recent } {
  const log = new PikaLog(1e9);
  const recent = new Recent(START);
  for (let i = 0; i < count; i++) {
    log.append(['SET', `key${i}`, 'v'], timeS);
    recent.push(log.items[i] as (typeof log.items)[0], timeS);
  }
  return { log, recent };
}

describe('what a FLUSHDB may have left alive', () => {
  test('is as many items back, whoever began to read the log where', () => {
    const count = 3 * RECENT_ITEMS;
    const { log, recent } = filled(count);
    const keys = recent.keysBefore(TIME);
    expect(keys.size).toBe(RECENT_ITEMS);
    expect(keys.has(`key${count - RECENT_ITEMS}`)).toBe(true);
    const again = new Recent(recent.start);
    for (const item of log.items.slice(log.indexBehind(recent.start))) again.push(item, TIME);
    expect(again.keysBefore(TIME)).toEqual(keys);
  });

  test('is not older than some seconds, nor of more than some bytes, but of a few items in any case', () => {
    const { log, recent } = filled(10);
    expect(recent.keysBefore(TIME + RECENT_SECONDS).size).toBe(10);
    expect(recent.keysBefore(TIME + RECENT_SECONDS + 1).size).toBe(0);
    for (let i = 0; i < 20; i++) {
      log.append(['SET', `large${i}`, 'x'.repeat(1_000_000)], TIME);
      recent.push(log.items.at(-1) as (typeof log.items)[0], TIME);
    }
    expect(recent.keysBefore(TIME).size).toBe(30);
    for (let i = 0; i < 400; i++) {
      log.append(['SET', `large${i}`, 'x'.repeat(1_000_000)], TIME);
      recent.push(log.items.at(-1) as (typeof log.items)[0], TIME);
    }
    expect(recent.keysBefore(TIME).size).toBe(64);
    expect(recent.start.offset).toBeGreaterThan(250e6);
  });
});

describe('a stale key', () => {
  const effect = (...args: string[]) => ({
    kind: 'keys' as const,
    keys: args[0] === 'RENAME' ? args.slice(1) : args.slice(1, 2),
    resp: encodeCommand(args),
    timeS: TIME,
  });

  test('takes in nothing but what tells all of it, and makes its companions stale', () => {
    const stale = new StaleKeys();
    stale.emptied(['a', 'lanegate:x']);
    expect([...stale.keys()]).toEqual(['a']);
    expect(stale.passes(effect('APPEND', 'b', '1'))).toBe(true);
    expect(stale.passes(effect('APPEND', 'a', '1'))).toBe(false);
    expect(stale.passes(effect('SET', 'a', '1', 'NX', 'EX', '5'))).toBe(false);
    expect(stale.passes(effect('RENAME', 'b', 'a'))).toBe(false);
    expect(stale.passes(effect('APPEND', 'b', '1'))).toBe(false);
    expect(stale.passes(effect('SET', 'a', '1'))).toBe(true);
    expect(stale.passes(effect('APPEND', 'a', '1'))).toBe(true);
    expect(stale.passes(effect('DEL', 'b'))).toBe(true);
    expect(stale.size).toBe(0);
  });
});
