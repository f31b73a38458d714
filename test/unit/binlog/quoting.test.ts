import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { formatCommand, formatKey, parseLine, QuotingError } from '../../../src/binlog/quoting.ts';

function columnOf(line: string): number {
  try {
    parseLine(line);
  } catch (error) {
    if (error instanceof QuotingError) return error.column;
    throw error;
  }
  throw new Error('no error');
}

describe('quoting as in redis-cli', () => {
  test.each([
    ['', []],
    ['  \t\n', []],
    ['SET key1 a1', ['SET', 'key1', 'a1']],
    [String.raw`SET "a b" "\x41\n\"\\"`, ['SET', 'a b', 'A\n"\\']],
    [String.raw`SET 'it\'s' '\n'`, ['SET', "it's", '\\n']],
    ['SET "" \'\'', ['SET', '', '']],
    [String.raw`SET a\nb`, ['SET', String.raw`a\nb`]],
    [String.raw`GET "\xzz\q"`, ['GET', 'xzzq']],
  ])('reads %j', (line, expected) => {
    expect(parseLine(line).map(String)).toEqual(expected);
  });

  test('keeps bytes that are no text', () => {
    expect(parseLine(String.raw`"\xff\x00\n"`)).toEqual([Buffer.from([255, 0, 10])]);
    expect(parseLine(Buffer.from([0x61, 0xff]))).toEqual([Buffer.from([0x61, 0xff])]);
  });

  test('names the column of a quote that is never closed, or closed too early', () => {
    expect(columnOf('SET "abc')).toBe(5);
    expect(columnOf("SET 'abc")).toBe(5);
    expect(columnOf(String.raw`SET "abc\"`)).toBe(5);
    expect(columnOf('SET "a"b')).toBe(8);
    expect(columnOf('"\\')).toBe(1);
  });

  test('reads back any command that it has written', () => {
    const args = fc.array(fc.uint8Array({ maxLength: 20 }).map(Buffer.from), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(args, (command) => {
        expect(parseLine(formatCommand(command))).toEqual(command);
      }),
    );
  });

  test('shows plain keys bare, others escaped, long ones cut', () => {
    expect(formatKey(Buffer.from('user:1'))).toBe('user:1');
    expect(formatKey(Buffer.from(''))).toBe('""');
    expect(formatKey(Buffer.from('a b\r\n\x1b"\\'))).toBe(String.raw`"a b\r\n\x1b\"\\"`);
    expect(formatKey(Buffer.from('é'))).toBe(String.raw`"\xc3\xa9"`);
    expect(formatKey(Buffer.from('abcdef'), 3)).toBe('abc…');
  });
});
