import { describe, expect, test } from 'vitest';
import { openSource } from '../../../src/sources/open.ts';
import {
  coversPlace,
  formatSnapshot,
  formatStream,
  parsePlace,
} from '../../../src/sources/redis-link/position.ts';
import { parseLinkUrl } from '../../../src/sources/redis-link/url.ts';

const [a, b] = ['a'.repeat(40), 'b'.repeat(40)];
const huge = 999_999_999_999_999;

describe('positions of a replication link', () => {
  test('are read as they were written, and are short', () => {
    const base = {
      spool: '0mi1234ab-0123456789abcdef',
      replid: a,
      offset: huge,
      rdbVersion: 12,
      bulkBytesMax: huge,
    };
    const rdb = { version: 80, offset: huge, db: 15, piece: 7, crc: 'f'.repeat(16) };
    for (const at of ['start', 'keys', rdb, { ...rdb, crc: '' }] as const) {
      for (const taken of [0, 12]) {
        const text = formatSnapshot({ ...base, at, taken });
        expect(parsePlace(text)).toEqual({ kind: 'snapshot', ...base, at, taken });
        expect(text).toMatch(/^[\x21-\x7e]{1,512}$/);
      }
    }
    for (const before of [undefined, { replid: b, offset: 5 }]) {
      expect(parsePlace(formatStream({ replid: a, offset: 7 }, 3, before))).toEqual({
        kind: 'stream',
        replid: a,
        offset: 7,
        db: 3,
        before,
      });
    }
    expect(parsePlace('wanted')).toEqual({ kind: 'wanted' });
    expect(parsePlace(`${a}:12`)).toMatchObject({ offset: 12, db: 0 });
  });

  test.each([
    '',
    'x',
    `${a}`,
    `${a}:`,
    `${a}:-1`,
    `${a}:1:x`,
    `snap:x:${a}:1:1,1:`,
    `snap:x:${a}:1:1,1:zzz`,
    '1-0',
  ])('%j is none', (text) =>
    expect(() => parsePlace(text)).toThrow(/is not a position of a replication link/),
  );

  test('cover a head of the same history, also that before a failover, and of no other', () => {
    const head = formatStream({ replid: a, offset: 100 }, 0, { replid: b, offset: 90 });
    expect(coversPlace(`${a}:100:4`, head)).toBe(true);
    expect(coversPlace(`${a}:99:0`, head)).toBe(false);
    expect(coversPlace(`${b}:90:0`, head)).toBe(false);
    expect(coversPlace(`${b}:500:0`, head)).toBe(false);
    const atSwitch = formatStream({ replid: a, offset: 90 }, 0, { replid: b, offset: 90 });
    expect(coversPlace(`${b}:90:0`, atSwitch)).toBe(true);
    expect(coversPlace(`${b}:91:0`, atSwitch)).toBe(false);
    expect(coversPlace('wanted', head)).toBe(false);
    expect(coversPlace(`${a}:100:0`, 'wanted')).toBe(false);
    expect(coversPlace(`snap:x:${a}:500:1,1:keys`, head)).toBe(false);
  });
});

describe('the URL of a replication link', () => {
  test('names a server, and the log if there are several', () => {
    expect(parseLinkUrl('--source', 'redis://u:p@host:7000?name=orders')).toMatchObject({
      endpoint: { host: 'host', port: 7000, username: 'u', password: 'p', tls: undefined },
      name: 'orders',
    });
    expect(parseLinkUrl('--source', 'rediss://host').name).toBe('replication');
    expect(parseLinkUrl('--source', 'rediss://host').endpoint.tls).toBeDefined();
  });

  test('opens a source that is known by its log, not by its host', async () => {
    for (const url of ['redis://u:secret@one', 'rediss://two:7000']) {
      const source = openSource(url, { name: 'test' });
      expect(source).toMatchObject({ identity: 'redis-link:replication', replication: true });
      expect(source.display).not.toContain('secret');
      await source.close();
    }
    expect(openSource('redis://one?name=orders', { name: 'test' }).identity).toBe('redis-link:orders');
  });

  test.each([
    ['redis://host/3', /all databases/],
    ['redis://host?db=1', /only \?name= is known/],
    ['redis://host?name=a:b', /takes letters/],
  ])('%s is refused', (url, why) => expect(() => parseLinkUrl('--source', url)).toThrow(why));
});
