import { describe, expect, test } from 'vitest';
import { respell } from '../../../src/binlog/respell.ts';

const PIKA = { deadlines: 'EXPIREAT', hsetOfOne: true } as const;

function spelled(command: string, spelling: Parameters<typeof respell>[2] = PIKA) {
  const args = command.split(' ').map((word) => Buffer.from(word));
  const found = respell(String(args[0]).toUpperCase(), args, spelling);
  if (found?.kind !== 'commands') return found;
  return found.commands.map((words) => words.map(String).join(' '));
}

describe('what a target without the newer words is told', () => {
  test.each([
    ['SET k v PXAT 1700000000001', ['SET k v', 'EXPIREAT k 1700000001']],
    ['set k v exat 1700000000', ['SET k v', 'EXPIREAT k 1700000000']],
    ['PEXPIREAT k 1700000000999', ['EXPIREAT k 1700000001']],
    ['EXPIREAT k 0', ['EXPIREAT k 1']],
    ['EXPIREAT k -5', ['EXPIREAT k 1']],
    ['HSET h a 1 b 2', ['HMSET h a 1 b 2']],
  ])('%s', (command, told) => {
    expect(spelled(command)).toEqual(told);
  });

  test.each(['SET k v', 'SET k v NX', 'HSET h a 1', 'PEXPIREAT k soon', 'SET k v PXAT soon', 'EXPIRE k 5'])(
    '%s goes as it is',
    (command) => {
      expect(spelled(command)).toBeUndefined();
    },
  );

  test('ms are kept where PEXPIREAT holds them', () => {
    const spelling = { deadlines: 'PEXPIREAT', hsetOfOne: false } as const;
    expect(spelled('SET k v PXAT 1700000000001', spelling)).toEqual(['SET k v', 'PEXPIREAT k 1700000000001']);
    expect(spelled('HSET h a 1 b 2', spelling)).toBeUndefined();
  });

  test('a condition would not hold for the second command: refused', () => {
    expect(spelled('SET k v NX PXAT 1700000000001')).toMatchObject({ kind: 'refused' });
    expect(spelled('SET k v PXAT 1700000000001', { deadlines: 'none', hsetOfOne: true })).toMatchObject({
      kind: 'refused',
    });
  });
});
