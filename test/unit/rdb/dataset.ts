import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { encodeCommand } from '../../../src/binlog/resp.ts';
import type { RdbEntry } from '../../../src/rdb/rdb-log.ts';
import { RedisServer } from '../../support/redis-server.ts';
import { random } from '../../support/workload.ts';

export function startServer(...args: string[]): Promise<RedisServer> {
  return RedisServer.start({ args: ['--enable-debug-command', 'yes', ...args] });
}

type Next = () => number;
type Command = (string | number | Buffer)[];

const FAR = 4_000_000_000_000;

/** Fills a server with keys of every type and encoding that it can write. */
export async function fill(redis: Redis, seed: number, keys: number): Promise<void> {
  const next = random(seed);
  const below = (n: number) => Math.floor(next() * n);
  await redis.call('DEBUG', 'QUICKLIST-PACKED-THRESHOLD', '2000b');
  await redis.config('SET', 'rdbcompression', seed % 2 === 0 ? 'yes' : 'no');
  await redis.config(
    'SET',
    'maxmemory-policy',
    ['noeviction', 'allkeys-lru', 'allkeys-lfu'][seed % 3] as string,
  );
  await redis.call(
    'FUNCTION',
    'LOAD',
    `#!lua name=lib${seed}\nredis.register_function('f${seed}', function() return 1 end)`,
  );
  for (const db of [0, 3, 9]) {
    const pipeline = redis.pipeline();
    pipeline.select(db);
    for (let i = 0; i < keys; i++) {
      const key = below(20) === 0 ? `k:${i}:${'long'.repeat(below(100))}` : `k:${i}`;
      for (const command of value(key, next)) pipeline.call(...(command as [string]));
      if (below(3) === 0) pipeline.call('PEXPIREAT', key, FAR + below(1e9));
    }
    const errors = ((await pipeline.exec()) ?? []).flatMap(([error]) =>
      error === null ? [] : [error.message],
    );
    if (errors.length > 0) throw new Error(errors[0]);
  }
}

function value(key: string, next: Next): Command[] {
  const makers = [strings, lists, sets, zsets, hashes, streams];
  const maker = makers[Math.floor(next() * makers.length)] as (key: string, next: Next) => Command[];
  return maker(key, next);
}

function text(next: Next, most = 40): string | Buffer {
  const length = Math.floor(next() * most);
  const kind = Math.floor(next() * 6);
  if (kind === 0) return String(Math.floor((next() - 0.5) * 10 ** Math.floor(1 + next() * 15)));
  if (kind === 1) return String(Math.floor((next() - 0.5) * 256));
  if (kind === 2) return 'abc'.repeat(length);
  return Buffer.from(Array.from({ length }, () => Math.floor(next() * 256)));
}

/** Mostly small, now and then large enough for the other encoding. */
function many(next: Next): number {
  const size = next();
  return 1 + Math.floor(size < 0.7 ? next() * 12 : size < 0.95 ? next() * 300 : next() * 2500);
}

function group(next: Next, make: (i: number) => Command): Command {
  return Array.from({ length: many(next) }, (_, i) => make(i)).flat();
}

function strings(key: string, next: Next): Command[] {
  return [['SET', key, text(next, next() < 0.1 ? 100_000 : 60)]];
}

function lists(key: string, next: Next): Command[] {
  return [['RPUSH', key, ...group(next, () => [text(next, next() < 0.03 ? 6000 : 50)])]];
}

function sets(key: string, next: Next): Command[] {
  const scale = 10 ** Math.floor(1 + next() * 17);
  if (next() < 0.4)
    return [['SADD', key, ...group(next, () => [BigInt(Math.floor((next() - 0.5) * scale)).toString()])]];
  return [['SADD', key, ...group(next, (i) => [`${i}`, text(next, 90)])]];
}

function zsets(key: string, next: Next): Command[] {
  // Not -0: a server turns it into 0 as long as the set is small, so that only RESTORE can keep it.
  const special = ['inf', '-inf', '0', '3', '1e300', '-1.5e-300', '9007199254740993'];
  const score = () =>
    next() < 0.2
      ? (special[Math.floor(next() * special.length)] as string)
      : String((next() - 0.5) * 10 ** Math.floor(next() * 20));
  return [['ZADD', key, ...group(next, (i) => [score(), next() < 0.5 ? i : text(next, 90)])]];
}

function hashes(key: string, next: Next): Command[] {
  return [['HSET', key, ...group(next, (i) => [`f${i}`, text(next, 90)])]];
}

function streams(key: string, next: Next): Command[] {
  const commands: Command[] = [];
  const count = Math.floor(next() * 300);
  let ms = Math.floor(next() * 1e12);
  const ids: string[] = [];
  for (let i = 0; i < count; i++) {
    if (next() < 0.7) ms += 1 + Math.floor(next() * 10_000);
    const id = `${ms}-${i}`;
    ids.push(id);
    const fields: Command =
      next() < 0.7
        ? ['a', text(next), 'b', text(next)]
        : group(next, (n) => [`x${n}`, text(next)]).slice(0, 20);
    commands.push(['XADD', key, id, ...fields]);
  }
  if (count === 0) commands.push(['XGROUP', 'CREATE', key, 'first', '0', 'MKSTREAM']);
  const groups = Math.floor(next() * 3);
  for (let g = 0; g < groups; g++) {
    commands.push(['XGROUP', 'CREATE', key, `g${g}`, ids[Math.floor(next() * ids.length)] ?? '0']);
    for (let c = 0; c < 3; c++) {
      commands.push(['XGROUP', 'CREATECONSUMER', key, `g${g}`, `c${c}`]);
      if (next() < 0.6)
        commands.push(['XREADGROUP', 'GROUP', `g${g}`, `c${c}`, 'COUNT', 10, 'STREAMS', key, '>']);
    }
    for (const id of ids) if (next() < 0.02) commands.push(['XACK', key, `g${g}`, id]);
  }
  return commands;
}

/** Deletes entries of streams that are pending nowhere: those that commands cannot make again stay away. */
export async function deleteSome(redis: Redis, seed: number): Promise<void> {
  const next = random(seed);
  for (const db of [0, 3, 9]) {
    await redis.select(db);
    for (const key of await redis.keys('*')) {
      if ((await redis.type(key)) !== 'stream') continue;
      if (((await redis.xinfo('GROUPS', key)) as unknown[]).length > 0) continue;
      const ids = (await redis.xrange(key, '-', '+')).map(([id]) => id);
      const gone = ids.filter(() => next() < 0.2);
      if (gone.length > 0) await redis.xdel(key, ...gone);
    }
  }
}

export async function saved(server: RedisServer): Promise<Buffer> {
  await server.client().save();
  return readFile(join(server.dir, 'dump.rdb'));
}

/** Sends entries as they are; the error replies. */
export function apply(server: RedisServer, entries: readonly RdbEntry[]): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const socket = connect(server.port, '127.0.0.1');
    const replies: Buffer[] = [];
    const end = 'the-end-of-it';
    socket.on('error', reject);
    socket.on('data', (bytes) => {
      replies.push(bytes);
      if (!Buffer.concat(replies.slice(-2)).includes(end)) return;
      socket.destroy();
      resolve(Buffer.concat(replies).toString('latin1').match(/^-.*$/gm) ?? []);
    });
    for (const entry of entries) {
      socket.write(encodeCommand(['SELECT', entry.db]));
      socket.write(entry.resp);
    }
    socket.write(encodeCommand(['ECHO', end]));
  });
}

/** Every key of a server, by db and name, as text that is equal for equal values. */
export async function contents(redis: Redis, withCounters = true): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (let db = 0; db < 16; db++) {
    await redis.select(db);
    for (const key of await redis.keysBuffer('*')) {
      const type = await redis.type(key);
      const digest = await redis.call('DEBUG', 'DIGEST-VALUE', key);
      const deadline = await redis.call('PEXPIRETIME', key);
      const detail =
        type === 'stream'
          ? streamDetail(await redis.call('XINFO', 'STREAM', key, 'FULL', 'COUNT', 0), withCounters)
          : '';
      found.set(`${db}:${key.toString('latin1')}`, `${type} ${digest} ${deadline} ${detail}`);
    }
  }
  await redis.select(0);
  const functions = await redis.call('FUNCTION', 'LIST', 'WITHCODE');
  found.set('functions', JSON.stringify(functions));
  return found;
}

/** All that is stored of a stream but when consumers were seen. */
function streamDetail(info: unknown, withCounters: boolean): string {
  return JSON.stringify(info, function (this: unknown, name: string, value: unknown) {
    if (!Array.isArray(this)) return value;
    const before = this[Number(name) - 1];
    if (before === 'seen-time' || before === 'radix-tree-keys' || before === 'radix-tree-nodes') return '-';
    const counters = [
      'entries-added',
      'max-deleted-entry-id',
      'entries-read',
      'lag',
      'recorded-first-entry-id',
    ];
    if (!withCounters && typeof before === 'string' && counters.includes(before)) return '-';
    return value;
  });
}
