import { describe, expect, test } from 'vitest';
import type { StopError } from '../../../src/runtime/errors.ts';
import { parseManifest } from '../../../src/sources/aof/manifest.ts';

const parse = (text: string) => parseManifest(Buffer.from(text), 'dir/a.manifest');

function refusal(text: string): string {
  try {
    parse(text);
  } catch (error) {
    expect((error as StopError).code).toBe('AOF_MANIFEST');
    return (error as StopError).message;
  }
  throw new Error('it was taken');
}

describe('the manifest of an AOF', () => {
  test('the base comes first wherever it stands, then increments; history is left out', () => {
    const files = parse(
      [
        '# a comment\n',
        'file a.aof.3.incr.aof seq 3 type i\n',
        'file a.aof.2.base.rdb seq 2 type b\n',
        'file a.aof.1.base.rdb seq 1 type h\n',
        'file a.aof.10.incr.aof seq 10 type i startoffset 5\n',
      ].join(''),
    );
    expect(files).toEqual([
      { name: 'a.aof.2.base.rdb', seq: 2, type: 'base', line: 3 },
      { name: 'a.aof.3.incr.aof', seq: 3, type: 'incr', line: 2 },
      { name: 'a.aof.10.incr.aof', seq: 10, type: 'incr', line: 5 },
    ]);
  });

  test('names may be quoted as the server quotes them, and lines may end with CRLF', () => {
    expect(parse('file "my \\x22aof\\".1.incr.aof" seq 1 type i\r\n')[0]?.name).toBe('my "aof".1.incr.aof');
  });

  test.each([
    ['', /line 1: expected a base file or an increment/],
    ['file a seq 1 type h\n', /expected a base file or an increment/],
    ['file a seq 1 type i', /line 1: expected a line feed/],
    ['\n', /line 1: expected pairs/],
    ['file a seq 1\n', /line 1: expected pairs/],
    ['file "a seq 1 type i\n', /line 1: expected pairs/],
    ['file a seq 1 type i x\n', /line 1: expected pairs/],
    ['file a seq 0 type i\n', /line 1: expected a seq/],
    ['file a seq 1 type x\n', /line 1: expected a type/],
    ['file ../a seq 1 type i\n', /line 1: expected the name of a file, without a path/],
    ['file a seq 2 type i\nfile b seq 2 type i\n', /line 2: expected a seq above/],
    ['file a seq 1 type b\nfile b seq 2 type b\n', /line 2: expected one base file, and line 1/],
    [`file ${'a'.repeat(1100)} seq 1 type i\n`, /line 1: expected at most 1024 bytes/],
  ])('%j is refused by line', (text, message) => {
    expect(refusal(text)).toMatch(message);
    expect(refusal(text)).toContain('dir/a.manifest');
  });
});
