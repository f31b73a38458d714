import { rm, truncate } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type { StopError } from '../../../src/runtime/errors.ts';
import type { Entry } from '../../../src/sources/source.ts';
import { LogDirectory, readAll, resp, textOf } from './log-directory.ts';

const SELECT_3 = resp(['SELECT', 3]);
const WHOLE = resp(['SET', 'a', '1'], ['MULTI'], ['SET', 'b', '2'], ['SELECT', 1], ['INCR', 'b'], ['EXEC']);
const NEXT = resp(['SET', 'c', Buffer.from([0, 13, 10, 42, 36])]);

function codeOf(error: unknown): string | undefined {
  return (error as StopError | undefined)?.code;
}

describe('the files of an AOF', () => {
  test('base and increments are one log, each file begins in database 0', async () => {
    await using log = await LogDirectory.create();
    await log.part('b', 7, SELECT_3, NEXT);
    await log.part('h', 1, 'never read');
    await log.part('i', 4, WHOLE);
    await log.part('i', 9);
    await log.part('i', 12, NEXT);
    const { entries, error, position } = await readAll(log.open());
    expect(error).toBeUndefined();
    expect(entries.map(({ db }) => db)).toEqual([0, 0, 0]);
    expect(entries.map(({ position }) => position)).toEqual([
      `base.7:${SELECT_3.length + NEXT.length}:3`,
      `incr.4:${WHOLE.length}:1`,
      `incr.12:${NEXT.length}:0`,
    ]);
    expect(textOf(entries)).toBe(Buffer.concat([SELECT_3, NEXT, WHOLE, NEXT]).toString('latin1'));
    expect(position).toBe(`incr.12:${NEXT.length}:0`);
    // The manifest may be named itself, and so may a lone file.
    expect(textOf((await readAll(log.open('a.aof.manifest'))).entries)).toBe(textOf(entries));
    expect(textOf((await readAll(log.open('a.aof.4.i'))).entries)).toBe(WHOLE.toString('latin1'));
  });

  test('a file that the manifest names and nobody has is named with its line', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 1, WHOLE);
    await log.part('i', 2, WHOLE);
    await rm(log.path('a.aof.2.i'));
    await expect(log.open().head()).rejects.toMatchObject({
      code: 'SOURCE_FILE',
      message: expect.stringMatching(/a\.aof\.manifest, line 2: .*a\.aof\.2\.i does not exist/),
    });
  });

  test('what is no AOF is said by name', async () => {
    await using log = await LogDirectory.create();
    await expect(log.open().head()).rejects.toThrow(/holds no \*\.manifest/);
    await expect(log.open('missing').head()).rejects.toThrow(/missing does not exist/);
    await log.put('a.manifest', '');
    await log.put('b.manifest', '');
    await expect(log.open().head()).rejects.toThrow(/several manifests: a\.manifest, b\.manifest/);
  });

  test('an empty log is at its end at once', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 1);
    await log.part('i', 2);
    const source = log.open();
    const { entries, position } = await readAll(source);
    expect(entries).toEqual([]);
    expect(source.covers(position, (await source.head()).position)).toBe(true);
  });

  test('the identity stays when the log grows or another directory holds it, and tells two logs apart', async () => {
    await using log = await LogDirectory.create();
    await using other = await LogDirectory.create();
    const base = Buffer.concat([WHOLE, NEXT]);
    await log.part('b', 1, base);
    await log.part('i', 1, WHOLE);
    const before = log.open().identity;
    await log.append('a.aof.1.i', NEXT);
    await other.part('b', 1, base);
    await other.part('i', 1, NEXT);
    expect([log.open().identity, other.open().identity]).toEqual([before, before]);
    await other.put('a.aof.1.b', NEXT);
    expect(other.open().identity).not.toBe(before);
    expect(before).toMatch(/^aof:[0-9a-f]{16}$/);
  });

  test('a file that is read goes on to be read when the server has removed it', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 1, WHOLE);
    const source = log.open();
    await source.head();
    await rm(log.path('a.aof.1.i'));
    expect(textOf((await readAll(source)).entries)).toBe(WHOLE.toString('latin1'));
  });

  test('a position whose file was rewritten away, or is another file now, is lost', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 3, WHOLE);
    const source = log.open();
    expect(codeOf((await readAll(source, 'incr.2:10:0')).error)).toBe('SOURCE_LOST');
    expect(codeOf((await readAll(source, 'incr.3:100000:0')).error)).toBe('SOURCE_REWOUND');
    await expect(source.resolve('incr.2:10:0')).rejects.toMatchObject({ code: 'SOURCE_LOST' });
    await expect(source.resolve('1-0')).rejects.toThrow(/is not a position in an AOF/);
  });

  test('a file that is cut while it is read stops the reading', async () => {
    await using log = await LogDirectory.create();
    await log.put('a.aof', WHOLE, NEXT);
    const source = log.open('a.aof');
    await source.head();
    await truncate(log.path('a.aof'), WHOLE.length);
    expect(codeOf((await readAll(source)).error)).toBe('SOURCE_REWOUND');
  });
});

describe('a torn tail', () => {
  test('at every byte: what is whole is yielded, the rest is left out, told, and covered by the position', async () => {
    await using log = await LogDirectory.create();
    const tail = resp(
      ['SET', 'x', '1'],
      ['MULTI'],
      ['SET', 'y', '12'],
      ['SELECT', 5],
      ['EXEC'],
      ['SET', 'z', '3'],
    );
    const ends = [0, 27, tail.length - 27];
    const bytes = Buffer.concat([WHOLE, tail]);
    for (let cut = 0; cut <= tail.length; cut++) {
      await log.put('a.aof', bytes.subarray(0, WHOLE.length + cut));
      log.notices.length = 0;
      const source = log.open('a.aof');
      const { entries, error, position } = await readAll(source);
      expect(error).toBeUndefined();
      const whole = cut === tail.length ? tail.length : Math.max(...ends.filter((end) => end <= cut));
      expect(textOf(entries)).toBe(bytes.subarray(0, WHOLE.length + whole).toString('latin1'));
      const left = cut - whole;
      expect(position).toMatch(
        new RegExp(`^file:${WHOLE.length + whole}:\\d${left > 0 ? `\\+${left}` : ''}$`),
      );
      expect(log.notices).toHaveLength(left > 0 ? 1 : 0);
      if (left > 0)
        expect(log.notices[0]).toContain(`the last ${left} bytes, from byte ${WHOLE.length + whole}`);
      // And from there on once the server has completed it.
      await log.put('a.aof', bytes);
      const rest = await readAll(log.open('a.aof'), position);
      expect(textOf(entries) + textOf(rest.entries)).toBe(bytes.toString('latin1'));
      expect(rest.position).toBe(`file:${bytes.length}:5`);
    }
  });

  test('with nothing whole behind the position, the source knows that it is at the end', async () => {
    await using log = await LogDirectory.create();
    await log.put('a.aof', WHOLE, NEXT.subarray(0, 9));
    const source = log.open('a.aof');
    const { entries, position } = await readAll(source, `file:${WHOLE.length}:1`);
    expect(entries).toEqual([]);
    expect(position).toBe(`file:${WHOLE.length}:1`);
    expect(log.notices).toHaveLength(1);
  });

  test('of a file that is not the last stops the reading behind what is whole', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 1, WHOLE, NEXT.subarray(0, 9));
    await log.part('i', 2, NEXT);
    const { entries, error } = await readAll(log.open());
    expect(textOf(entries)).toBe(WHOLE.toString('latin1'));
    expect(error).toMatchObject({ code: 'MALFORMED', facts: { offset: WHOLE.length, bytes: 9 } });
  });
});

describe('what no server writes', () => {
  test.each([
    ['*', 'garbage\r\n', 0],
    ["'\\$'", '*1\r\nPING\r\n', 4],
    ['CRLF', '*1\r\n$4\r\nPINGxx', 12],
    ['a length', '*1\r\n$x\r\nPING\r\n', 5],
    ['MULTI before EXEC', resp(['EXEC']).toString(), 0],
    ['EXEC before the next MULTI', resp(['MULTI'], ['MULTI']).toString(), 15],
    ['SELECT with the number', resp(['SELECT', 'x']).toString(), 0],
    ['\\*', '\0\0\0\0\0\0\0\0', 0],
    ['an annotation of at most', `#${'x'.repeat(2000)}\r\n`, 0],
  ])('expected %s: stops at the offset, behind everything that is whole', async (expected, bad, at) => {
    await using log = await LogDirectory.create();
    await log.put('a.aof', WHOLE, NEXT, bad, NEXT);
    const { entries, error } = await readAll(log.open('a.aof'));
    const before = WHOLE.length + NEXT.length;
    expect(textOf(entries)).toBe(Buffer.concat([WHOLE, NEXT]).toString('latin1'));
    expect(error).toMatchObject({
      code: 'MALFORMED',
      message: expect.stringMatching(
        new RegExp(`a\\.aof: expected .*${expected.replace(/^\*/, '\\*')}.* at byte ${before + at}`),
      ),
      hint: expect.stringContaining('redis-check-aof'),
    });
    // Not a byte of what follows, and the same on another try from where the first one ended.
    const again = await readAll(log.open('a.aof'), entries.at(-1)?.position ?? '');
    expect(again.entries).toEqual([]);
    expect(codeOf(again.error)).toBe('MALFORMED');
  });

  test('inside a MULTI: the transaction is left whole to the repaired file', async () => {
    await using log = await LogDirectory.create();
    await log.put('a.aof', NEXT, resp(['MULTI'], ['SELECT', 4]), 'garbage');
    const { entries, error, position } = await readAll(log.open('a.aof'));
    expect(textOf(entries)).toBe(NEXT.toString('latin1'));
    expect(position).toBe(`file:${NEXT.length}:0`);
    expect(codeOf(error)).toBe('MALFORMED');
  });
});

describe('long logs', () => {
  /** Commands and transactions of all sizes, some larger than a block, with and without timestamps. */
  function longLog(withTimes: boolean): Buffer {
    const pieces: Buffer[] = [];
    let random = 7;
    const next = (max: number) => {
      random = (random * 48271) % 0x7fffffff;
      return random % max;
    };
    for (let i = 0; i < 6_000; i++) {
      if (withTimes && next(50) === 0) pieces.push(Buffer.from(`#TS:${1_700_000_000 + i}\r\n`));
      const value = Buffer.alloc(next(200) === 0 ? next(300_000) : next(100), i & 255);
      const commands: (string | number | Buffer)[][] = [['SET', `key:${i}`, value]];
      if (next(10) === 0) commands.unshift(['SELECT', next(16)]);
      if (next(20) === 0) commands.push(...Array.from({ length: next(50) }, (_, n) => ['INCR', `n:${n}`]));
      const isMulti = next(5) === 0;
      pieces.push(resp(...(isMulti ? [['MULTI'], ...commands, ['EXEC']] : commands)));
    }
    pieces.push(resp(['SET', 'large', Buffer.alloc(5 * 1024 * 1024, 42)]), resp(['SET', 'last', 1]));
    return Buffer.concat(pieces);
  }

  test.each([false, true])(
    'blocks, entries and transactions: nothing is lost, cut or moved (timestamps: %s)',
    async (withTimes) => {
      await using log = await LogDirectory.create();
      const bytes = longLog(withTimes);
      const expected = bytes.toString('latin1').replace(/#TS:\d+\r\n/g, '');
      await log.put('a.aof', bytes);
      const { entries } = await readAll(log.open('a.aof'));
      expect(textOf(entries) === expected).toBe(true);
      expect(entries.length).toBeGreaterThan(20);
      for (const entry of entries) expect(opens(entry)).toBe(closes(entry));
      // From anywhere, the same commands in the same databases follow.
      for (let i = 0; i < entries.length - 1; i += 1 + Math.floor(entries.length / 10)) {
        const rest = await readAll(log.open('a.aof'), entries[i]?.position ?? '');
        expect(textOf(rest.entries) === textOf(entries.slice(i + 1))).toBe(true);
        expect(rest.entries[0]?.db).toBe(entries[i + 1]?.db);
        expect(rest.position).toBe(entries.at(-1)?.position);
      }
    },
  );

  test('a MULTI above the limit stops the reading in front of it, also when its end is not there yet', async () => {
    await using log = await LogDirectory.create();
    const large = resp(['MULTI'], ['SET', 'k', Buffer.alloc(3_000_000)], ['EXEC']);
    for (const bytes of [large, large.subarray(0, 2_500_000)]) {
      await log.put('a.aof', NEXT, bytes);
      const { entries, error } = await readAll(log.open('a.aof', { transactionBytesMax: 1_000_000 }));
      expect(textOf(entries)).toBe(NEXT.toString('latin1'));
      expect(error).toMatchObject({ code: 'TRANSACTION_TOO_LARGE', facts: { offset: NEXT.length } });
    }
    await log.put('a.aof', NEXT, large);
    expect((await readAll(log.open('a.aof'))).error).toBeUndefined();
  });
});

function opens(entry: Entry): number {
  return entry.resp.toString('latin1').split('$5\r\nMULTI\r\n').length;
}

function closes(entry: Entry): number {
  return entry.resp.toString('latin1').split('$4\r\nEXEC\r\n').length;
}

describe('timestamps', () => {
  const T = 1_700_000_000;
  const at = (seconds: number) => `#TS:${T + seconds}\r\n`;

  test('they date the entries behind them; in front of the first one the file does', async () => {
    await using log = await LogDirectory.create();
    await log.put('a.aof', NEXT, at(1), WHOLE, '#something else\r\n', NEXT, at(5), NEXT);
    const { entries } = await readAll(log.open('a.aof'));
    expect(entries.slice(1).map(({ timeMs }) => timeMs / 1000 - T)).toEqual([1, 1, 5]);
    expect(Math.abs((entries[0]?.timeMs ?? 0) - Date.now())).toBeLessThan(60_000);
    expect(textOf(entries)).toBe(Buffer.concat([NEXT, WHOLE, NEXT, NEXT]).toString('latin1'));
  });

  test('one inside a MULTI does not come into the transaction, and positions are still those of the file', async () => {
    await using log = await LogDirectory.create();
    await log.put(
      'a.aof',
      NEXT,
      resp(['MULTI'], ['SELECT', 2]),
      at(3),
      resp(['SET', 'a', 1], ['EXEC']),
      NEXT,
    );
    const source = log.open('a.aof');
    const { entries, position } = await readAll(source);
    expect(textOf(entries)).toBe(
      Buffer.concat([NEXT, resp(['MULTI'], ['SELECT', 2], ['SET', 'a', 1], ['EXEC']), NEXT]).toString(
        'latin1',
      ),
    );
    expect(entries.map(({ db }) => db)).toEqual([0, 0, 2]);
    expect(entries[2]?.timeMs).toBe((T + 3) * 1000);
    const rest = await readAll(source, entries[1]?.position ?? '');
    expect(textOf(rest.entries)).toBe(NEXT.toString('latin1'));
    const again = await readAll(source, source.positionInside(entries[1] as Entry, 2));
    expect(again.entries[0]).toMatchObject({ skip: 2, resp: entries[1]?.resp });
    expect(again.position).toBe(position);
  });

  test('--until-time ends the log in front of the first command behind that time', async () => {
    await using log = await LogDirectory.create();
    await log.part('i', 1, at(0), WHOLE, at(4), NEXT);
    await log.part('i', 2, at(6), NEXT, at(9), 'never looked at');
    const untilMs = (T + 6) * 1000;
    const source = log.open('', { untilMs });
    const { entries, error, position } = await readAll(source);
    expect(error).toBeUndefined();
    expect(textOf(entries)).toBe(Buffer.concat([WHOLE, NEXT, NEXT]).toString('latin1'));
    // Read on to a later time, and to the same.
    expect((await readAll(log.open('', { untilMs }), position)).entries).toEqual([]);
    expect((await readAll(log.open('', { untilMs: untilMs + 2_000 }), position)).entries).toEqual([]);
    expect(codeOf((await readAll(log.open(), position)).error)).toBe('MALFORMED');
    const { entries: early } = await readAll(log.open('', { untilMs: (T + 3) * 1000 }));
    expect(textOf(early)).toBe(WHOLE.toString('latin1'));
  });

  test('--until-time is refused before anything is yielded where the log cannot tell', async () => {
    await using log = await LogDirectory.create();
    await log.put('none.aof', WHOLE, NEXT);
    await log.put('late.aof', WHOLE, at(9), NEXT);
    for (const [name, said] of [
      ['none.aof', /no timestamps/],
      ['late.aof', /holds what is later/],
    ] as const) {
      const { entries, error } = await readAll(log.open(name, { untilMs: (T + 5) * 1000 }));
      expect(entries).toEqual([]);
      expect(error).toMatchObject({ code: 'UNTIL_TIME', message: expect.stringMatching(said) });
    }
    const { error } = await readAll(log.open('none.aof', { untilMs: T * 1000 }));
    expect((error as StopError).hint).toContain('aof-timestamp-enabled');
    expect(() => log.open('x', { untilMs: 1 }, 'rdb')).toThrow(/--until-time/);
  });
});

describe('the URL', () => {
  test('names a path without a host, percent-encoded where it must be', async () => {
    await using log = await LogDirectory.create();
    await log.put('a b#?.aof', WHOLE);
    const { entries } = await readAll(log.open('a%20b%23%3F.aof'));
    expect(textOf(entries)).toBe(WHOLE.toString('latin1'));
    expect(log.open('x').display).toBe(`aof://${log.path('x')}`);
  });
});
