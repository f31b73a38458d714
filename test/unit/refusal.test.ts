import { describe, expect, test } from 'vitest';
import { refusalOf } from '../../src/target/refusal.ts';
import { ReplyError } from '../../src/wire/replies.ts';

describe('what a refusal of the target means', () => {
  test.each([
    "OOM command not allowed when used memory > 'maxmemory'.",
    'LOADING Redis is loading the dataset in memory',
    'BUSY Redis is busy running a script.',
    "READONLY You can't write against a read only replica.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    'CLUSTERDOWN The cluster is down',
    'TRYAGAIN Multiple keys request during rehashing of slot',
    'NOREPLICAS Not enough good replicas to write.',
    'MISCONF Errors writing to the AOF file: No space left on device',
  ])('it passes, alone and as the reason of EXECABORT: %s', (text) => {
    expect(refusalOf(new ReplyError(text))).toBe('transient');
    expect(refusalOf(new ReplyError(`EXECABORT Transaction discarded because of: ${text}`))).toBe(
      'transient',
    );
  });

  test.each(['NOAUTH Authentication required.', 'WRONGPASS invalid pair', 'NOPERM no permissions'])(
    'somebody has to give a right: %s',
    (text) => expect(refusalOf(new ReplyError(text))).toBe('permission'),
  );

  test.each(['ERR unknown command', 'WRONGTYPE Operation against a key', 'EXECABORT Transaction discarded'])(
    'it does not pass: %s',
    (text) => expect(refusalOf(new ReplyError(text))).toBe('poison'),
  );
});
