import { expect, test } from 'vitest';
import { Arena, ArenaPair } from '../../src/wire/arena.ts';

function reply(arena: Arena, text: string): Buffer {
  arena.reset();
  const value = arena.take(text.length);
  value.write(text);
  return value;
}

test('a value is good until the next but one reply, and its memory is then taken again', () => {
  const pair = new ArenaPair();
  // The first two replies tell how much is wanted.
  for (let i = 0; i < 4; i++) reply(pair.next(), 'warm-up');
  const first = reply(pair.next(), 'first..');
  reply(pair.next(), 'second.');
  expect(String(first)).toBe('first..');
  reply(pair.next(), 'third..');
  expect(String(first)).toBe('third..');
});

test('what does not fit gets memory of its own', () => {
  const arena = new Arena();
  const small = reply(arena, 'small');
  const large = arena.take(1_000_000);
  large.fill('x');
  expect(String(small)).toBe('small');
});
