import { appendFileSync, mkdtempSync, readdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type CopyRecord, CopySpool } from '../../../src/sources/pika/copy-spool.ts';
import type { CopyDelta } from '../../../src/sources/pika/copy-state.ts';
import { Spool } from '../../../src/sources/redis-link/spool.ts';
import { until } from '../../support/faults.ts';

const MANY = 1024 ** 3;
let root = '';
let spool: Spool;

beforeEach(async () => {
  root = mkdtempSync(join(tmpdir(), 'lanegate-copy-'));
  spool = await Spool.create(root, MANY);
});
afterEach(() => rmSync(root, { recursive: true, force: true }));

function record(text: string, ...deltas: CopyDelta[]): CopyRecord {
  return { db: 0, timeMs: 1, keys: 0, resp: Buffer.from(text), deltas };
}

async function textsOf(copy: CopySpool, from = 0): Promise<string[]> {
  const texts: string[] = [];
  for await (const { resp } of copy.read(from)) texts.push(String(resp));
  return texts;
}

async function reopened(): Promise<CopySpool> {
  return await CopySpool.open((await Spool.find(root, spool.id, MANY)) as Spool);
}

const BEGIN: CopyDelta = { kind: 'begin', log: 'x', places: [['db0', { filenum: 0, offset: 7 }]] };

test('what was appended is read again, with the state, by whoever goes on, and torn bytes are left out', async () => {
  const first = await CopySpool.open(spool);
  const deltas: CopyDelta[] = [
    { kind: 'stale', db: 'db0', keys: ['a', 'ÿ'] },
    { kind: 'fresh', db: 'db0', keys: ['a'], through: { filenum: 0, offset: 9 } },
  ];
  const [one] = await first.append([record('one', BEGIN), record('two', ...deltas)]);
  await first.close();
  appendFileSync(spool.file('000001.copy'), Buffer.alloc(40, 1));
  const second = await reopened();
  expect(await textsOf(second)).toEqual(['one', 'two']);
  expect(await textsOf(second, one?.end)).toEqual(['two']);
  const { stale, ahead } = second.state.of('db0');
  expect([...stale]).toEqual(['ÿ']);
  expect(ahead).toEqual({ keys: new Set(['a']), through: { filenum: 0, offset: 9 } });
  await second.append([record('three')]);
  await second.close();
  const third = await reopened();
  expect(await textsOf(third)).toEqual(['one', 'two', 'three']);
  expect(third.state.log).toBe('x');
  await third.close();
});

test('a process that another one went on from can yield nothing, and what it writes is in no log', async () => {
  const zombie = await CopySpool.open(spool);
  await zombie.append([record('one', BEGIN)]);
  const heir = await reopened();
  await expect(zombie.append([record('of the dead')])).rejects.toThrow('another process');
  await heir.append([record('two')]);
  await Promise.all([zombie.close(), heir.close()]);
  const next = await reopened();
  expect(await textsOf(next)).toEqual(['one', 'two']);
  await next.close();
});

test('a file that was claimed and has no whole header counts for nothing', async () => {
  const first = await CopySpool.open(spool);
  await first.append([record('one', BEGIN)]);
  await first.close();
  await (await reopened()).close();
  truncateSync(spool.file('000002.copy'), 5);
  const third = await reopened();
  expect(await textsOf(third)).toEqual(['one']);
  await third.close();
});

test('files that are full and acknowledged go, and the rest is read on', async () => {
  const first = await CopySpool.open(spool);
  const large = 'x'.repeat(40 * 1024 * 1024);
  const ends: number[] = [];
  // As the copy does, before it appends what says so.
  first.state.apply(BEGIN);
  for (const text of ['begin', large, large, 'end']) {
    const deltas = text === 'begin' ? [BEGIN] : [];
    ends.push(...(await first.append([record(text, ...deltas)])).map(({ end }) => end));
  }
  expect(readdirSync(spool.path)).toHaveLength(2);
  await first.release(ends[2] as number);
  expect(readdirSync(spool.path)).toHaveLength(1);
  await first.close();
  const second = await reopened();
  expect(second.has(ends[1] as number)).toBe(false);
  expect(await textsOf(second, ends[2])).toEqual(['end']);
  expect(second.state.log).toBe('x');
  await second.close();
});

test('a full spool waits for what will be acknowledged, and for nothing else', async () => {
  const full = await Spool.create(root, 64 * 1024);
  const copy = await CopySpool.open(full);
  copy.state.apply(BEGIN);
  const text = 'x'.repeat(8 * 1024);
  const silent = () => ({ ...record('', { kind: 'stale', db: 'db0', keys: [text] }), keys: 0 });
  // A database whose log is read while its scan is under way says nothing for long.
  for (let i = 0; i < 20; i++) await copy.append([silent()]);
  expect(copy.isFull).toBe(false);
  const [told] = await copy.append([record(text)]);
  let isIn = false;
  const more = copy.append([record(text)]).then(() => {
    isIn = true;
  });
  await until('it is full', () => copy.isFull);
  expect(isIn).toBe(false);
  await copy.release(told?.end as number);
  await more;
  expect(copy.isFull).toBe(false);
  expect(full.bytes).toBeLessThan(64 * 1024);
  await copy.close();
});
