import { mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { encodeCommand } from '../../../src/binlog/resp.ts';
import { openLogDirectory } from '../../../src/pika/log-directory.ts';
import { type LogItem, LogReader } from '../../../src/pika/log-reader.ts';
import { StopError } from '../../../src/runtime/errors.ts';
import { PikaBinlogWriter, type WriterOptions } from '../../support/pika-binlog-writer.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lanegate-pika-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const writer = (options?: WriterOptions) => new PikaBinlogWriter(dir, options);
const firstFile = () => join(dir, 'write2file0');

interface Outcome {
  readonly items: LogItem[];
  readonly error: unknown;
}

/** All items behind a place; what stopped the reading stands beside them. */
async function read(from = { filenum: 0, offset: 0 }): Promise<Outcome> {
  const items: LogItem[] = [];
  try {
    const log = await openLogDirectory(dir);
    if (log === undefined) throw new Error('no binlog');
    const reader = new LogReader(log, from, log.end);
    try {
      for (let next = await reader.next(); next !== undefined; next = await reader.next())
        items.push(...next);
    } finally {
      await reader.close();
    }
  } catch (error) {
    return { items, error };
  }
  return { items, error: undefined };
}

async function readAll(from?: { filenum: number; offset: number }): Promise<LogItem[]> {
  const { items, error } = await read(from);
  if (error !== undefined) throw error;
  return items;
}

/** RESP of exactly so many bytes. */
function contentOf(bytes: number): Buffer {
  for (let value = 0; value <= bytes; value++) {
    const resp = encodeCommand(['X'.repeat(value)]);
    if (resp.length === bytes) return resp;
    if (bytes - resp.length > 16) value += bytes - resp.length - 16;
  }
  // Some lengths no RESP array has; the layout does not care what the content is.
  return Buffer.alloc(bytes, '*');
}

describe('the layout is the one of Pika itself', () => {
  test('SET a b as the first item of a file', async () => {
    const log = writer();
    log.append(['SET', 'a', 'b']);
    log.write();
    expect(readFileSync(firstFile()).toString('hex')).toBe(
      '3d000000f1536501010000f15365000000000100000000000000000000000000000000000000' +
        '1b0000002a330d0a24330d0a5345540d0a24310d0a610d0a24310d0a620d0a',
    );
    expect(readFileSync(join(dir, 'manifest')).subarray(0, 24).toString('hex')).toBe(
      '000000004500000000000000010000000000000000000000',
    );
    expect(await readAll()).toMatchObject([{ filenum: 0, start: 0, end: 69, malformed: undefined }]);
  });

  // What Pika's own writer makes of these lengths.
  test.each([
    { lengths: [65_486, 10], ends: [65_528, 65_588], at: 65_528, bytes: '000000', type: 2 },
    { lengths: [65_489, 10], ends: [65_531, 65_588], at: 65_536, bytes: '2c0000', type: 1 },
    { lengths: [65_494, 10], ends: [65_536, 65_588], at: 65_536, bytes: '2c0000', type: 1 },
    { lengths: [10, 200_000, 10], ends: [52, 200_118, 200_170], at: 65_536, bytes: 'f8ff00', type: 3 },
  ])('items of $lengths bytes end at $ends', async ({ lengths, ends, at, bytes, type }) => {
    const log = writer();
    for (const length of lengths) log.appendContent(contentOf(length));
    log.write();
    const file = readFileSync(firstFile());
    expect(file.subarray(at, at + 3).toString('hex')).toBe(bytes);
    expect(file[at + 7]).toBe(type);
    const items = await readAll();
    expect(items.map(({ end }) => end)).toEqual(ends);
    expect(items.map(({ item }) => item?.resp)).toEqual(lengths.map(contentOf));
    for (const [i, { filenum, end: offset }] of items.entries()) {
      expect((await readAll({ filenum, offset })).map(({ end }) => end)).toEqual(ends.slice(i + 1));
    }
  });
});

describe('items come whole whatever their size and place', () => {
  test('across blocks and chunks, from every end', async () => {
    const log = writer();
    const written = [];
    const contents: Buffer[] = [];
    for (let i = 0; i < 120; i++) {
      const content = contentOf(
        [10, 65_400 + i, 137 * i + 20, i % 40 === 7 ? 2_500_000 : 300][i % 4] as number,
      );
      contents.push(content);
      written.push(log.appendContent(content));
    }
    log.write({ zeros: 70_000 });
    const items = await readAll();
    expect(items.map(({ end }) => end)).toEqual(written.map(({ end }) => end));
    expect(items.every(({ item }, i) => item?.resp.equals(contents[i] as Buffer))).toBe(true);
    for (let i = 0; i < items.length; i += 7) {
      const { filenum, end: offset } = items[i] as LogItem;
      const rest = await readAll({ filenum, offset });
      expect(rest.map(({ end }) => end)).toEqual(written.slice(i + 1).map(({ end }) => end));
    }
  });

  test('across files, whose first item carries the place in the file before', async () => {
    const log = writer({ fileBytes: 1_000, firstFilenum: 9 });
    const written = Array.from({ length: 60 }, (_, i) => log.append(['SET', `k${i}`, 'v'.repeat(i)]));
    log.write();
    const items = await readAll({ filenum: 9, offset: 0 });
    expect(items.map(({ filenum, end }) => ({ filenum, end }))).toEqual(
      written.map(({ filenum, end }) => ({ filenum, end })),
    );
    const rolled = items.findIndex(({ filenum }) => filenum === 10);
    expect(items[rolled]?.item).toMatchObject({ startFilenum: 9, startOffset: items[rolled - 1]?.end });
    const { filenum, end: offset } = items[rolled - 1] as LogItem;
    expect(await readAll({ filenum, offset })).toHaveLength(60 - rolled);
  });

  test.each([500, 65_528, 65_533, 65_536, 200_000])(
    'behind the padding that a full sync leaves up to %i',
    async (offset) => {
      const log = writer({ firstFilenum: 4 });
      log.pad(offset);
      const big = contentOf(70_000);
      const { end } = log.appendContent(big);
      log.append(['SET', 'k', 'v']);
      log.write();
      for (const from of [0, offset]) {
        const items = await readAll({ filenum: 4, offset: from });
        expect(items).toHaveLength(2);
        expect(items[0]?.item?.resp.equals(big)).toBe(true);
        expect(items[0]?.end).toBe(end);
      }
    },
  );
});

describe('where a log ends', () => {
  test('the manifest says it, whatever stands behind', async () => {
    const log = writer();
    const { end } = log.append(['SET', 'k', 'v']);
    log.write();
    writeFileSync(
      firstFile(),
      Buffer.concat([readFileSync(firstFile()), Buffer.from('3d000000f1536501', 'hex')]),
    );
    expect(await readAll()).toHaveLength(1);
    expect((await openLogDirectory(dir))?.end).toEqual({ filenum: 0, offset: end });
  });

  test('a manifest that says more than the files hold is an error at the offset', async () => {
    const log = writer();
    const { end } = log.append(['SET', 'k', 'v']);
    log.append(['SET', 'k', 'w']);
    log.write();
    writeFileSync(firstFile(), readFileSync(firstFile()).subarray(0, end));
    const { items, error } = await read();
    expect(items).toHaveLength(1);
    expect(error).toBeInstanceOf(StopError);
    expect(String(error)).toContain(`${firstFile()}:${end}: expected records up to byte`);
  });

  test.each([1, 7, 8, 20, 41, 70])(
    'without a manifest a last item of which %i bytes are there is left out',
    async (bytes) => {
      const log = writer();
      log.append(['SET', 'k', 'v']);
      const { start, end } = log.append(['SET', 'key', 'w']);
      log.write({ manifest: false });
      expect(end - start).toBeGreaterThan(bytes);
      writeFileSync(firstFile(), readFileSync(firstFile()).subarray(0, start + bytes));
      expect(await readAll()).toHaveLength(1);
      expect(await openLogDirectory(dir)).toMatchObject({ end: { offset: start }, tornAt: start });
    },
  );

  test('without a manifest a header whose payload was not written is left out', async () => {
    const log = writer();
    log.append(['SET', 'k', 'v']);
    const { start, end } = log.append(['SET', 'key', 'w']);
    log.write({ manifest: false, zeros: 4_096 });
    const file = readFileSync(firstFile());
    file.fill(0, start + 8, end);
    writeFileSync(firstFile(), file);
    expect(await openLogDirectory(dir)).toMatchObject({ end: { offset: start }, tornAt: start });
  });

  test('without a manifest the first pieces of an item are left out', async () => {
    const log = writer();
    const { end } = log.append(['SET', 'k', 'v']);
    log.appendContent(contentOf(200_000));
    log.write({ manifest: false });
    writeFileSync(firstFile(), readFileSync(firstFile()).subarray(0, 131_072));
    expect(await openLogDirectory(dir)).toMatchObject({ end: { offset: end }, tornAt: end });
    expect(await readAll()).toHaveLength(1);
  });

  test('zeros behind the last item are no item', async () => {
    const log = writer();
    const { end } = log.append(['SET', 'k', 'v']);
    log.write({ manifest: false, zeros: 100_000 });
    expect(await openLogDirectory(dir)).toMatchObject({
      end: { filenum: 0, offset: end },
      tornAt: undefined,
    });
  });
});

describe('what is damaged is named with file and offset, behind everything that is whole', () => {
  /** Three items, of which the second is damaged. */
  function damaged(damage: (file: Buffer, start: number, end: number) => Buffer): {
    start: number;
    end: number;
  } {
    const log = writer();
    log.append(['SET', 'k', '1']);
    const { start, end } = log.append(['SET', 'k', '2']);
    log.append(['SET', 'k', '3']);
    log.write();
    writeFileSync(firstFile(), damage(readFileSync(firstFile()), start, end));
    return { start, end };
  }

  test.each([
    ['a type that is none', 9, 'a record of the types 1 to 4 or 6, found 9'],
    ['the rest of an item without its beginning', 4, 'the beginning of an item, found the rest of one'],
  ])('%s', async (_what, type, expected) => {
    const { start } = damaged((file, at) => {
      file[at + 7] = type;
      return file;
    });
    const { items, error } = await read();
    expect(items).toHaveLength(1);
    expect(error).toMatchObject({
      code: 'MALFORMED',
      message: `${firstFile()}:${start}: expected ${expected}`,
    });
  });

  test('a beginning that nothing ends', async () => {
    const { end } = damaged((file, at) => {
      file[at + 7] = 2;
      return file;
    });
    const { items, error } = await read();
    expect(items).toHaveLength(1);
    expect(String(error)).toContain(`${firstFile()}:${end}: expected the rest of the item before it`);
  });

  test('a record that would leave its block', async () => {
    const { start } = damaged((file, at) => {
      file.writeUIntLE(0xffffff, at, 3);
      return file;
    });
    expect(String((await read()).error)).toContain(
      `${firstFile()}:${start}: expected a record within its block`,
    );
  });

  test('zeros in front of the end', async () => {
    const { start } = damaged((file, at, end) => file.fill(0, at, end));
    const { items, error } = await read();
    expect(items).toHaveLength(1);
    expect(String(error)).toContain(`${firstFile()}:${start}: expected records up to byte`);
  });

  test('bytes within a record that are no item take the place of one', async () => {
    const { start } = damaged((file, at) => {
      file[at + 8] = 7;
      return file;
    });
    const items = await readAll();
    expect(items).toHaveLength(3);
    expect(items[1]).toMatchObject({ item: undefined, start });
    expect(items[1]?.malformed).toContain(
      `${firstFile()}:${start}: not a binlog item: expected item type 1, found 7`,
    );
  });

  test('a file that is missing in between', async () => {
    const log = writer({ fileBytes: 100 });
    for (let i = 0; i < 8; i++) log.append(['SET', 'k', 'v'.repeat(60)]);
    log.write();
    unlinkSync(join(dir, 'write2file1'));
    const { items, error } = await read();
    expect(items.every(({ filenum }) => filenum === 0)).toBe(true);
    expect(items.length).toBeGreaterThan(0);
    expect(error).toMatchObject({ code: 'SOURCE_LOST' });
    expect(String(error)).toContain('write2file1');
  });

  test('a file that lacks its tail, though another follows', async () => {
    const log = writer({ fileBytes: 100 });
    const written = Array.from({ length: 8 }, () => log.append(['SET', 'k', 'v'.repeat(60)]));
    log.write();
    const cut = written.findLast(({ filenum }) => filenum === 0)?.start as number;
    for (const bytes of [cut, cut + 30]) {
      writeFileSync(firstFile(), readFileSync(firstFile()).subarray(0, bytes));
      const { error } = await read();
      expect(error).toMatchObject({ code: 'MALFORMED' });
      expect(String(error)).toContain(`${firstFile()}:${cut}: expected`);
      log.write();
    }
  });

  test('a manifest that names a file that is not there', async () => {
    const log = writer({ fileBytes: 100 });
    for (let i = 0; i < 4; i++) log.append(['SET', 'k', 'v'.repeat(60)]);
    log.write();
    unlinkSync(join(dir, `write2file${log.place.filenum}`));
    expect((await read()).error).toMatchObject({ code: 'SOURCE_LOST' });
  });
});

describe('reading begins behind an item or not at all', () => {
  test('any other offset is refused', async () => {
    const log = writer();
    const written = Array.from({ length: 5 }, () => log.append(['SET', 'k', 'v']));
    log.write({ zeros: 1_000 });
    const ends = new Set([0, ...written.map(({ end }) => end)]);
    for (let offset = 0; offset <= log.place.offset; offset++) {
      const { error } = await read({ filenum: 0, offset });
      expect(error === undefined, `at ${offset}`).toBe(ends.has(offset));
    }
  });

  test('so is the begin of a block inside an item', async () => {
    const log = writer();
    log.appendContent(contentOf(200_000));
    log.append(['SET', 'k', 'v']);
    log.write();
    expect(String((await read({ filenum: 0, offset: 65_536 })).error)).toContain('found the rest of one');
  });
});
