import fc from 'fast-check';
import { encodeCommand } from '../../src/binlog/resp.ts';

// Input that attacks: what is valid, damaged in the ways that lead readers astray. A failing run prints its seed and
// path; LANEGATE_SEED chooses another seed.

const SEED = Number(process.env.LANEGATE_SEED ?? 1);

export function runs(numRuns: number): { seed: number; numRuns: number } {
  return { seed: SEED, numRuns };
}

const AWKWARD = [
  '',
  '\0',
  '\r\n',
  '\n',
  '*1\r\n$4\r\nPING\r\n',
  '$-1\r\n',
  'MULTI',
  'EXEC',
  'select',
  '\xff\xfe',
  '#TS:1\r\n',
];
const HUGE = [
  '536870913',
  '2147483648',
  '4294967295',
  '9007199254740993',
  '99999999999999999999',
  '-1',
  '-2',
  '007',
  '1e3',
  '',
];

/** Any bytes: NUL, CRLF, what is no UTF-8, and what looks like the protocol around it. */
export const value: fc.Arbitrary<Buffer> = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(...AWKWARD).map((text) => Buffer.from(text, 'latin1')),
);

export const command: fc.Arbitrary<Buffer[]> = fc.oneof(
  { weight: 6, arbitrary: fc.array(value, { minLength: 1, maxLength: 6 }) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('MULTI', 'EXEC', 'DISCARD', 'PING').map((word) => [Buffer.from(word)]),
  },
  { weight: 1, arbitrary: fc.nat(20).map((db) => ['SELECT', String(db)].map((word) => Buffer.from(word))) },
);

export const commands: fc.Arbitrary<Buffer> = fc
  .array(command, { maxLength: 8 })
  .map((list) => Buffer.concat(list.map(encodeCommand)));

type Edit = (bytes: Buffer) => Buffer;

const at = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const splice = (bytes: Buffer, from: number, gone: number, put: Buffer) =>
  Buffer.concat([bytes.subarray(0, from), put, bytes.subarray(Math.min(bytes.length, from + gone))]);

const edit: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(at, fc.nat(255)).map(
    ([share, byte]): Edit =>
      (bytes) => {
        const changed = Buffer.from(bytes);
        if (changed.length > 0) changed[Math.floor(share * changed.length)] = byte;
        return changed;
      },
  ),
  fc.tuple(at, fc.nat(12), value).map(
    ([share, gone, put]): Edit =>
      (bytes) =>
        splice(bytes, Math.floor(share * bytes.length), gone, put),
  ),
  // A number of the protocol becomes another one.
  fc.tuple(at, fc.constantFrom(...HUGE)).map(
    ([share, text]): Edit =>
      (bytes) => {
        const from = Math.floor(share * bytes.length);
        const digits = /\d+/.exec(bytes.toString('latin1', from));
        return digits === null
          ? bytes
          : splice(bytes, from + digits.index, digits[0].length, Buffer.from(text));
      },
  ),
  at.map(
    (share): Edit =>
      (bytes) =>
        bytes.subarray(0, Math.floor(share * bytes.length)),
  ),
);

/** `whole` with up to four injuries; sometimes with none. */
export function damaged(whole: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc
    .tuple(whole, fc.array(edit, { maxLength: 4 }))
    .map(([bytes, edits]) => edits.reduce((changed, apply) => apply(changed), bytes));
}

/** Sizes of the pieces in which bytes arrive. */
export const sizes: fc.Arbitrary<number[]> = fc.array(fc.integer({ min: 1, max: 64 }), {
  minLength: 1,
  maxLength: 5,
});

export function cut(bytes: Buffer, pieceSizes: readonly number[]): Buffer[] {
  const pieces: Buffer[] = [];
  for (let from = 0, i = 0; from < bytes.length; i++) {
    const size = pieceSizes[i % pieceSizes.length] as number;
    pieces.push(bytes.subarray(from, from + size));
    from += size;
  }
  return pieces;
}
