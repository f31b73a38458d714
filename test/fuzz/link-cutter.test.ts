import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import { StopError } from '../../src/runtime/errors.ts';
import { CommandCutter } from '../../src/sources/redis-link/cutter.ts';
import type { Entry } from '../../src/sources/source.ts';
import { commands, cut, damaged, runs, sizes } from './bytes.ts';

const START = { replid: 'a'.repeat(40), offset: 500, db: 2, transactionBytesMax: 1024 * 1024 };

interface Read {
  readonly entries: Entry[];
  readonly stop: StopError | undefined;
  readonly end: number;
}

function read(pieces: readonly Buffer[]): Read {
  const cutter = new CommandCutter(START);
  const entries: Entry[] = [];
  try {
    for (const piece of pieces) entries.push(...cutter.push(piece, 1));
    return { entries, stop: undefined, end: cutter.offset };
  } catch (error) {
    if (!(error instanceof StopError)) throw error;
    return { entries, stop: error, end: cutter.offset };
  }
}

function said(entries: readonly Entry[]): string[] {
  return entries.flatMap(({ resp }) => {
    const scanner = new RespScanner();
    scanner.reset(resp);
    const lines: string[] = [];
    while (scanner.next()) lines.push(JSON.stringify(scanner.args().map((arg) => arg.toString('latin1'))));
    return lines;
  });
}

const link = fc
  .array(
    fc.oneof({ weight: 5, arbitrary: commands }, { weight: 1, arbitrary: fc.constant(Buffer.from('\n')) }),
    { maxLength: 6 },
  )
  .map((parts) => Buffer.concat(parts));

test('whatever a master sends: whole commands in order, none twice, none invented, then a stop that names the offset', () => {
  let stops = 0;
  fc.assert(
    fc.property(damaged(link), sizes, (bytes, pieceSizes) => {
      const whole = read([bytes]);
      const pieces = read(cut(bytes, pieceSizes));
      // What was found before a stop is lost with its push; it is read again from the position, and is the same.
      const [short, long] = [said(whole.entries), said(pieces.entries)];
      expect(long.slice(0, short.length)).toEqual(short);
      expect(pieces.stop?.code).toBe(whole.stop?.code);
      for (const { resp, position } of pieces.entries) {
        const end = Number(position.split(':')[1]) - START.offset;
        expect(resp.equals(bytes.subarray(end - resp.length, end))).toBe(true);
      }
      if (pieces.stop === undefined) {
        expect(pieces.end).toBe(whole.end);
        return;
      }
      stops++;
      expect(pieces.stop.code).toBe('SOURCE_MALFORMED');
      const offset = Number(/offset (\d+)/.exec(pieces.stop.message)?.[1]);
      expect(offset).toBeGreaterThanOrEqual(START.offset);
      expect(offset).toBeLessThanOrEqual(START.offset + bytes.length);
    }),
    runs(3_000),
  );
  expect(stops).toBeGreaterThan(500);
});
