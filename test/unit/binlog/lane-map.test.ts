import { describe, expect, test } from 'vitest';
import { crc16, laneOf, SLOTS, slotOf } from '../../../src/binlog/lane-map.ts';
import { spawnRedis } from './redis-server.ts';

function slot(key: string | Buffer): number {
  const bytes = Buffer.from(key);
  return slotOf(bytes, 0, bytes.length);
}

describe('the lane map', () => {
  test('computes the CRC16 that the cluster specification gives for 123456789', () => {
    expect(crc16(Buffer.from('123456789'), 0, 9)).toBe(0x31c3);
    expect(slot('123456789')).toBe(0x31c3);
  });

  test.each([
    ['foo', 12182],
    ['bar', 5061],
    ['', 0],
  ])('puts %j where every Redis Cluster puts it', (key, expected) => {
    expect(slot(key)).toBe(expected);
  });

  test('hashes what the first braces enclose, and the whole key if that is nothing', () => {
    expect(slot('{user1000}.following')).toBe(slot('{user1000}.followers'));
    expect(slot('{user1000}.following')).toBe(slot('user1000'));
    expect(slot('foo{{bar}}zap')).toBe(slot('{bar'));
    expect(slot('foo{bar}{zap}')).toBe(slot('bar'));
    expect(slot('foo{}{bar}')).toBe(crc16(Buffer.from('foo{}{bar}'), 0, 10) % SLOTS);
    expect(slot('foo{bar')).toBe(crc16(Buffer.from('foo{bar'), 0, 7) % SLOTS);
    expect(slot('}foo{bar}')).toBe(slot('bar'));
  });

  test('looks at nothing outside the given range', () => {
    const buffer = Buffer.from('{x}foo}{y}');
    expect(slotOf(buffer, 3, 6)).toBe(slot('foo'));
  });

  test('agrees with CLUSTER KEYSLOT of a real server', async () => {
    await using redis = await spawnRedis(['--cluster-enabled', 'yes']);
    const keys = ['a{b', 'a{b}c', '{}x', '{}{x}', 'x}{y}', '{{a}}', 'a}b{c}d{e}'].map((key) =>
      Buffer.from(key),
    );
    for (let i = 0; i < 300; i++)
      keys.push(Buffer.from([i & 255, 123, (i * 7) & 255, i % 3 ? 125 : 0, (i * 31) & 255]));
    for (const key of keys) expect(slot(key)).toBe(await redis.client.call('CLUSTER', 'KEYSLOT', key));
  });

  test('spreads slots over lanes by their remainder', () => {
    expect(laneOf(12182, 8)).toBe(12182 % 8);
    expect(laneOf(5, 1)).toBe(0);
  });
});
