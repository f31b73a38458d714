import { describe, expect, test } from 'vitest';
import { formatCommand, parseLine } from '../../../src/binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../../../src/binlog/resp.ts';
import type { PikaItem } from '../../../src/pika/item.ts';
import { type Translation, translateItem } from '../../../src/pika/translate.ts';

const EXEC_TIME_S = 1_700_000_000;

function itemOf(resp: Buffer): PikaItem {
  return { execTimeS: EXEC_TIME_S, termId: 0, logicId: 1, startFilenum: 0, startOffset: 0, resp };
}

function translated(command: string | readonly (string | Buffer)[]): Translation {
  return translateItem(itemOf(encodeCommand(typeof command === 'string' ? parseLine(command) : command)));
}

/** As a person would type it. */
function shown(translation: Translation): string {
  if (translation.kind !== 'commands') return translation.kind;
  const scanner = new RespScanner();
  scanner.reset(translation.resp);
  expect(scanner.next()).toBe(true);
  expect(scanner.end).toBe(translation.resp.length);
  return formatCommand(scanner.args());
}

/** Zeros with a few registers set. */
function registers(rank: number): Buffer {
  const bytes = Buffer.alloc(131_072);
  for (const at of [77, 4_000, 131_071]) bytes[at] = rank;
  return bytes;
}

describe('what Redis takes as it stands is passed on as a view of the item', () => {
  test.each([
    'SET k v',
    'set k v NX',
    'setnx k v',
    'DECR n',
    'INCRBY n 5',
    'expireat k 1700000100',
    'pexpireat k 1700000100000',
    'del a',
    'UNLINK a',
    'sadd t a b',
    'zadd z 1 a',
    'LPUSH l a b c',
    'rpop l',
    'XADD x 1700000000000-0 f v',
    'HSET h f v',
    'SETBIT b 7 1',
    'PFADD p a',
    'GEOADD g 1 1 a',
    'SOMETHING new',
  ])('%s', (line) => {
    const resp = encodeCommand(parseLine(line));
    const translation = translateItem(itemOf(resp));
    expect(translation).toEqual({ kind: 'commands', resp, count: 1 });
    expect(translation.kind === 'commands' && translation.resp.buffer).toBe(resp.buffer);
  });
});

describe("what only Pika's log says becomes what Redis says", () => {
  test.each([
    ['pksetexat k 0 v', 'SET k v'],
    ['PKSETEXAT k 1700001000 v', 'SET k v EXAT 1700001000'],
    ['pksetexat k 1700001000 ""', 'SET k "" EXAT 1700001000'],
    ['pksetexat k 1700001000123 v', 'SET k v PXAT 1700001000123'],
    ['pksetexat k 99999999999 v', 'SET k v EXAT 99999999999'],
    ['pksetexat k 100000000000 v', 'DEL k'],
    ['pksetexat k 4102444800000 v', 'SET k v PXAT 4102444800000'],
    ['pksetexat k 1700000001 v', 'SET k v EXAT 1700000001'],
    ['pksetexat k 1700000000 v', 'DEL k'],
    ['pksetexat k 1699999999999 v', 'DEL k'],
    ['pksetexat k 1700000000001 v', 'SET k v PXAT 1700000000001'],
    ['pksetexat k 5 v', 'DEL k'],
    ['pksetexat k -2147483000 v', 'DEL k'],
    ['SET k v EX 10 NX', 'SET k v PXAT 1700000010000 NX'],
    ['SET k v px 1500 xx', 'SET k v PXAT 1700000001500 xx'],
    ['set k v NX EX 10', 'set k v NX PXAT 1700000010000'],
    ['setex k 10 v', 'SET k v PXAT 1700000010000'],
    ['EXPIRE k 10', 'PEXPIREAT k 1700000010000'],
    ['FLUSHDB', 'FLUSHDB'],
    ['flushdb strings', 'FLUSHDB'],
    ['flushall', 'FLUSHALL'],
  ])('%s -> %s', (from, to) => {
    expect(shown(translated(from))).toBe(to);
  });

  test('binary keys and values stay what they are', () => {
    const key = Buffer.from([0, 255, 13, 10]);
    const value = Buffer.from([36, 0, 128]);
    const translation = translated(['pksetexat', key, '0', value]);
    expect(translation).toEqual({ kind: 'commands', resp: encodeCommand(['SET', key, value]), count: 1 });
  });
});

describe('what changes nothing at the target is left out', () => {
  test.each(['SUNION a b', 'sinter a b', 'SDIFF a', 'clearcache', 'dummy', 'padding 5', 'EXEC'])(
    '%s',
    (line) => {
      expect(translated(line).kind).toBe('nothing');
    },
  );

  test('slotsmgrt-exec-wrapper does not run the command that it names', () => {
    expect(translated('slotsmgrt-exec-wrapper k SET k v').kind).toBe('nothing');
  });

  test('padding is an item inside the item', () => {
    const inner = Buffer.alloc(34);
    inner[0] = 1;
    expect(translateItem(itemOf(Buffer.concat([inner, encodeCommand(['padding', 'xxx'])]))).kind).toBe(
      'nothing',
    );
    expect(translateItem(itemOf(Buffer.alloc(0))).kind).toBe('nothing');
  });
});

describe('what cannot be carried is named', () => {
  test.each([
    ['pksetexat missing 0 ""', 'PKSETEXAT', 'missing', /empty value: APPEND/],
    ['pksetexat k later v', 'PKSETEXAT', 'k', /deadline/],
    ['pksetexat k 0', 'PKSETEXAT', 'k', /expected a key/],
    ['delvx k old', 'DELVX', 'k', /known to Pika alone/],
    ['SET k new vx old EX 10', 'SET', 'k', /compare-and-set/],
    ['set k new EX 10 VX old', 'SET', 'k', /compare-and-set/],
    ['SELECT 1', 'SELECT', '1', /database/],
    ['pkpatternmatchdel', 'PKPATTERNMATCHDEL', undefined, /no pattern/],
  ])('%s', (line, command, key, why) => {
    const translation = translated(line);
    expect(translation).toMatchObject({ kind: 'cannot', command });
    if (translation.kind !== 'cannot') return;
    expect(translation.key?.toString()).toBe(key);
    expect(translation.why).toMatch(why);
  });

  test('an option value that is called VX is no option', () => {
    expect(translated('SET k VX').kind).toBe('commands');
    expect(translated('SET VX VX EX 10').kind).toBe('commands');
  });

  test('the registers of a PFMERGE are told from other values of their size', () => {
    const merged = translated(['set', 'p3', registers(16)]);
    expect(merged).toMatchObject({ kind: 'cannot', command: 'SET', key: Buffer.from('p3') });
    expect(translated(['SET', 'p3', registers(16)]).kind).toBe('commands');
    expect(translated(['set', 'p3', registers(0x80)]).kind).toBe('commands');
    expect(translated(['set', 'p3', Buffer.alloc(131_072, 32)]).kind).toBe('commands');
    expect(translated(['set', 'p3', Buffer.alloc(131_072)]).kind).toBe('commands');
    expect(translated(['set', 'p3', registers(16).subarray(1)]).kind).toBe('commands');
  });

  test.each(['*1\r\n$3\r\nSET', 'SET k v\r\n', '*1\r\n$4\r\nINCR\r\n*1\r\n$4\r\nINCR\r\n'])(
    '%j',
    (content) => {
      expect(translateItem(itemOf(Buffer.from(content)))).toMatchObject({ kind: 'cannot' });
    },
  );
});
