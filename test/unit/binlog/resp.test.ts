import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeCommand, encodeCommands, RespError, RespScanner } from '../../../src/binlog/resp.ts';

const command = fc.array(fc.uint8Array({ maxLength: 40 }).map(Buffer.from), { minLength: 1, maxLength: 80 });

function scanAll(buffer: Buffer): Buffer[][] {
  const scanner = new RespScanner();
  scanner.reset(buffer);
  const commands: Buffer[][] = [];
  while (scanner.next()) commands.push(scanner.args().map((arg) => Buffer.from(arg)));
  return commands;
}

function errorOf(text: string | Buffer): RespError {
  try {
    scanAll(Buffer.from(text));
  } catch (error) {
    if (error instanceof RespError) return error;
    throw error;
  }
  throw new Error(`no error for ${JSON.stringify(text)}`);
}

describe('the RESP scanner', () => {
  test('gives back any list of commands byte for byte', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 8 }), (commands) => {
        expect(scanAll(encodeCommands(commands))).toEqual(commands);
      }),
    );
  });

  test('throws at every truncation that is not the boundary of a command', () => {
    fc.assert(
      fc.property(fc.array(command, { minLength: 1, maxLength: 3 }), (commands) => {
        const parts = commands.map(encodeCommand);
        const whole = Buffer.concat(parts);
        const boundaries = new Set([0]);
        let boundary = 0;
        for (const part of parts) {
          boundary += part.length;
          boundaries.add(boundary);
        }
        for (let length = 0; length <= whole.length; length++) {
          const run = () => scanAll(whole.subarray(0, length));
          if (boundaries.has(length)) expect(run().length).toBeLessThanOrEqual(commands.length);
          else expect(run).toThrow(RespError);
        }
      }),
      { numRuns: 40 },
    );
  });

  test('ends with commands or RespError on any bytes, and what it accepts encodes to the same bytes', () => {
    const noise = fc.array(fc.constantFrom('*', '$', '\r\n', '\r', '\n', '0', '1', '2', '3', '-', 'a', ' '), {
      maxLength: 30,
    });
    fc.assert(
      fc.property(noise, (pieces) => {
        const buffer = Buffer.from(pieces.join(''));
        const scanner = new RespScanner();
        scanner.reset(buffer);
        try {
          while (scanner.next()) {
            expect(encodeCommand(scanner.args())).toEqual(buffer.subarray(scanner.start, scanner.end));
          }
        } catch (error) {
          expect(error).toBeInstanceOf(RespError);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('one changed byte never makes it read outside the buffer', () => {
    const valid = encodeCommands([
      ['SET', 'key1', 'a1'],
      ['DEL', 'a', 'b'],
    ]);
    for (let at = 0; at < valid.length; at++) {
      for (let byte = 0; byte < 256; byte++) {
        const changed = Buffer.from(valid);
        changed[at] = byte;
        const scanner = new RespScanner();
        scanner.reset(changed);
        try {
          while (scanner.next()) expect(scanner.end).toBeLessThanOrEqual(changed.length);
        } catch (error) {
          expect(error).toBeInstanceOf(RespError);
        }
      }
    }
  });

  test.each([
    ['an inline command', 'PING\r\n', 0],
    ['no arguments', '*0\r\n', 1],
    ['a null array', '*-1\r\n', 1],
    ['a count without digits', '*\r\n$1\r\na\r\n', 1],
    ['a count with a leading zero', '*01\r\n$1\r\na\r\n', 1],
    ['too many arguments', '*1048577\r\n', 1],
    ['a count far out of range', '*99999999999999999999999\r\n', 1],
    ['more arguments than the buffer can hold', '*1048576\r\n$1\r\na\r\n', 17],
    ['a null bulk string', '*1\r\n$-1\r\n0\r\n', 5],
    ['a bulk string over 512 MiB', '*1\r\n$536870913\r\n', 5],
    ['a length with a leading zero', '*1\r\n$01\r\na\r\n', 5],
    ['an integer in place of a bulk string', '*1\r\n:1\r\n..\r\n', 4],
    ['a bare LF behind the count', '*1\n$1\r\na\r\n', 2],
    ['a bulk string without CRLF', '*1\r\n$1\r\nabc\r\n', 9],
    ['a second command that is none', '*1\r\n$4\r\nPING\r\nxx', 14],
  ])('refuses %s and names the byte', (_what, text, offset) => {
    expect(errorOf(text).offset).toBe(offset);
  });

  test('leaves `start` at the command that is malformed', () => {
    const scanner = new RespScanner();
    scanner.reset(Buffer.from('*1\r\n$4\r\nPING\r\n*1\r\n$x'));
    expect(scanner.next()).toBe(true);
    expect(() => scanner.next()).toThrow(RespError);
    expect(scanner.start).toBe(14);
  });

  test('starts where it is told and accepts empty arguments', () => {
    const scanner = new RespScanner();
    scanner.reset(Buffer.concat([Buffer.from('junk'), encodeCommand(['SET', '', ''])]), 4);
    expect(scanner.next()).toBe(true);
    expect(scanner.args().map(String)).toEqual(['SET', '', '']);
    expect(scanner.next()).toBe(false);
  });

  test('grows for a command of a hundred thousand arguments', () => {
    const args = Array.from({ length: 100_000 }, (_, i) => i);
    const scanner = new RespScanner();
    scanner.reset(encodeCommand(args));
    expect(scanner.next()).toBe(true);
    expect(scanner.argc).toBe(100_000);
    expect(scanner.arg(99_999).toString()).toBe('99999');
  });
});
