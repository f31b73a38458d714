import { expect, test } from 'vitest';
import { reasonOf } from '../../processors/poison.ts';
import { ReplyError } from '../../src/wire/replies.ts';

// Error texts of a real server (7.0), with what they repeat of the command.
test.each([
  [
    'ERR invalid longitude,latitude pair 7318.250731,12.500000',
    ['GEOADD', 'g', '7318.250731', '12.5', 'tiger'],
    'ERR invalid longitude,latitude pair ...,...00000',
  ],
  [
    "ERR Error compiling script (new function): user_script:1: '<eof>' expected near 'tiger' ",
    ['EVAL', "return 'x' tiger", '0'],
    'ERR Error compiling script (new function): an error of its own',
  ],
  ['MY tiger', ['EVAL', 'return redis.error_reply(ARGV[1])', '1', 'k', 'tiger'], 'MY ...'],
  [
    'MY tiger script: 273f8ba9e10550febb1b1df1e82e1db004d2a2a1, on @user_script:1.',
    ['EVAL', "error({err='MY tiger'})", '0'],
    'the script ended with an error of its own',
  ],
  [
    "ERR unknown command 'X', with args beginning with: 'tiger' ",
    ['X', 'tiger'],
    "ERR unknown command 'X', with args beginning with: ...",
  ],
  [
    'WRONGTYPE Operation against a key holding the wrong kind of value',
    ['INCR', 'k'],
    'WRONGTYPE Operation against a key holding the wrong kind of value',
  ],
])('%s says nothing of what the command held', (text, args, said) => {
  const reason = reasonOf(
    new ReplyError(text),
    args.map((arg) => Buffer.from(arg)),
  );
  expect(reason).toBe(said);
  expect(reason).not.toContain('tiger');
});
