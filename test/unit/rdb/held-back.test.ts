import { describe, expect, test } from 'vitest';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { heldBack, mayHoldFieldDeadlines } from '../../../src/rdb/held-back.ts';

const GRACE_MS = 3_600_000;
const AT = 1_800_000_000_000n;

function time(ms: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigInt64LE(ms);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.concat([Buffer.from([value.length]), Buffer.from(value)]);
}

function payload(type: number, version: number, ...parts: Buffer[]): Buffer {
  const body = Buffer.concat([Buffer.from([type]), ...parts, Buffer.from([version, 0])]);
  return Buffer.concat([body, new Crc64().sum(Buffer.alloc(8), body)]);
}

/** Elements of up to 63 bytes, and times as 64 bit integers. */
function listpack(...elements: (string | bigint)[]): Buffer {
  const coded = elements.map((element) => {
    if (typeof element === 'bigint')
      return Buffer.concat([Buffer.from([0xf4]), time(element), Buffer.from([9])]);
    const bytes = Buffer.from(element);
    return Buffer.concat([Buffer.from([0x80 | bytes.length]), bytes, Buffer.from([bytes.length + 1])]);
  });
  const body = Buffer.concat([...coded, Buffer.from([0xff])]);
  const head = Buffer.alloc(6);
  head.writeUInt32LE(head.length + body.length);
  head.writeUInt16LE(elements.length, 4);
  return Buffer.concat([head, body]);
}

const ONE_OF_TWO = [Buffer.from([2, 1]), text('a'), text('1'), Buffer.from([0]), text('b'), text('2')];

describe('the deadlines of fields in a payload are held back', () => {
  test('where they count from the earliest', () => {
    expect(heldBack(payload(24, 12, time(AT), ...ONE_OF_TWO), GRACE_MS)).toEqual(
      payload(24, 12, time(AT + 3_600_000n), ...ONE_OF_TWO),
    );
  });

  test('where they are packed with the fields: as the other type, since they cannot be told apart there', () => {
    const packed = listpack('a', '1', AT, 'b', '2', 0n);
    const plain = Buffer.concat([Buffer.from([packed.length]), packed]);
    const held = payload(24, 12, time(AT + 3_600_000n), ...ONE_OF_TWO);
    expect(heldBack(payload(25, 12, time(AT), plain), GRACE_MS)).toEqual(held);
    // The same as LZF: one run of literals of up to 32 bytes after the other.
    const runs: Buffer[] = [];
    for (let at = 0; at < packed.length; at += 32) {
      const run = packed.subarray(at, at + 32);
      runs.push(Buffer.from([run.length - 1]), run);
    }
    const lzf = Buffer.concat(runs);
    const head = Buffer.from([0xc3, lzf.length, packed.length]);
    expect(heldBack(payload(25, 12, time(AT), head, lzf), GRACE_MS)).toEqual(held);
  });

  test("where each stands behind its field, as in Valkey's", () => {
    const fields = (ms: bigint) => [
      Buffer.from([2]),
      text('a'),
      text('1'),
      time(ms),
      text('b'),
      text('2'),
      time(-1n),
    ];
    expect(heldBack(payload(22, 80, ...fields(AT)), GRACE_MS)).toEqual(
      payload(22, 80, ...fields(AT + 3_600_000n)),
    );
  });
});

test('what has no such deadlines, or is not well-formed, is left alone', () => {
  const string = payload(0, 12, text('v'));
  expect([mayHoldFieldDeadlines(string, 0), heldBack(string, GRACE_MS)]).toEqual([false, undefined]);
  for (const broken of [
    Buffer.alloc(0),
    payload(25, 12, time(AT), Buffer.from([5, 1])),
    payload(25, 12, time(AT), Buffer.from([3, 1, 2, 3])),
    payload(22, 80, Buffer.from([9]), text('a')),
    payload(22, 12, ...ONE_OF_TWO),
    payload(24, 12),
  ]) {
    expect(heldBack(broken, GRACE_MS)).toBeUndefined();
  }
});
