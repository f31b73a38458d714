import { expect, test } from 'vitest';
import { decodeItem, ItemError } from '../../../src/pika/item.ts';

/** SET a b as the first item of file 0, as Pika's own writer lays it out. */
const SET_A_B = Buffer.from(
  '010000f15365000000000100000000000000000000000000000000000000' +
    '1b0000002a330d0a24330d0a5345540d0a24310d0a610d0a24310d0a620d0a',
  'hex',
);

test('an item is its header and one RESP array', () => {
  const item = decodeItem(SET_A_B);
  expect(item).toEqual({
    execTimeS: 1_700_000_000,
    termId: 0,
    logicId: 1,
    startFilenum: 0,
    startOffset: 0,
    resp: Buffer.from('*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n'),
  });
  expect(item.resp.buffer).toBe(SET_A_B.buffer);
});

test('numbers of 64 bits are read whole', () => {
  const bytes = Buffer.from(SET_A_B);
  bytes.writeBigUInt64LE(2n ** 40n + 7n, 10);
  bytes.writeUInt32LE(4_000_000_000, 18);
  bytes.writeBigUInt64LE(2n ** 33n + 5n, 22);
  expect(decodeItem(bytes)).toMatchObject({
    logicId: 2 ** 40 + 7,
    startFilenum: 4_000_000_000,
    startOffset: 2 ** 33 + 5,
  });
});

test.each([
  ['a short header', SET_A_B.subarray(0, 33), 'at least 34 bytes, found 33'],
  ['another type', Buffer.concat([Buffer.from([2, 0]), SET_A_B.subarray(2)]), 'item type 1, found 2'],
  ['too little content', SET_A_B.subarray(0, -1), '27 bytes of content, found 26'],
  ['too much content', Buffer.concat([SET_A_B, Buffer.from('x')]), '27 bytes of content, found 28'],
])('%s is no item', (_what, bytes, message) => {
  expect(() => decodeItem(bytes)).toThrow(ItemError);
  expect(() => decodeItem(bytes)).toThrow(message);
});
