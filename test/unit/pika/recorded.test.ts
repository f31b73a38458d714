import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { formatCommand, parseLine } from '../../../src/binlog/quoting.ts';
import { RespScanner } from '../../../src/binlog/resp.ts';
import { openLogDirectory } from '../../../src/pika/log-directory.ts';
import { type LogItem, LogReader } from '../../../src/pika/log-reader.ts';
import { translateItem } from '../../../src/pika/translate.ts';
import { packageRoot } from '../../../src/runtime/package.ts';

const FIXTURES = join(packageRoot(), 'test/fixtures/pika');

async function recorded(version: string): Promise<{ items: LogItem[]; end: unknown }> {
  const log = await openLogDirectory(join(FIXTURES, `v${version}`));
  if (log === undefined) throw new Error(`no fixture for ${version}`);
  const reader = new LogReader(log, { filenum: 0, offset: 0 }, log.end);
  const items: LogItem[] = [];
  for (let next = await reader.next(); next !== undefined; next = await reader.next()) items.push(...next);
  await reader.close();
  return { items, end: log.end };
}

function argsOf(resp: Buffer): Buffer[] {
  const scanner = new RespScanner();
  scanner.reset(resp);
  expect(scanner.next()).toBe(true);
  expect(scanner.end).toBe(resp.length);
  return scanner.args();
}

describe.each([
  { version: '4.0.0', count: 206, end: 147_018, contents: '62ecbdbc9c7c8925' },
  { version: '4.0.1', count: 205, end: 147_005, contents: '75cad379b9740741' },
])('the binlog of a real Pika v$version', ({ version, count, end, contents }) => {
  test('is read whole, up to the end that its manifest names', async () => {
    const log = await recorded(version);
    expect(log.end).toEqual({ filenum: 0, offset: end });
    expect(log.items).toHaveLength(count);
    expect(log.items.at(-1)).toMatchObject({ filenum: 0, end });
    expect(log.items.every(({ item }) => item !== undefined)).toBe(true);
    expect(log.items.map(({ item }) => item?.logicId)).toEqual(log.items.map((_, i) => i + 1));
    let before = 0;
    for (const { item, end: behind } of log.items) {
      expect(item).toMatchObject({ startFilenum: 0, startOffset: before });
      before = behind;
    }
    const hash = createHash('sha256');
    for (const { item } of log.items) hash.update(item?.resp ?? '');
    expect(hash.digest('hex').slice(0, 16)).toBe(contents);
    expect(log.items.filter(({ bytes }) => bytes.length > 2 * 65_536)).toHaveLength(1);
  });

  test('holds what the client sent last, as it sent it', async () => {
    const { items } = await recorded(version);
    const sent = Array.from({ length: 150 }, (_, i) => `SET bulk:${i + 1} v${i + 1}`);
    const last = items.slice(-151).map(({ item }) => formatCommand(argsOf(item?.resp as Buffer)));
    expect(last).toEqual(['SET after 1', ...sent]);
    expect(readFileSync(join(FIXTURES, `commands-v${version}.txt`), 'utf8')).toContain('SET after 1');
  });

  test('has a key for every key that the client wrote', async () => {
    const { items } = await recorded(version);
    const logged = new Set(items.map(({ item }) => String(argsOf(item?.resp as Buffer)[1] ?? '')));
    const text = readFileSync(join(FIXTURES, `commands-v${version}.txt`), 'utf8');
    for (const line of text.split('\n')) {
      const [verb = Buffer.alloc(0), key] = parseLine(line);
      if (key === undefined || String(verb).toUpperCase() === 'BITOP') continue;
      expect(logged.has(String(key)), line).toBe(true);
    }
  });
});

/** The commands that are sent for a log, one a line, and what is not. */
async function translation(version: string) {
  const { items } = await recorded(version);
  const [began] = items;
  const sent: string[] = [];
  const cannot: string[] = [];
  let nothing = 0;
  for (const { item } of items) {
    if (item === undefined) continue;
    const result = translateItem(item);
    if (result.kind === 'nothing') nothing++;
    else if (result.kind === 'cannot') cannot.push(`${result.command} ${result.key}`);
    else sent.push(formatCommand(argsOf(result.resp)));
  }
  return { sent, cannot, nothing, execTimeS: began?.item?.execTimeS as number };
}

const digest = (lines: readonly string[]) =>
  createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);

test('of v4.0.0 all but the result of PFMERGE is carried', async () => {
  const { sent, cannot, nothing, execTimeS } = await translation('4.0.0');
  expect({ sent: sent.length, cannot, nothing }).toEqual({ sent: 205, cannot: ['SET p3'], nothing: 0 });
  for (const command of [
    `SET s1 v EXAT ${execTimeS + 1000}`,
    `SET s2 v EXAT ${execTimeS + 1000}`,
    `SET s4 v PXAT ${(execTimeS + 1000) * 1000} NX`,
    'INCRBY n 5',
    'APPEND missing z',
    'srem t2 b',
    'FLUSHALL',
  ])
    expect(sent).toContain(command);
  expect(digest(sent)).toBe('d6309e23c2023264');
});

test('of v4.0.1 all but PFMERGE and an APPEND to a missing key is carried', async () => {
  const { sent, cannot, nothing, execTimeS } = await translation('4.0.1');
  expect({ sent: sent.length, cannot, nothing }).toEqual({
    sent: 202,
    cannot: ['PKSETEXAT ap', 'PKSETEXAT missing', 'SET p3'],
    nothing: 0,
  });
  for (const command of [
    `SET s1 v EXAT ${execTimeS + 1000}`,
    'SET n 1',
    'SET n 6',
    'SET ap xy',
    'SET tx2 1',
    'FLUSHDB',
  ])
    expect(sent).toContain(command);
  expect(digest(sent)).toBe('11f145f28e33fb4d');
});
