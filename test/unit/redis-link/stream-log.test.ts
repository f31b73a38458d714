import { mkdtemp, readdir, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Spool } from '../../../src/sources/redis-link/spool.ts';
import { StreamFile } from '../../../src/sources/redis-link/stream-file.ts';
import { StreamLog } from '../../../src/sources/redis-link/stream-log.ts';
import { until } from '../../support/faults.ts';
import { random } from '../../support/workload.ts';

const replid = 'c'.repeat(40);
const never = new AbortController().signal;
let root = '';
let logs: StreamLog[] = [];
let notices: string[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'lanegate-spool-'));
  logs = [];
  notices = [];
});

afterEach(async () => {
  for (const log of logs) await log.close();
  await rm(root, { recursive: true, force: true });
});

async function open(
  options: {
    keepAll?: boolean;
    memoryBytesMax?: number;
    spoolBytesMax?: number;
    spool?: Spool;
    files?: StreamFile[];
  } = {},
): Promise<{ log: StreamLog; spool: Spool }> {
  const spool = options.spool ?? (await Spool.create(root, options.spoolBytesMax ?? 2 ** 40));
  const log = new StreamLog({
    spool: async () => spool,
    replid,
    start: 100,
    files: options.files ?? [],
    keepAll: options.keepAll ?? false,
    memoryBytesMax: options.memoryBytesMax ?? 1_000,
    onNotice: (text) => notices.push(text),
  });
  logs.push(log);
  return { log, spool };
}

/** Byte at an offset of the stream. */
const byteAt = (offset: number) => (offset * 7 + (offset >> 8)) & 255;
const bytesAt = (offset: number, length: number) =>
  Buffer.from(Uint8Array.from({ length }, (_, i) => byteAt(offset + i)));

async function readTo(log: StreamLog, from: number, end: number): Promise<void> {
  let at = from;
  while (at < end) {
    const piece = await log.next(never);
    if (piece === undefined) throw new Error('it ended');
    expect(piece.start).toBe(at);
    expect(piece.bytes.equals(bytesAt(at, piece.bytes.length))).toBe(true);
    at += piece.bytes.length;
  }
  expect(at).toBe(end);
}

describe('the stream between socket and reader', () => {
  test.each([
    [1, true],
    [2, false],
    [3, false],
    [4, true],
  ])('gives every byte in order, whatever the pace (seed %s, everything kept: %s)', async (seed, keepAll) => {
    const next = random(seed);
    const { log } = await open({ keepAll, memoryBytesMax: 20_000 });
    const end = 100 + 3_000_000;
    const writing = (async () => {
      while (log.end < end) {
        const length = Math.min(end - log.end, 1 + Math.floor(next() * 40_000));
        log.append(bytesAt(log.end, length), Date.now());
        if (log.isFull) await log.room();
        if (next() < 0.3) await new Promise(setImmediate);
      }
    })();
    let at = 100;
    while (at < end) {
      const piece = await log.next(never);
      expect(piece?.start).toBe(at);
      expect(piece?.bytes.equals(bytesAt(at, piece.bytes.length))).toBe(true);
      at += piece?.bytes.length ?? 0;
      if (next() < 0.2) for (let i = 0; i < 5; i++) await new Promise(setImmediate);
      if (next() < 0.1) await log.release(at - Math.floor(next() * 50_000));
    }
    await writing;
  });

  test('keeps nothing on disk while the reader keeps up', async () => {
    const { log, spool } = await open();
    for (let i = 0; i < 200; i++) {
      log.append(bytesAt(log.end, 500), 0);
      await readTo(log, log.end - 500, log.end);
    }
    expect(await readdir(spool.path)).toEqual([]);
  });

  test('a successor finds what was kept, up to what is on the disk for good', async () => {
    const { log, spool } = await open({ keepAll: true });
    for (let i = 0; i < 100; i++) log.append(bytesAt(log.end, 5_000), 0);
    const end = log.end;
    await log.close();
    const found = await Spool.find(root, spool.id, 2 ** 40);
    const files = await StreamFile.chain(found as Spool, replid, 100);
    expect(files.at(-1)?.end).toBe(end);
    const { log: after } = await open({ spool: found as Spool, files, keepAll: true });
    expect(after.end).toBe(end);
    after.append(bytesAt(end, 10), 0);
    await readTo(after, 100, end + 10);
    expect(await StreamFile.chain(found as Spool, 'd'.repeat(40), 100)).toEqual([]);
  });

  test('what is kept is kept although it was read, until it is released', async () => {
    const { log, spool } = await open({ keepAll: true });
    for (let i = 0; i < 50; i++) {
      log.append(bytesAt(log.end, 5_000), 0);
      await readTo(log, log.end - 5_000, log.end);
    }
    const end = log.end;
    await log.close();
    const files = await StreamFile.chain(spool, replid, 100);
    expect(files.at(-1)?.end).toBe(end);
    await Promise.all(files.map((file) => file.close()));
  });

  test('a file that lost its end is trusted only as far as it goes', async () => {
    const { log, spool } = await open({ keepAll: true });
    log.append(bytesAt(100, 5_000), 0);
    await log.close();
    const [name] = await readdir(spool.path);
    await truncate(spool.file(name as string), 64 + 1_234);
    const files = await StreamFile.chain(spool, replid, 100);
    expect(files.map((file) => file.end)).toEqual([1_334]);
    await Promise.all(files.map((file) => file.close()));
  });

  test('what a full spool holds back goes on when something is released', async () => {
    const { log, spool } = await open({ keepAll: true, spoolBytesMax: 100_000, memoryBytesMax: 10_000 });
    const writing = (async () => {
      while (log.end < 5_000_100) {
        log.append(bytesAt(log.end, 10_000), 0);
        if (log.isFull) await log.room();
      }
    })();
    await until('it is full', () => log.isFull && log.isBlocked);
    expect(spool.bytes).toBeLessThanOrEqual(100_000);
    expect(notices).toHaveLength(1);
    let at = 100;
    while (at < 5_000_100) {
      const piece = await log.next(never);
      expect(piece?.bytes.equals(bytesAt(at, piece.bytes.length))).toBe(true);
      at += piece?.bytes.length ?? 0;
      await log.release(at);
      expect(spool.bytes).toBeLessThanOrEqual(100_000);
    }
    await writing;
  });

  test('a reader may go back to what is still here, and no further', async () => {
    const { log } = await open({ memoryBytesMax: 10 ** 9 });
    log.append(bytesAt(100, 5_000), 0);
    log.append(bytesAt(5_100, 5_000), 0);
    expect(log.seek(3_000)).toBe(true);
    await readTo(log, 3_000, 10_100);
    expect(log.seek(10_100)).toBe(true);
    expect(log.seek(3_000)).toBe(false);
    expect(log.seek(10_101)).toBe(false);
  });

  test('what was received is read before a broken link is told', async () => {
    const { log } = await open();
    log.append(bytesAt(100, 50), 0);
    log.fail(new Error('cut'));
    await readTo(log, 100, 150);
    await expect(log.next(never)).rejects.toThrow('cut');
  });
});
