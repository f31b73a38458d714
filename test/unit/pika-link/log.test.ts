import { describe, expect, test } from 'vitest';
import { PikaLog } from '../../support/pika-log.ts';

// Ends that Pika's own writer gave.
describe("the test master's log ends its items where Pika does", () => {
  test.each([
    [[27], [69]],
    [
      [65_486, 10],
      [65_528, 65_588],
    ],
    [
      [65_489, 10],
      [65_531, 65_588],
    ],
    [
      [65_494, 10],
      [65_536, 65_588],
    ],
    [
      [10, 200_000, 10],
      [52, 200_118, 200_170],
    ],
  ])('contents of %j bytes end at %j', (contents, ends) => {
    const log = new PikaLog(100 * 1024 * 1024);
    const found = contents.map((bytes) => log.appendContent(Buffer.alloc(bytes), 1_700_000_000).offset);
    expect(found).toEqual(ends);
  });

  test('the item is the one of the notes, byte for byte', () => {
    const log = new PikaLog(100 * 1024 * 1024);
    log.append(['SET', 'a', 'b'], 1_700_000_000);
    expect(log.items[0]?.bytes.toString('hex')).toBe(
      '010000f153650000000001000000000000000000000000000000000000001b000000' +
        '2a330d0a24330d0a5345540d0a24310d0a610d0a24310d0a620d0a',
    );
  });

  test('a full file rolls before the next item, which names the place before', () => {
    const log = new PikaLog(1_000);
    for (let i = 0; i < 40; i++) log.append(['SET', 'k', i], 1_700_000_000);
    const first = log.items.find(({ end }) => end.filenum === 1);
    const last = log.items.filter(({ end }) => end.filenum === 0).at(-1);
    expect(first?.bytes.readUInt32LE(18)).toBe(0);
    expect(Number(first?.bytes.readBigUInt64LE(22))).toBe(last?.end.offset);
    expect(last?.end.offset).toBeGreaterThan(1_000);
  });
});
