import fc from 'fast-check';
import { expect, test } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import { type CutStop, Cutter, type FileEntry } from '../../src/sources/aof/cutter.ts';
import { startOf } from '../../src/sources/aof/place.ts';
import { commands, damaged, runs } from './bytes.ts';

const annotation = fc.constantFrom(
  '#TS:1700000000\r\n',
  '#TS:99\r\n',
  '# by hand\n',
  '#TS:x\r\n',
  `#${'x'.repeat(2_000)}\r\n`,
);
const file = fc
  .array(
    fc.oneof(
      { weight: 4, arbitrary: commands },
      { weight: 1, arbitrary: annotation.map((text) => Buffer.from(text)) },
    ),
    {
      maxLength: 6,
    },
  )
  .map((parts) => Buffer.concat(parts));
const OPTIONS = { transactionBytesMax: 1024 * 1024, untilMs: undefined, timeMsDefault: 7 };

interface Read {
  readonly entries: readonly FileEntry[];
  readonly stop: CutStop | undefined;
  readonly end: number;
}

/** The file as its reader would give it: what is not consumed comes again, with more behind it. */
function read(bytes: Buffer, step: number, entryBytes: number): Read {
  const cutter = new Cutter(startOf('file'), { ...OPTIONS, entryBytes });
  const entries: FileEntry[] = [];
  let stop: CutStop | undefined;
  for (let known = step; stop === undefined; known += step) {
    const part = cutter.cut(bytes.subarray(cutter.place.offset, known));
    entries.push(...part.entries);
    stop = part.stop;
    if (known >= bytes.length) break;
  }
  return { entries, stop, end: cutter.place.offset };
}

/** Commands in order, each with its database: what entries say, whatever their bounds. */
function said(entries: readonly FileEntry[]): string[] {
  return entries.flatMap(({ resp, db }) => {
    const scanner = new RespScanner();
    scanner.reset(resp);
    const lines: string[] = [];
    let current = db;
    while (scanner.next()) {
      const args = scanner.args().map((arg) => arg.toString('latin1'));
      lines.push(`${current} ${JSON.stringify(args)}`);
      if (args.length === 2 && args[0]?.toUpperCase() === 'SELECT') current = Number(args[1]);
    }
    return lines;
  });
}

test('whatever the file: whole commands in order, the same in small pieces as at once, then the offset of what is wrong', () => {
  let stops = 0;
  let entries = 0;
  fc.assert(
    fc.property(
      damaged(file),
      fc.integer({ min: 1, max: 50 }),
      fc.integer({ min: 1, max: 300 }),
      (bytes, step, entryBytes) => {
        const whole = read(bytes, bytes.length + 1, entryBytes);
        const pieces = read(bytes, step, entryBytes);
        expect(said(pieces.entries)).toEqual(said(whole.entries));
        expect(pieces.end).toBe(whole.end);
        expect(pieces.stop?.kind).toBe(whole.stop?.kind);
        for (const { resp, position, isMade } of whole.entries) {
          const end = Number(position.split(':')[1]);
          if (!isMade) expect(resp.equals(bytes.subarray(end - resp.length, end))).toBe(true);
        }
        for (const line of said(whole.entries)) expect(line).not.toMatch(/^NaN/);
        if (whole.stop !== undefined && whole.stop.kind !== 'until') {
          stops++;
          expect(whole.stop.offset).toBeGreaterThanOrEqual(whole.end);
          expect(whole.stop.offset).toBeLessThanOrEqual(bytes.length);
        }
        entries += whole.entries.length;
      },
    ),
    runs(1_500),
  );
  expect(stops).toBeGreaterThan(300);
  expect(entries).toBeGreaterThan(500);
});
