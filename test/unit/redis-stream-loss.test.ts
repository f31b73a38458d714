import { describe, expect, test } from 'vitest';
import { judge, type Look } from '../../src/sources/redis-stream/loss.ts';
import { parsePlace } from '../../src/sources/redis-stream/position.ts';
import type { Snapshot } from '../../src/sources/redis-stream/snapshot.ts';

const OLD: Snapshot = {
  length: 10,
  firstId: '1-0',
  lastId: '10-0',
  lastGeneratedId: '10-0',
  entriesAdded: undefined,
  maxDeletedId: undefined,
};

function look(snapshot: Partial<Snapshot>, rest: Partial<Look> = {}): Look {
  const found = { found: 5, firstFound: '6-0', sawEnd: true, wasGone: false };
  return { snapshot: { ...OLD, ...snapshot }, ...found, ...rest };
}

describe('below Redis 7.0, where no server counts entries', () => {
  test('a first entry at or before the position shows that nothing was trimmed', () => {
    const whole = { kind: 'whole', entriesRead: undefined };
    expect(judge(parsePlace('5-0'), look({}))).toEqual(whole);
    expect(judge(parsePlace('5-0'), look({ firstId: '5-0' }))).toEqual(whole);
  });

  test('a first entry behind the position is a loss', () => {
    expect(judge(parsePlace('5-0'), look({ firstId: '6-0' })).kind).toBe('lost');
  });

  test('it is none where the position was at the end, or its entry gone, at the look before', () => {
    expect(judge(parsePlace('10-0'), look({ firstId: undefined, length: 0 }, { found: 0 })).kind).toBe(
      'whole',
    );
    expect(judge(parsePlace('5-0'), look({ firstId: '6-0' }, { wasGone: true })).kind).toBe('whole');
  });

  test('the beginning is where the stream begins', () => {
    expect(judge(parsePlace('0-0'), look({ firstId: '6-0' })).kind).toBe('whole');
  });

  test('a last id below the position is a rewind', () => {
    expect(judge(parsePlace('11-0'), look({})).kind).toBe('rewound');
  });
});

describe('from Redis 7.0 on', () => {
  const counted = { entriesAdded: 10, maxDeletedId: '0-0' };

  test('the number read becomes known at the end of the stream', () => {
    expect(judge(parsePlace('5-0'), look(counted))).toEqual({ kind: 'whole', entriesRead: 5 });
    expect(judge(parsePlace('5-0'), look(counted, { sawEnd: false }))).toEqual({
      kind: 'whole',
      entriesRead: undefined,
    });
  });

  test('a reader far behind with its entry still there has lost nothing to trimming', () => {
    const lagging = { sawEnd: false, found: 2 };
    expect(judge(parsePlace('5-0@5'), look({ ...counted, entriesAdded: 10 }, lagging)).kind).toBe('whole');
  });

  test('one entry more than the counter allows is another stream, one less is a loss', () => {
    expect(judge(parsePlace('5-0@6'), look(counted)).kind).toBe('rewound');
    expect(judge(parsePlace('5-0@4'), look(counted))).toEqual({ kind: 'lost', count: 1 });
  });
});
