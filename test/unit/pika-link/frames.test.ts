import { describe, expect, test } from 'vitest';
import { FRAME_BYTES_MAX, FrameReader, frameOf } from '../../../src/sources/pika/frames.ts';

const MESSAGES = ['', 'a', 'x'.repeat(300), 'end'].map((text) => Buffer.from(text));
const STREAM = Buffer.concat(MESSAGES.map(frameOf));

describe('frames', () => {
  test('are the same however the stream is cut', () => {
    for (let size = 1; size <= STREAM.length; size++) {
      const reader = new FrameReader();
      const found: Buffer[] = [];
      for (let at = 0; at < STREAM.length; at += size)
        for (const frame of reader.push(STREAM.subarray(at, at + size))) found.push(Buffer.from(frame));
      expect(found).toEqual(MESSAGES);
      expect(reader.heldBytes).toBe(0);
    }
  });

  test('an empty frame at a cut is not lost', () => {
    const reader = new FrameReader();
    expect([...reader.push(Buffer.alloc(4))]).toEqual([Buffer.alloc(0)]);
  });

  test('a length that no master sends is refused before memory is reserved', () => {
    const reader = new FrameReader();
    const header = Buffer.alloc(4);
    header.writeUInt32BE(FRAME_BYTES_MAX + 1);
    expect(() => [...reader.push(header)]).toThrow(/not Pika's replication port/);
  });
});
