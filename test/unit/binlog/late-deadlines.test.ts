import { expect, test } from 'vitest';
import { lateDeadlines } from '../../../src/binlog/late-deadlines.ts';
import { parseLine } from '../../../src/binlog/quoting.ts';
import { encodeCommand } from '../../../src/binlog/resp.ts';

const READ_MS = 1_000;
const NOW_MS = 5_000;

const late = (...parts: readonly (readonly string[])[]) =>
  lateDeadlines(
    parts.map((lines) => Buffer.concat(lines.map((line) => encodeCommand(parseLine(line))))),
    READ_MS,
    NOW_MS,
  );

test('a command counts once, when a deadline that it sets has passed since the source ran it', () => {
  expect(late(['SET a 1 PXAT 4000', 'SET b 1 PXAT 5001', 'SELECT 3'], ['pexpireat c 5000'])).toBe(2);
  expect(late(['HPEXPIREAT h 4000 FIELDS 2 f g', 'EXPIREAT a 4', 'RESTORE k 4000 payload ABSTTL'])).toBe(3);
});

test('one whose time had come at the source does not', () => {
  expect(late(['PEXPIREAT a 1000', 'SET b 1 PXAT 999', 'EXPIREAT c -1'])).toBe(0);
});

test('other commands say nothing, whatever their arguments look like', () => {
  expect(
    late(['SET PXAT 4000', 'RPUSH EXPIREAT k 4', `SET ${'EXPIREAT'.repeat(9)} 4`, 'DEL PXAT 4000']),
  ).toBe(0);
});
