import { afterAll, beforeAll, expect, test } from 'vitest';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { Live } from '../support/live.ts';
import type { RedisServer } from '../support/redis-server.ts';

// What a master tells its replicas and an ordinary client may not always repeat (mustObeyClient() in Redis), and what a
// master makes of commands whose effect is not fixed. The judge is a native replica of the same source.

let live: Live;
let replica: RedisServer;

beforeAll(async () => {
  live = await Live.start();
  replica = await live.replica();
  live.worker(['--publish']);
  await live.source.client().set('first', '1');
  await live.caughtUp();
});

afterAll(async () => {
  await live?.[Symbol.asyncDispose]();
});

type Line = readonly (string | number)[];

async function atSource(...lines: readonly Line[]): Promise<unknown[]> {
  const replies: unknown[] = [];
  for (const [name = '', ...args] of lines) replies.push(await live.source.client().call(String(name), args));
  return replies;
}

async function databases(server: RedisServer): Promise<number[]> {
  return [...(await server.client().info('keyspace')).matchAll(/^db(\d+):/gm)].map((match) =>
    Number(match[1]),
  );
}

/** `<db>:<key>` -> DEBUG DIGEST-VALUE, which says of a deadline only whether there is one. */
async function digests(server: RedisServer): Promise<Record<string, string>> {
  const redis = server.client();
  const found: [string, string][] = [];
  for (const db of await databases(server)) {
    await redis.select(db);
    for (const key of (await redis.keys('*')).sort()) {
      if (key.startsWith('lanegate:')) continue;
      const [digest] = (await redis.call('DEBUG', 'DIGEST-VALUE', key)) as string[];
      found.push([`${db}:${key}`, digest ?? '']);
    }
  }
  await redis.select(0);
  return Object.fromEntries(found);
}

/** Target and replica hold the same, streams with their groups. */
async function equal(): Promise<Record<string, string>> {
  await live.caughtUp();
  const offset = Number(
    /^master_repl_offset:(\d+)/m.exec(await live.source.client().info('replication'))?.[1],
  );
  await until('the replica is there as well', async () => {
    const info = await replica.client().info('replication');
    return Number(/^slave_repl_offset:(\d+)/m.exec(info)?.[1]) >= offset;
  });
  const ours = await digests(live.target);
  expect(ours).toEqual(await digests(replica));
  expect(await compareServers(replica.url, live.target.url, { ttlToleranceMs: 7_200_000 })).toEqual([]);
  expect(
    await live.queue.client().exists('{lanegate-live}:divergences', '{lanegate-live}:dead-letters'),
  ).toBe(0);
  return ours;
}

test('XADD and XTRIM that trim nearly, with a LIMIT', async () => {
  const redis = live.source.client();
  await redis.config('SET', 'stream-node-max-entries', '10');
  for (let i = 0; i < 300; i++) await redis.xadd('s1', '*', 'f', String(i));
  await atSource(
    ['XADD', 's1', 'MAXLEN', '~', 100, 'LIMIT', 50, '*', 'f', 'x'],
    ['XTRIM', 's1', 'MAXLEN', '~', 60, 'LIMIT', 30],
    ['XADD', 's1', 'MINID', '~', '5-5', 'LIMIT', 20, '*', 'MAXLEN', 'LIMIT'],
    ['XADD', 's1', 'NOMKSTREAM', 'MAXLEN', '=', 80, '*', 'LIMIT', '3'],
    ['XTRIM', 's1', 'MAXLEN', '=', 77],
    ['XTRIM', 's1', 'MINID', '~', '9999999999999-1', 'LIMIT', 10],
  );
  expect(await redis.xlen('s1')).toBeGreaterThan(20);
  await equal();
});

test('EXPIRE and PEXPIREAT with conditions', async () => {
  await atSource(
    ['SET', 'e1', 1],
    ['EXPIRE', 'e1', 1000, 'NX'],
    ['EXPIRE', 'e1', 2000, 'NX'],
    ['EXPIRE', 'e1', 3000, 'GT'],
    ['PEXPIRE', 'e1', 500_000, 'LT'],
    ['SET', 'e2', 1],
    ['EXPIRE', 'e2', 1000, 'XX'],
    ['SET', 'e3', 1],
    ['PEXPIREAT', 'e3', Date.now() - 1000],
    ['SET', 'e4', 1, 'EX', 100],
    ['EXPIRE', 'e4', -1, 'LT'],
  );
  expect(Object.keys(await equal())).toEqual(expect.arrayContaining(['0:e1', '0:e2']));
  expect(await live.target.client().exists('e3', 'e4')).toBe(0);
});

test('SPOP, which is logged as SREM', async () => {
  const members = Array.from({ length: 200 }, (_, i) => `m${i}`);
  await atSource(
    ['SADD', 'set', ...members],
    ['SPOP', 'set', 50],
    ['SPOP', 'set'],
    ['SADD', 'emptied', 'a'],
    ['SPOP', 'emptied', 5],
  );
  expect(await live.target.client().exists('emptied')).toBe(0);
  await equal();
});

test('GETDEL, GETEX, SET with every kind of deadline, INCRBYFLOAT', async () => {
  await atSource(
    ['MSET', 'g1', 'a', 'g2', 'b', 'g3', 'c', 'g4', 'd'],
    ['GETDEL', 'g1'],
    ['GETEX', 'g2', 'EX', 1000],
    ['GETEX', 'g3', 'PXAT', Date.now() + 500_000],
    ['GETEX', 'g3', 'PERSIST'],
    ['SETEX', 'x1', 1000, 'v'],
    ['PSETEX', 'x2', 1_000_000, 'v'],
    ['SET', 'x3', 'v', 'EX', 1000],
    ['SET', 'x4', 'v', 'PXAT', Date.now() + 500_000, 'GET'],
    ['SET', 'x4', 'w', 'KEEPTTL'],
    ['SET', 'x5', 'EX', 'NX'],
    ['SET', 'x5', 'no', 'NX', 'EX', 5],
    ['SET', 'f1', '1.5', 'EX', 1000],
    ['INCRBYFLOAT', 'f1', '2.25'],
    ['INCRBYFLOAT', 'f2', '0.1'],
    ['HINCRBYFLOAT', 'fh', 'f', '3.3'],
    ['GETSET', 'x3', 'other'],
  );
  await equal();
  expect(await live.target.client().get('f1')).toBe('3.75');
  expect(await live.target.client().pttl('f1')).toBeGreaterThan(0);
});

test('what scripts and functions do is one transaction', async () => {
  await atSource(
    [
      'EVAL',
      "redis.call('SET', KEYS[1], 'a'); redis.call('INCR', KEYS[2]); redis.call('SPOP', 'nothing'); return 1",
      2,
      'sc1',
      'sc2',
    ],
    ['EVAL', "redis.call('SET', 'sc3', redis.call('TIME')[1], 'EX', 1000)", 0],
    ['EVAL', "redis.call('RPUSH', 'sc4', 'x'); redis.call('SELECT', 2); redis.call('RPUSH', 'sc4', 'y')", 0],
    [
      'FUNCTION',
      'LOAD',
      "#!lua name=mylib\nredis.register_function('f', function(k, a) redis.call('SET', k[1], a[1]); return redis.call('RPUSH', 'fl', a[1]) end)",
    ],
    ['FCALL', 'f', 1, 'fk', 'value'],
    ['FUNCTION', 'LOAD', "#!lua name=other\nredis.register_function('g', function() return 1 end)"],
    ['FUNCTION', 'DELETE', 'other'],
    ['SCRIPT', 'LOAD', 'return 1'],
  );
  await equal();
  const functions = (server: RedisServer) => server.client().call('FUNCTION', 'LIST', 'WITHCODE');
  expect(await functions(live.target)).toEqual(await functions(replica));
  expect(String(await functions(live.target))).toContain('mylib');
  await atSource(['FUNCTION', 'FLUSH']);
  await equal();
  expect(await functions(live.target)).toEqual([]);
});

test('consumer groups: deliveries, claims, acknowledgements', async () => {
  const redis = live.source.client();
  for (let i = 1; i <= 30; i++) await redis.xadd('cg', `${i}-1`, 'f', String(i));
  await atSource(
    ['XGROUP', 'CREATE', 'cg', 'g', '0'],
    ['XGROUP', 'CREATE', 'cg', 'tail', '$', 'ENTRIESREAD', 30],
    ['XGROUP', 'CREATE', 'made', 'g', '$', 'MKSTREAM'],
    ['XGROUP', 'CREATECONSUMER', 'cg', 'g', 'idle'],
    ['XREADGROUP', 'GROUP', 'g', 'alice', 'COUNT', 10, 'STREAMS', 'cg', '>'],
    ['XREADGROUP', 'GROUP', 'g', 'bob', 'COUNT', 5, 'NOACK', 'STREAMS', 'cg', '>'],
    ['XREADGROUP', 'GROUP', 'g', 'carol', 'COUNT', 5, 'STREAMS', 'cg', '>'],
    ['XACK', 'cg', 'g', '1-1', '2-1', '3-1'],
    ['XDEL', 'cg', '5-1'],
    ['XCLAIM', 'cg', 'g', 'carol', 0, '6-1', '7-1'],
    ['XCLAIM', 'cg', 'g', 'dave', 0, '8-1', 'IDLE', 5_000, 'RETRYCOUNT', 7, 'JUSTID'],
    ['XAUTOCLAIM', 'cg', 'g', 'erin', 0, '0', 'COUNT', 4],
    ['XGROUP', 'SETID', 'cg', 'tail', '12-1'],
    ['XGROUP', 'DELCONSUMER', 'cg', 'g', 'bob'],
    ['XSETID', 'cg', '40-1', 'ENTRIESADDED', 50, 'MAXDELETEDID', '5-1'],
    ['XGROUP', 'DESTROY', 'made', 'g'],
  );
  await equal();
  const facts = async (server: RedisServer) =>
    JSON.stringify(await server.client().call('XINFO', 'STREAM', 'cg', 'FULL', 'COUNT', '0'))
      // Of a consumer: when it was seen, or did something, is by the server's own clock, at a replica as well.
      .replace(/"(seen|active)-time",\d+/g, '')
      .replace(/"radix-tree-(keys|nodes)",\d+/g, '');
  expect(await facts(live.target)).toBe(await facts(replica));
});

test('COPY, MOVE and RENAME between databases and onto keys', async () => {
  const redis = live.source.client();
  await atSource(
    ['SET', 'c1', 'v', 'EX', 1000],
    ['COPY', 'c1', 'c2'],
    ['COPY', 'c1', 'c1', 'DB', 4],
    ['COPY', 'c2', 'c1', 'DB', 4, 'REPLACE'],
    ['RPUSH', 'c3', 'a', 'b'],
    ['MOVE', 'c3', 4],
    ['SET', 'c4', 'x'],
    ['RENAME', 'c4', 'c5'],
    ['RENAMENX', 'c5', 'c2'],
    ['RENAME', 'c2', 'c5'],
  );
  await redis.select(4);
  await redis.lmove('c3', 'c6', 'LEFT', 'RIGHT');
  await redis.select(0);
  const ours = await equal();
  expect(Object.keys(ours)).toEqual(expect.arrayContaining(['4:c1', '4:c3', '4:c6', '0:c5']));
});

test('RESTORE, SORT STORE, set operations, blocking forms, bit and geo commands', async () => {
  const redis = live.source.client();
  await redis.rpush('r1', '3', '1', '2');
  const dump = (await redis.dumpBuffer('r1')) as Buffer;
  await redis.restore('r2', 0, dump);
  await redis.restore('r3', 100_000, dump, 'REPLACE', 'IDLETIME', 10);
  await atSource(
    ['SORT', 'r1', 'STORE', 'r4'],
    ['SADD', 'o1', 'a', 'b', 'c'],
    ['SADD', 'o2', 'b', 'c', 'd'],
    ['SINTERSTORE', 'o3', 'o1', 'o2'],
    ['SDIFFSTORE', 'o4', 'o1', 'nothing'],
    ['ZADD', 'z1', 1, 'a', 2, 'b'],
    ['ZUNIONSTORE', 'z2', 2, 'z1', 'o1', 'WEIGHTS', 2, 1],
    ['ZPOPMIN', 'z1'],
    ['BLPOP', 'r1', 1],
    ['BLMOVE', 'r1', 'r5', 'LEFT', 'LEFT', 1],
    ['BZPOPMAX', 'z2', 1],
    ['LMPOP', 1, 'r4', 'LEFT'],
    ['SETBIT', 'b1', 100, 1],
    ['BITOP', 'NOT', 'b2', 'b1'],
    ['BITFIELD', 'b1', 'INCRBY', 'u8', 0, 5],
    ['PFADD', 'p1', 'a', 'b'],
    ['PFMERGE', 'p2', 'p1'],
    ['GEOADD', 'geo', 13.36, 38.11, 'Palermo', 15.08, 37.5, 'Catania'],
    ['GEOSEARCHSTORE', 'geo2', 'geo', 'FROMLONLAT', 15, 37, 'BYRADIUS', 200, 'km'],
    ['HRANDFIELD', 'fh'],
    ['MULTI'],
    ['INCR', 'tx'],
    ['APPEND', 'tx', '0'],
    ['EXEC'],
  );
  await equal();
});

test('PUBLISH is passed on where --publish asks for it', async () => {
  const listener = live.target.client().duplicate();
  const heard: string[] = [];
  await listener.subscribe('news');
  listener.on('message', (_channel, message) => heard.push(message));
  await atSource(['PUBLISH', 'news', 'one'], ['SET', 'between', 1], ['PUBLISH', 'news', 'two']);
  await until('both are heard', () => heard.length === 2);
  expect(heard).toEqual(['one', 'two']);
  listener.disconnect();
});

test('SWAPDB, FLUSHDB and FLUSHALL', async () => {
  const redis = live.source.client();
  await atSource(['SWAPDB', 0, 4]);
  await equal();
  await redis.select(2);
  await redis.set('kept', 1);
  await redis.flushdb();
  await redis.set('after', 1);
  await redis.select(0);
  await atSource(['SET', 'a', 1], ['SWAPDB', 0, 2], ['SET', 'b', 2]);
  expect(Object.keys(await equal())).toEqual(expect.arrayContaining(['2:a', '0:b', '0:after']));
  await atSource(['FLUSHALL', 'ASYNC'], ['SET', 'last', 1]);
  expect(Object.keys(await equal())).toEqual(['0:last']);
});

test('PUBLISH is dropped and counted without --publish', async () => {
  await using other = await Live.start();
  other.worker();
  await other.source.client().set('a', '1');
  await other.caughtUp();
  const listener = other.target.client().duplicate();
  const heard: string[] = [];
  await listener.subscribe('news');
  listener.on('message', (_channel, message) => heard.push(message));
  await other.source.client().publish('news', 'one');
  await other.source.client().set('a', '2');
  await other.caughtUp();
  expect(await other.target.client().get('a')).toBe('2');
  // What was published before it would have been heard before the listener's own.
  await other.target.client().publish('news', 'end');
  await until('the end is heard', () => heard.length > 0);
  expect(heard).toEqual(['end']);
  listener.disconnect();
});
