import { describe, expect, test } from 'vitest';
import { RespScanner } from '../../../src/binlog/resp.ts';
import { progressText, renderReport, ScanMeter } from '../../../src/commands/verify-view.ts';
import { sameMembers } from '../../../src/verify/batch.ts';
import { Candidates } from '../../../src/verify/candidates.ts';
import { Limit } from '../../../src/verify/limit.ts';
import { sameDump } from '../../../src/verify/look.ts';
import { keyedCommand, Request } from '../../../src/verify/request.ts';
import { isReserved, Sample } from '../../../src/verify/sample.ts';
import { ttlsAgree } from '../../../src/verify/values/members.ts';
import { PIECE_BYTES, PieceSize } from '../../../src/verify/values/piece.ts';

describe('a request', () => {
  test('holds what the scanner of commands reads, for keys of any bytes and length', () => {
    const keys = [0, 1, 9, 10, 47, 48, 49, 99, 100, 1_000, 20_000].map((length) =>
      Buffer.alloc(length, length),
    );
    const request = new Request();
    const range = keyedCommand(['GETRANGE'], ['0', '4096']);
    for (const key of keys) request.add(range, key);
    request.addMany('EXISTS', keys);
    const scanner = new RespScanner();
    scanner.reset(request.bytes);
    for (const key of keys) {
      expect(scanner.next()).toBe(true);
      expect(scanner.args()).toEqual([Buffer.from('GETRANGE'), key, Buffer.from('0'), Buffer.from('4096')]);
    }
    expect(scanner.next()).toBe(true);
    expect(scanner.args()).toEqual([Buffer.from('EXISTS'), ...keys]);
    expect([scanner.next(), request.commands]).toEqual([false, keys.length + 1]);
  });
});

describe('a sample', () => {
  test('is about the share that was asked for, also of keys that differ in a digit alone', () => {
    for (const share of [0.001, 0.05, 0.5]) {
      const sample = new Sample(share);
      let chosen = 0;
      for (let i = 0; i < 200_000; i++) if (sample.has(Buffer.from(`key:${i}`))) chosen++;
      expect(Math.abs(chosen / 200_000 - share)).toBeLessThan(share * 0.25);
    }
  });

  test('of everything leaves nothing out, and a smaller one is a part of a larger one', () => {
    const [all, half, tenth] = [new Sample(1), new Sample(0.5), new Sample(0.1)];
    for (let i = 0; i < 5_000; i++) {
      const key = Buffer.from(`${i}`);
      expect(all.has(key)).toBe(true);
      if (tenth.has(key)) expect(half.has(key)).toBe(true);
    }
  });

  test("lanegate's own keys are those with its prefix, whole", () => {
    const reserved = ['lanegate:', 'lanegate:default:mark'].map((key) => isReserved(Buffer.from(key)));
    const others = ['', 'l', 'lanegate', 'Lanegate:x', 'xlanegate:'].map((key) =>
      isReserved(Buffer.from(key)),
    );
    expect([...reserved, ...others]).toEqual([true, true, false, false, false, false, false]);
  });
});

describe('a limit', () => {
  test('never lets more run than it allows, and begins them in order', async () => {
    const limit = new Limit(3);
    const order: number[] = [];
    let running = 0;
    let most = 0;
    const task = async (at: number) => {
      order.push(at);
      most = Math.max(most, ++running);
      await Promise.resolve();
      await Promise.resolve();
      running--;
      return at;
    };
    const ended = await Promise.all(Array.from({ length: 20 }, (_, at) => limit.run(() => task(at))));
    expect([most, ended, order]).toEqual([3, [...ended.keys()], [...ended.keys()]]);
  });

  test('tells a failure to whoever starts the next task, and at the end', async () => {
    const limit = new Limit(1);
    await limit.start(() => Promise.reject(new Error('first')));
    await expect(limit.start(async () => {})).rejects.toThrow('first');
    await expect(limit.drain()).rejects.toThrow('first');
  });
});

describe('pieces of a value', () => {
  test('grow while elements are small, and shrink at once when they are large', () => {
    const size = new PieceSize();
    for (let i = 0; i < 10; i++) size.learn(size.count, size.count * 16);
    expect(size.count).toBe(8_192);
    size.learn(size.count, size.count * 100_000);
    expect(size.count).toBe(4);
    size.learn(4, 4 * 1_000);
    expect(size.count).toBe(16);
    expect(PIECE_BYTES / size.count).toBeGreaterThan(1_000);
  });
});

describe('TTLs', () => {
  const rule = { toleranceMs: 2_000, graceMs: 0 };
  test.each([
    [-1, -1, true],
    [-1, 5_000, false],
    [5_000, -1, false],
    [5_000, 7_000, true],
    [5_000, 7_001, false],
    [7_001, 5_000, false],
    [500, -2, false],
  ])('%i and %i ms agree: %s', (ours, theirs, agree) => {
    expect(ttlsAgree(ours, theirs, rule)).toBe(agree);
  });

  test('at the target are taken without the grace', () => {
    expect(ttlsAgree(5_000, 15_000, { toleranceMs: 2_000, graceMs: 10_000 })).toBe(true);
    expect(ttlsAgree(5_000, 5_000, { toleranceMs: 2_000, graceMs: 10_000 })).toBe(false);
  });
});

test('dumps are equal whatever RDB version and CRC stand behind the value', () => {
  const dump = (value: string, footer: number) =>
    Buffer.concat([Buffer.from(value), Buffer.alloc(10, footer)]);
  expect(sameDump(dump('\u0000abc', 1), dump('\u0000abc', 2))).toBe(true);
  expect(sameDump(dump('\u0000abc', 1), dump('\u0000abd', 1))).toBe(false);
  expect(sameDump(dump('\u0000abc', 1), dump('\u0001abc', 1))).toBe(false);
  expect(sameDump(Buffer.alloc(10), Buffer.alloc(10))).toBe(false);
});

describe('small sets and hashes', () => {
  const list = (...words: string[]) => words.map((word) => Buffer.from(word));

  test('are equal in any order', () => {
    expect(sameMembers(list('a', 'b', 'c'), list('c', 'a', 'b'), 1)).toBe(true);
    expect(sameMembers(list('a', '1', 'b', '2'), list('b', '2', 'a', '1'), 2)).toBe(true);
  });

  test('differ by a member, a field, a value or their number; what is not there equals nothing', () => {
    expect(sameMembers(list('a', 'b'), list('a', 'c'), 1)).toBe(false);
    expect(sameMembers(list('a', 'b'), list('b', 'b'), 1)).toBe(false);
    expect(sameMembers(list('a', '1', 'b', '2'), list('b', '1', 'a', '2'), 2)).toBe(false);
    expect(sameMembers(list('a', '1'), list('1', 'a'), 2)).toBe(false);
    expect(sameMembers(list('a'), list('a', 'b'), 1)).toBe(false);
    expect(sameMembers([], [], 1)).toBe(false);
    expect(sameMembers(null, list('a'), 1)).toBe(false);
  });
});

describe('candidates', () => {
  const candidate = (key: string) => ({ db: 0, key: Buffer.from(key), kind: 'value' as const, detail: 'x' });

  test('are one a key, and gone when it is equal after all', () => {
    const candidates = new Candidates();
    for (const key of ['a', 'b', 'a']) candidates.put(candidate(key));
    candidates.remove(candidate('b'));
    candidates.settle();
    expect([candidates.size, candidates.settled, candidates.counts.value]).toEqual([0, 1, 1]);
    expect(candidates.first).toEqual([{ db: 0, key: 'a', kind: 'value', detail: 'x' }]);
  });

  test('of the same name in other databases are others; long and binary keys are shortened and escaped', () => {
    const candidates = new Candidates();
    candidates.put(candidate('a'));
    candidates.put({ ...candidate('a'), db: 1 });
    candidates.put({ ...candidate('x'), key: Buffer.alloc(1_000, 7) });
    candidates.settle();
    expect(candidates.settled).toBe(3);
    expect(candidates.first[2]?.key).toMatch(/^"(\\a){256}"…$/);
  });

  test('are full before they fill the memory', () => {
    const candidates = new Candidates();
    const long = 'x'.repeat(1024 ** 2);
    for (let i = 0; i < 32; i++) {
      expect(candidates.full).toBe(false);
      candidates.put(candidate(`${i}${long}`));
    }
    expect(candidates.full).toBe(true);
    candidates.settle();
    expect(candidates.full).toBe(false);
  });
});

describe('what people see', () => {
  const progress = { phase: 'scanning', done: 500, total: 2_000, candidates: 0, round: 1 } as const;

  test('is the rate, the percentage and the time left', () => {
    const meter = new ScanMeter();
    expect(meter.update({ ...progress, done: 0 }, 0)).toBe(0);
    const rate = meter.update(progress, 1_000);
    expect(progressText(progress, rate)).toBe('25 %, 500 keys scanned, 500 keys/s, 3.0 s left');
    expect(progressText({ ...progress, phase: 'looking again', round: 2, candidates: 7 }, rate)).toBe(
      'round 2, 7 differ so far',
    );
    expect(progressText({ ...progress, done: 0, total: 0 }, 0)).toContain('100 %');
  });

  test('is a table that names the sample', () => {
    const differences = { missing: 1, extra: 0, type: 0, ttl: 0, value: 0 };
    const first = [{ db: 3, key: 'k', kind: 'missing' as const, detail: 'string' }];
    const report = { keys: 10, compared: 2, equal: 1, differences, first, rounds: 3, seconds: 1.5 };
    const text = renderReport(report, 0.2);
    expect(text).toContain('10 keys at the source, 2 compared (a sample of 0.2) in 1.5 s');
    expect(text).toContain('db 3   k  missing  string');
    expect(text).toContain('both sides differ in 1 keys');
  });
});
