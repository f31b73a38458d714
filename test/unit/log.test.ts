import { describe, expect, test } from 'vitest';
import { createLogger, mask, safeMessage } from '../../src/runtime/log.ts';

function logged(format: 'json' | 'pretty', error: unknown): string {
  let text = '';
  const log = createLogger({
    level: 'info',
    format,
    destination: {
      write: (line: string) => {
        text += line;
      },
    },
  });
  log.error({ err: error }, 'it failed');
  return text;
}

describe.each(['json', 'pretty'] as const)('the %s log', (format) => {
  test('prints of a ReplyError its name, code and message, never the arguments of the command', () => {
    const error = Object.assign(new Error('WRONGTYPE Operation against a key'), {
      name: 'ReplyError',
      code: 'WRONGTYPE',
      command: { name: 'auth', args: ['ada', 'tiger'] },
    });
    const text = logged(format, error);
    expect(text).toContain('WRONGTYPE Operation');
    expect(text).not.toMatch(/tiger|ada|stack/);
  });
});

test('credentials in URLs and the arguments that Redis repeats are masked', () => {
  expect(mask('connect redis://ada:tiger@h:1/0 failed')).toBe('connect redis://***@h:1/0 failed');
  expect(mask("ERR unknown command 'X', with args beginning with: 'tiger' ")).not.toContain('tiger');
});

test('a failure to connect on several addresses has a message', () => {
  expect(safeMessage(new AggregateError([new Error('connect ECONNREFUSED ::1:6379')]))).toContain(
    'ECONNREFUSED',
  );
});
