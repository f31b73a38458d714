import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCommand, RespError, RespScanner } from '../../src/binlog/resp.ts';
import { commands, damaged, runs } from './bytes.ts';

const ARGS_AT_FIRST = new RespScanner().argStart.length;
const ARGUMENT_BYTES_MIN = 6;

test('whatever the bytes: commands that encode to them again, then their end or an error with its offset', () => {
  let accepted = 0;
  let refused = 0;
  fc.assert(
    fc.property(damaged(commands), fc.nat(5), (stream, junk) => {
      // Scanning may begin anywhere in a buffer, and never reads in front of that.
      const buffer = Buffer.concat([Buffer.alloc(junk, '*'), stream]);
      const scanner = new RespScanner();
      scanner.reset(buffer, junk);
      let end = junk;
      try {
        while (scanner.next()) {
          accepted++;
          expect(scanner.start).toBe(end);
          expect(encodeCommand(scanner.args()).equals(buffer.subarray(scanner.start, scanner.end))).toBe(
            true,
          );
          end = scanner.end;
        }
        expect(end).toBe(buffer.length);
      } catch (error) {
        if (!(error instanceof RespError)) throw error;
        refused++;
        expect(scanner.start).toBe(end);
        expect(error.offset).toBeGreaterThanOrEqual(end);
        expect(error.offset).toBeLessThanOrEqual(buffer.length);
      }
      // Of arguments that are only announced no note is kept.
      const possible = Math.max(ARGS_AT_FIRST, 2 * Math.ceil(buffer.length / ARGUMENT_BYTES_MIN));
      expect(scanner.argStart.length).toBeLessThanOrEqual(possible);
    }),
    runs(5_000),
  );
  expect(accepted).toBeGreaterThan(1_000);
  expect(refused).toBeGreaterThan(1_000);
});
