import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openSource } from '../../src/sources/open.ts';
import type { Entry, Position, Source } from '../../src/sources/source.ts';
import { everyCase } from '../support/cases.ts';
import { writeAllTypes } from '../support/data-of-all-types.ts';
import { FileRun } from '../support/file-run.ts';
import { RedisServer } from '../support/redis-server.ts';
import { LogDirectory, readAll } from '../unit/aof/log-directory.ts';

async function savedServer(): Promise<{ server: RedisServer; path: string }> {
  const server = await RedisServer.start();
  const redis = server.client();
  await writeAllTypes(redis, 0);
  const batch = redis.pipeline();
  for (let i = 0; i < 20_000; i++) batch.set(`many:${i}`, `value of ${i}`);
  await batch.exec();
  await redis.rpush('long', ...Array.from({ length: 5_000 }, (_, i) => `element ${i}`));
  await redis.save();
  return { server, path: join(server.dir, 'dump.rdb') };
}

async function entriesOf(source: Source, from?: Position): Promise<Entry[]> {
  const { entries, error } = await readAll(source, from);
  expect(error).toBeUndefined();
  return entries;
}

/** Not by toEqual, which goes through buffers byte by byte. */
function expectSame(entries: readonly Entry[], expected: readonly Entry[]): void {
  expect(entries.map(({ position }) => position)).toEqual(expected.map(({ position }) => position));
  for (const [i, { resp }] of entries.entries()) expect(resp.equals(expected[i]?.resp as Buffer)).toBe(true);
}

describe('lanegate run --source rdb:///file', () => {
  test('the target is equal to the server that saved it, and the run ends by itself', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    await using bench = await FileRun.create();
    const { code, stdout, stderr } = await bench.run(`rdb://${path}`);
    expect({ code, stdout, stderr }).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^caught up: \d+/),
    });
    await bench.expectSameAs(server);
    // Once more: everything is there.
    expect((await bench.run(`rdb://${path}`)).stdout).toMatch(/^caught up: \d+/);
    await bench.expectSameAs(server);
  });

  everyCase('a target that holds data is refused, kept or replaced as the operator says', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    await using bench = await FileRun.create();
    await bench.target.client().set('own', 1);
    expect((await bench.run(`rdb://${path}`)).code).toBe(1);
    expect(await bench.target.client().keys('*')).toEqual(['own']);
    expect((await bench.run(`rdb://${path}`, '--target-data', 'replace')).code).toBe(0);
    await bench.expectSameAs(server);
  });

  test('a damaged file is refused before its first key', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    await using bench = await FileRun.create();
    const bytes = await readFile(path);
    const damaged = join(bench.dir, 'damaged.rdb');
    bytes[bytes.length - 100] = (bytes[bytes.length - 100] as number) ^ 1;
    await writeFile(damaged, bytes);
    const { code, stderr } = await bench.run(`rdb://${damaged}`);
    expect(code).toBe(1);
    expect(stderr).toMatch(/damaged\.rdb: .*CRC64/);
    expect(await bench.target.client().keys('string:*')).toEqual([]);
    await writeFile(damaged, bytes.subarray(0, 5_000));
    expect((await bench.run(`rdb://${damaged}`)).code).toBe(1);
    expect(await bench.target.client().keys('string:*')).toEqual([]);
  });
});

describe('an RDB as a source', () => {
  test('reads on behind every entry, inside it, and knows its end', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    const source = openSource(`rdb://${path}`, { name: 'test' });
    const entries = await entriesOf(source);
    expect(entries.length).toBeGreaterThan(10);
    const { position: head } = await source.head();
    for (const [i, entry] of entries.entries()) {
      expect(entry.position).toMatch(/^[\x20-\x7e]{1,512}$/);
      expect(source.covers(entry.position, head)).toBe(i === entries.length - 1);
      const rest = await entriesOf(openSource(`rdb://${path}`, { name: 'test' }), entry.position);
      expectSame(rest, entries.slice(i + 1));
      const inside = source.positionInside(entry, 1);
      const [again] = await entriesOf(openSource(`rdb://${path}`, { name: 'test' }), inside);
      expect(again).toMatchObject({ position: entry.position, skip: 1 });
      expect(again?.resp.equals(entry.resp)).toBe(true);
    }
    // With other rules than those of its position the entries would be cut elsewhere.
    const restoreRules = async () => ({ rdbVersion: 9, bulkBytesMax: 512 * 1024 * 1024 });
    const other = await entriesOf(
      openSource(`rdb://${path}`, { name: 'test', restoreRules }),
      entries[3]?.position,
    );
    expectSame(other, entries.slice(4));
    expect(await entriesOf(openSource(`rdb://${path}`, { name: 'test', restoreRules }))).not.toHaveLength(
      entries.length,
    );
  });

  test('with commands behind it is one log, from any place in either', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    await using log = await LogDirectory.create();
    const commands = '*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n';
    await log.put('old.aof', await readFile(path), commands);
    const entries = await entriesOf(log.open('old.aof'));
    expect(entries.at(-1)).toMatchObject({ db: 0, resp: Buffer.from(commands) });
    for (let i = 0; i < entries.length; i += 5) {
      const rest = await entriesOf(log.open('old.aof'), entries[i]?.position);
      expectSame(rest, entries.slice(i + 1));
    }
    // A torn RDB is no torn tail.
    await log.put('old.aof', (await readFile(path)).subarray(0, 3_000));
    expect((await readAll(log.open('old.aof'))).error).toMatchObject({ code: 'MALFORMED' });
  });

  test('--until-time before the snapshot was made is refused', async () => {
    const { server, path } = await savedServer();
    await using _ = server;
    await using log = await LogDirectory.create();
    await log.part('b', 1, await readFile(path));
    const { entries, error } = await readAll(log.open('', { untilMs: Date.now() - 86_400_000 }));
    expect(entries).toEqual([]);
    expect(error).toMatchObject({ code: 'UNTIL_TIME' });
    const after = await readAll(log.open('', { untilMs: Date.now() + 10_000 }));
    expect(after.error).toBeUndefined();
    expect(after.entries.length).toBeGreaterThan(10);
  });

  test('what is no RDB is refused', async () => {
    await using log = await LogDirectory.create();
    await log.put('x.rdb', 'something else');
    expect((await readAll(log.open('x.rdb', {}, 'rdb'))).error).toMatchObject({ code: 'MALFORMED' });
  });
});
