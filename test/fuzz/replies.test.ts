import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ProtocolError } from '../../src/wire/replies.ts';
import { type Expectation, ReplyReader } from '../../src/wire/reply-reader.ts';
import { cut, damaged, runs, sizes, value } from './bytes.ts';

const REPLY_BYTES_MAX = 100_000;

const line = fc.constantFrom(
  '+OK\r\n',
  '+QUEUED\r\n',
  ':1\r\n',
  ':-9223372036854775808\r\n',
  '-ERR no\r\n',
  '_\r\n',
  '#t\r\n',
  ',1.5\r\n',
);
const bulk = value.map((bytes) =>
  Buffer.concat([Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]),
);
const flat = fc.oneof(
  line.map((text) => Buffer.from(text)),
  bulk,
  fc.constant(Buffer.from('$-1\r\n')),
);
const array = (inner: fc.Arbitrary<Buffer>) =>
  fc
    .array(inner, { maxLength: 4 })
    .map((items) => Buffer.concat([Buffer.from(`*${items.length}\r\n`), ...items]));
const reply = fc.oneof(
  { weight: 3, arbitrary: flat },
  { weight: 1, arbitrary: array(fc.oneof(flat, array(flat))) },
);
const batch = fc
  .array(reply, { minLength: 1, maxLength: 4 })
  .map((items) =>
    Buffer.concat([Buffer.from(`${'+QUEUED\r\n'.repeat(items.length)}*${items.length}\r\n`), ...items]),
  );
const stream = fc.array(fc.oneof(reply, batch), { maxLength: 5 }).map((items) => Buffer.concat(items));
const asked = fc.array(
  fc.record({
    kind: fc.constantFrom('replies' as const, 'batch' as const),
    count: fc.integer({ min: 1, max: 4 }),
  }),
  { maxLength: 5 },
);

interface Read {
  readonly results: readonly unknown[];
  readonly failed: boolean;
}

function read(
  pieces: readonly Buffer[],
  wanted: readonly { kind: 'replies' | 'batch'; count: number }[],
): Read {
  const results: unknown[] = [];
  const resolve = (result: unknown) => results.push(result);
  const expected = wanted.map((one): Expectation => ({ ...one, resolve }));
  const reader = new ReplyReader(REPLY_BYTES_MAX);
  try {
    for (const piece of pieces) reader.feed(piece, expected);
    return { results, failed: false };
  } catch (error) {
    if (!(error instanceof ProtocolError)) throw error;
    expect(error.message.length).toBeLessThan(200);
    return { results, failed: true };
  }
}

test('whatever a server answers is read or refused, and the same however it is cut', () => {
  let failures = 0;
  let answers = 0;
  fc.assert(
    fc.property(damaged(stream), asked, sizes, (bytes, wanted, pieceSizes) => {
      const whole = read([bytes], wanted);
      const pieces = read(cut(bytes, pieceSizes), wanted);
      expect(pieces).toEqual(whole);
      failures += whole.failed ? 1 : 0;
      answers += whole.results.length;
    }),
    runs(4_000),
  );
  expect(failures).toBeGreaterThan(500);
  expect(answers).toBeGreaterThan(500);
});

test.each([
  ['*1\r\n', 'arrays in arrays'],
  ['*2\r\n:1\r\n', 'arrays that end in arrays'],
  ['%1\r\n+a\r\n', 'maps in maps'],
])('a reply that nests without end (%j) is refused before it fills the memory', (step) => {
  const reader = new ReplyReader(64 * 1024 * 1024);
  const expected: Expectation[] = [{ kind: 'replies', count: 1, resolve: () => {} }];
  expect(() => reader.feed(Buffer.from(step.repeat(1_000)), expected)).toThrow(/nests/);
});
