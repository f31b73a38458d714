import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { formatPlace, type RdbEntry, type RestoreRules } from '../../src/rdb/rdb-log.ts';
import { EVERY_CASE } from '../support/cases.ts';
import type { RedisServer } from '../support/redis-server.ts';
import { random } from '../support/workload.ts';
import { collect, cut, NO_RESTORE, REDIS_7_0, whole } from '../unit/rdb/collect.ts';
import { apply, contents, deleteSome, fill, saved, startServer } from '../unit/rdb/dataset.ts';

const SEED = Number(process.env.LANEGATE_SEED ?? 1);
const KEYS = 60;

/** Whole entries, in short. */
function marks(entries: readonly RdbEntry[]): string[] {
  return entries.map(({ place, db, keys, resp }) => {
    const hash = createHash('sha1').update(resp).digest('hex');
    return `${formatPlace(place)} db ${db} keys ${keys} ${hash}`;
  });
}

describe('a snapshot of a real server, applied to another one, makes the same keys', () => {
  for (const seed of [SEED, SEED + 1, SEED + 2]) {
    describe.skipIf(seed !== SEED && !EVERY_CASE)(`seed ${seed}`, () => {
      let source: RedisServer;
      let target: RedisServer;
      let file: Buffer;

      beforeAll(async () => {
        source = await startServer();
        target = await startServer();
        await fill(source.client(), seed, KEYS);
        await deleteSome(source.client(), seed);
        file = await saved(source);
      });
      afterAll(async () => {
        await source[Symbol.asyncDispose]();
        await target[Symbol.asyncDispose]();
      });

      const rulesOf: readonly (readonly [string, RestoreRules, boolean])[] = [
        ['by RESTORE', REDIS_7_0, true],
        [
          'by RESTORE of small values and rebuilding of large ones',
          { rdbVersion: 10, bulkBytesMax: 30_000 },
          true,
        ],
        ['by rebuilding all of several KiB', { rdbVersion: 10, bulkBytesMax: 18_000 }, true],
        [
          'by a RESTORE of version 9 and rebuilding what is newer',
          { rdbVersion: 9, bulkBytesMax: 1 << 29 },
          false,
        ],
        ['without RESTORE', NO_RESTORE, false],
      ];
      for (const [name, rules, withCounters] of rulesOf) {
        test(name, async () => {
          const { entries, end } = await collect(whole(file), { rules });
          await target.client().flushall();
          await target.client().call('FUNCTION', 'FLUSH');
          expect(await apply(target, entries)).toEqual([]);
          const wanted = await contents(source.client(), withCounters);
          expect(await contents(target.client(), withCounters)).toEqual(wanted);
          expect(end.keys).toBe(wanted.size - 1);
          expect(entries.reduce((keys, entry) => keys + entry.keys, 0)).toBe(end.keys);
          expect(end).toMatchObject({ offset: file.length, version: 10, tail: Buffer.alloc(0) });
        });
      }

      test('and bytes that come in other pieces give the same entries', async () => {
        const next = random(seed);
        for (const rules of [REDIS_7_0, NO_RESTORE]) {
          const { entries } = await collect(whole(file), { rules });
          const one = EVERY_CASE ? [() => 1] : [];
          const sizes = [...one, () => 1 + Math.floor(next() * 50), () => 1 + Math.floor(next() * 70_000)];
          for (const size of sizes) {
            const other = await collect(cut(file, size), { rules, chunkBytes: 1 });
            expect(marks(other.entries)).toEqual(marks(entries));
          }
        }
      });

      test('and reading on from any place gives the rest', async () => {
        for (const rules of [REDIS_7_0, { rdbVersion: 10, bulkBytesMax: 18_000 }, NO_RESTORE]) {
          const { entries, end } = await collect(whole(file), { rules });
          expect(entries.length).toBeGreaterThan(5);
          for (const [i, entry] of entries.entries()) {
            const from = entry.place;
            const rest = await collect(whole(file.subarray(from.offset)), { rules, from });
            expect(marks(rest.entries)).toEqual(marks(entries.slice(i + 1)));
            expect(rest.end.offset).toBe(end.offset);
          }
        }
      });
    });
  }
});
