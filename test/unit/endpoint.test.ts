import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config-load.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { ConfigurationError } from '../../src/runtime/errors.ts';
import { mask } from '../../src/runtime/log.ts';
import { parseStreamUrl } from '../../src/sources/redis-stream/url.ts';

const problemsOf = (parse: () => unknown): string => {
  try {
    parse();
  } catch (error) {
    if (error instanceof ConfigurationError) return error.message;
    throw error;
  }
  return 'no problem';
};

describe('a password that nobody encoded', () => {
  test.each([
    'redis://u:12/tiger@h',
    'redis://u:12?tiger@h',
    'redis://u:12#tiger@h',
    'redis://u:12/tiger?x@h:1/0',
  ])('is refused and not repeated: %s', (url) => {
    const stream = `${url.replace('redis:', 'redis-stream:')}?key=binlog`;
    for (const said of [
      problemsOf(() => parseEndpoint('--target', url)),
      problemsOf(() => parseStreamUrl('--source', stream)),
    ]) {
      expect(said).toMatch(/must be percent-encoded/);
      expect(said).not.toMatch(/tiger/);
    }
  });

  test('with an @ is read as the last @ says, and masked whole', () => {
    const { password, display, host } = parseEndpoint('--target', 'redis://u:ti@ger@h:1');
    expect([password, display, host]).toEqual(['ti@ger', 'redis://h:1', 'h']);
    expect(mask('redis://u:ti@ger@h:1 and redis://a@b')).toBe('redis://***@h:1 and redis://***@b');
  });
});

test('a password in the query of a URL is refused and not repeated', () => {
  const said = problemsOf(() =>
    loadConfig(
      'check',
      ['--source=rdb:///x', '--target', 'redis://h:1?password=tiger', '--queue=redis://h:2/0?tiger'],
      {},
      '/',
    ),
  );
  expect(said.split('\n')).toEqual([
    expect.stringMatching(/^--target: .*"\?"/),
    expect.stringMatching(/^--queue: .*"\?"/),
  ]);
  expect(said).not.toMatch(/tiger/);
});

test('a stream may be called anything, an @ included', () => {
  expect(String(parseStreamUrl('--source', 'redis-stream://h?key=a@b').key)).toBe('a@b');
});
