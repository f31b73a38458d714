import { describe, expect, test } from 'vitest';
import { LEFT_OUT, type LeaveOut, ProtocolError, ReplyError } from '../../src/wire/replies.ts';
import { type Expectation, ReplyReader } from '../../src/wire/reply-reader.ts';

type Asked = { kind: 'replies' | 'batch'; count: number; leaveOut?: LeaveOut };

/** Everything that the pieces resolve, in order. */
function read(pieces: readonly Buffer[], asked: readonly Asked[], replyBytesMax = 1_000_000): unknown[] {
  const results: unknown[] = [];
  const expected = asked.map(
    (one): Expectation => ({ ...one, resolve: (result: unknown) => results.push(result) }),
  );
  const reader = new ReplyReader(replyBytesMax);
  for (const piece of pieces) {
    const reused = Buffer.from(piece);
    reader.feed(reused, expected);
    // The socket may read into the same memory again.
    reused.fill(0xee);
  }
  expect(results.length + expected.length).toBe(asked.length);
  return results;
}

function expectAtEverySplit(wire: string, asked: readonly Asked[], results: readonly unknown[]): void {
  const bytes = Buffer.from(wire, 'latin1');
  expect(read([bytes], asked)).toEqual(results);
  expect(
    read(
      [...bytes].map((byte) => Buffer.from([byte])),
      asked,
    ),
  ).toEqual(results);
  for (let first = 1; first < bytes.length; first++) {
    const pieces = [bytes.subarray(0, first), bytes.subarray(first)];
    expect(read(pieces, asked), `split at ${first}`).toEqual(results);
    const early = read(pieces.slice(0, 1), asked);
    expect(early, `cut at ${first}`).toEqual(results.slice(0, early.length));
    expect(early.length, `cut at ${first}`).toBeLessThan(results.length);
  }
}

const error = (text: string) => new ReplyError(text);
const bulk = (text: string) => Buffer.from(text, 'latin1');

describe('split at every byte', () => {
  test('RESP2 values are read', () => {
    expectAtEverySplit(
      '+OK\r\n-WRONGTYPE no\r\n:-42\r\n:9223372036854775807\r\n$0\r\n\r\n$-1\r\n$6\r\n\r\n\xff\0-:\r\n*-1\r\n*0\r\n' +
        '*3\r\n:1\r\n*2\r\n$1\r\na\r\n*1\r\n*0\r\n-ERR inside\r\n+END\r\n',
      [
        { kind: 'replies', count: 4 },
        { kind: 'replies', count: 7 },
      ],
      [
        ['OK', error('WRONGTYPE no'), -42, 9223372036854775807n],
        [bulk(''), null, bulk('\r\n\xff\0-:'), null, [], [1, [bulk('a'), [[]]], error('ERR inside')], 'END'],
      ],
    );
  });

  test('RESP3 values are read in the shape of RESP2, attributes and pushes are passed over', () => {
    expectAtEverySplit(
      '%2\r\n+a\r\n:1\r\n+b\r\n~2\r\n,1.5\r\n,-inf\r\n>2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n_\r\n#t\r\n#f\r\n' +
        '(3492890328409238509324850943850943825024385\r\n=7\r\ntxt:abc\r\n!7\r\nERR bad\r\n' +
        '|1\r\n+ttl\r\n%1\r\n+x\r\n:2\r\n*1\r\n|1\r\n+p\r\n:0\r\n:9\r\n',
      [{ kind: 'replies', count: 8 }],
      [
        [
          ['a', 1, 'b', [1.5, -Infinity]],
          null,
          1,
          0,
          3492890328409238509324850943850943825024385n,
          bulk('abc'),
          error('ERR bad'),
          [9],
        ],
      ],
    );
  });

  test('blobs above what is asked for are left out, and nothing else is', () => {
    const wire = '*2\r\n*2\r\n$4\r\nlong\r\n$3\r\nfit\r\n*1\r\n$4\r\nlong\r\n$4\r\n-ERR\r\n:1\r\n';
    const ask = (leaveOut: LeaveOut): Asked[] => [
      { kind: 'replies', count: 2, leaveOut },
      { kind: 'replies', count: 1 },
    ];
    const gone = LEFT_OUT;
    expectAtEverySplit(wire, ask({ aboveBytes: 3 }), [[[[gone, bulk('fit')], [gone]], gone], [1]]);
    const first = [[gone, bulk('fit')], [bulk('long')]];
    expectAtEverySplit(wire, ask({ aboveBytes: 3, before: 1 }), [[first, gone], [1]]);
    const [replies] = read([Buffer.from(wire)], ask({ aboveBytes: 3 }), 100) as [unknown[]];
    expect(replies[1]).toBe(LEFT_OUT);
  });

  test('a batch is counted and its errors are kept, a call before and behind it is read', () => {
    expectAtEverySplit(
      ':7\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n' +
        '*8\r\n+OK\r\n:12\r\n-ERR bad\r\n$8\r\n-ERR\r\n:1\r\n*3\r\n-ERR in\r\n*2\r\n:1\r\n$-1\r\n+OK\r\n$-1\r\n+STRING\r\n-OOM x\r\n' +
        '+OK\r\n$3\r\n1:2\r\n',
      [
        { kind: 'replies', count: 1 },
        { kind: 'batch', count: 8 },
        { kind: 'replies', count: 2 },
      ],
      [
        [7],
        {
          kind: 'committed',
          replies: 8,
          errors: [
            { index: 2, error: error('ERR bad') },
            { index: 7, error: error('OOM x') },
          ],
        },
        ['OK', bulk('1:2')],
      ],
    );
  });

  test('a batch that ends in a nested or a bulk reply is complete with its last byte', () => {
    for (const last of [
      '*2\r\n:1\r\n*1\r\n:2\r\n',
      '$5\r\nhello\r\n',
      '%1\r\n+a\r\n~1\r\n:1\r\n',
      '!5\r\nERR x\r\n',
      '*0\r\n',
    ]) {
      const wire = Buffer.from(`+QUEUED\r\n>1\r\n+push\r\n+QUEUED\r\n*2\r\n:1\r\n${last}`);
      const asked: Asked[] = [{ kind: 'batch', count: 2 }];
      expectAtEverySplit(wire.toString('latin1'), asked, read([wire], asked));
      expect(read([wire], asked)).toMatchObject([{ kind: 'committed', replies: 2 }]);
      expect(read([wire.subarray(0, -1)], asked)).toEqual([]);
    }
  });

  test('attributes in a batch are no replies, wherever they stand', () => {
    expectAtEverySplit(
      '+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n|1\r\n+ttl\r\n:5\r\n+OK\r\n' +
        '*2\r\n|1\r\n+ttl\r\n*1\r\n:5\r\n:1\r\n:2\r\n-ERR bad\r\n',
      [{ kind: 'batch', count: 3 }],
      [{ kind: 'committed', replies: 3, errors: [{ index: 2, error: error('ERR bad') }] }],
    );
  });

  test('fenced and aborted batches follow each other', () => {
    expectAtEverySplit(
      '+QUEUED\r\n*-1\r\n+QUEUED\r\n$-1\r\n+QUEUED\r\n_\r\n+QUEUED\r\n-ERR unknown\r\n+QUEUED\r\n-EXECABORT no\r\n-OOM late\r\n*0\r\n',
      [
        { kind: 'batch', count: 1 },
        { kind: 'batch', count: 1 },
        { kind: 'batch', count: 1 },
        { kind: 'batch', count: 3 },
        { kind: 'batch', count: 0 },
        { kind: 'batch', count: 0 },
      ],
      [
        { kind: 'fenced' },
        { kind: 'fenced' },
        { kind: 'fenced' },
        {
          kind: 'aborted',
          errors: [{ index: 1, error: error('ERR unknown') }],
          error: error('EXECABORT no'),
        },
        { kind: 'aborted', errors: [], error: error('OOM late') },
        { kind: 'committed', errors: [], replies: 0 },
      ],
    );
  });
});

test('a 512 MiB reply inside EXEC is skipped without being held', () => {
  const piece = Buffer.alloc(1024 * 1024, '-');
  const before = process.memoryUsage().arrayBuffers;
  const reader = new ReplyReader(1_000);
  const outcomes: unknown[] = [];
  const expected: Expectation[] = [{ kind: 'batch', count: 1, resolve: (outcome) => outcomes.push(outcome) }];
  reader.feed(Buffer.from(`+QUEUED\r\n*1\r\n$${512 * piece.length}\r\n`), expected);
  for (let n = 0; n < 512; n++) reader.feed(piece, expected);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(16 * piece.length);
  expect(outcomes).toEqual([]);
  reader.feed(Buffer.from('\r\n'), expected);
  expect(outcomes).toEqual([{ kind: 'committed', errors: [], replies: 1 }]);
});

test.each([
  ['a command that ran by itself', '+OK\r\n', { kind: 'batch', count: 1 }],
  ['EXEC with too few replies', '+QUEUED\r\n*2\r\n', { kind: 'batch', count: 1 }],
  ['EXEC that answers OK', '+QUEUED\r\n+OK\r\n', { kind: 'batch', count: 1 }],
  ['a type that does not exist', '?1\r\n', { kind: 'replies', count: 1 }],
  ['a type that does not exist inside EXEC', '+QUEUED\r\n*1\r\n?1\r\n', { kind: 'batch', count: 1 }],
  ['a length that is none', '$x\r\n', { kind: 'replies', count: 1 }],
  ['a negative length', '$-2\r\n', { kind: 'replies', count: 1 }],
  ['a number that is none', ':1x\r\n', { kind: 'replies', count: 1 }],
  ['a line that never ends', `+${'x'.repeat(70_000)}`, { kind: 'replies', count: 1 }],
  ['a line without CR', '+OK\n', { kind: 'replies', count: 1 }],
  ['a reply above the limit', `*2\r\n$900\r\n${'x'.repeat(900)}\r\n$200\r\n`, { kind: 'replies', count: 1 }],
] as const)('%s is a protocol error', (_, wire, asked) => {
  expect(() => read([Buffer.from(wire)], [asked], 1_000)).toThrow(ProtocolError);
});

describe('a connection that ends inside a batch', () => {
  const ended = (wire: string) => {
    const results: unknown[] = [];
    const expected: Expectation[] = [
      { kind: 'batch', count: 3, resolve: (outcome) => results.push(outcome) },
    ];
    const reader = new ReplyReader(1_000);
    reader.feed(Buffer.from(wire), expected);
    reader.end(expected);
    expect(results.length + expected.length).toBe(1);
    return results[0];
  };

  test('behind a protocol error it is aborted, with the command that is to blame', () => {
    const why = error('ERR Protocol error: invalid bulk length');
    const outcome = { kind: 'aborted', errors: [{ index: 1, error: why }], error: why };
    expect(ended(`+QUEUED\r\n-${why.message}\r\n`)).toEqual(outcome);
  });

  test.each([
    ['nothing was refused', '+QUEUED\r\n'],
    ['another error does not end a connection', '+QUEUED\r\n-ERR unknown command\r\n'],
    ['what came behind the error was read', '-ERR Protocol error\r\n+QUEUED\r\n'],
    ['EXEC has run', '+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n-ERR Protocol error\r\n'],
  ])('its outcome is unknown: %s', (_why, wire) => {
    expect(ended(wire)).toBeUndefined();
  });
});
