import type { Redis } from 'ioredis';
import { until } from './faults.ts';

type Argument = string | number | Buffer;

/** Writes what the server has commands for, in both encodings that a type has, and what is newer than Redis 7.0. */
export class EveryEncoding {
  readonly #redis: Redis;
  readonly #known: ReadonlySet<string>;

  private constructor(redis: Redis, known: ReadonlySet<string>) {
    this.#redis = redis;
    this.#known = known;
  }

  /** @param lacks commands whose effects are not wanted, since the target does not have them */
  static async at(redis: Redis, target: Redis): Promise<EveryEncoding> {
    const [ours, theirs] = await Promise.all([commandsOf(redis), commandsOf(target)]);
    return new EveryEncoding(redis, new Set([...ours].filter((name) => theirs.has(name))));
  }

  has(name: string): boolean {
    return this.#known.has(name);
  }

  /** What a snapshot then holds. */
  async write(): Promise<void> {
    const call = (name: string, ...args: Argument[]) => this.#redis.call(name, ...args);
    await call('MSET', 'int', 12345, 'raw', Buffer.from([0, 13, 10, 255]), 'lzf', 'ab'.repeat(5_000));
    for (const [size, many] of [
      ['small', 5],
      ['large', 700],
    ] as const) {
      const each = (make: (i: number) => Argument[]) =>
        Array.from({ length: many }, (_, i) => make(i)).flat();
      await call('RPUSH', `list:${size}`, ...each((i) => [`element ${i}`]));
      await call('SADD', `ints:${size}`, ...each((i) => [i * 1000]));
      await call('SADD', `set:${size}`, ...each((i) => [`m${i}`]));
      await call('ZADD', `zset:${size}`, ...each((i) => [i / 3, `m${i}`]));
      await call('HSET', `hash:${size}`, ...each((i) => [`f${i}`, i]));
      for (let i = 0; i < many; i++) await this.#redis.xadd(`stream:${size}`, `1-${i + 1}`, 'n', i);
      await call('XGROUP', 'CREATE', `stream:${size}`, 'g', 0);
      await call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', 3, 'STREAMS', `stream:${size}`, '>');
      await call('XDEL', `stream:${size}`, '1-4');
      await this.#fields(size, many);
    }
    await call('RPUSH', 'list:plain', 'x'.repeat(20_000), 'y');
    await call('ZADD', 'zset:edges', '-inf', 'a', 'inf', 'b', '1e300', 'c');
    await call('PFADD', 'hll', ...Array.from({ length: 300 }, (_, i) => `h${i}`));
    await call('GEOADD', 'geo', 13.36, 38.11, 'Palermo');
    await call('SET', 'volatile', 'v', 'PX', 600_000);
    await call('FUNCTION', 'LOAD', 'REPLACE', LIBRARY);
    await this.#redis.select(9);
    await call('SET', 'elsewhere', 'v', 'PX', 700_000);
    await this.#redis.select(0);
    if (this.has('VADD')) await call('VADD', 'vectors', 'VALUES', 2, 0.5, 0.25, 'element');
  }

  async #fields(size: string, many: number): Promise<void> {
    if (!this.has('HPEXPIRE')) return;
    const key = `fields:${size}`;
    const names = Array.from({ length: many }, (_, i) => `f${i}`);
    await this.#redis.call('HSET', key, ...names.flatMap((name) => [name, 'v']), 'stays', 'v');
    await this.#redis.call('HPEXPIRE', key, 600_000, 'FIELDS', many, ...names);
    await this.#redis.call('HPEXPIRE', key, 900_000, 'FIELDS', 1, 'f1');
  }

  /** What arrives in the stream; ends at rest. */
  async traffic(): Promise<void> {
    const redis = this.#redis;
    for (let i = 0; i < 50; i++) {
      await redis.select(i % 2 === 0 ? 0 : 9);
      await redis.multi().incr('counter').set(`live:${i}`, i, 'EX', 900).rpush('list:large', i).exec();
      await redis.call('XADD', 'stream:large', 'MAXLEN', '~', 500, '*', 'n', i);
      await redis.call('COPY', `live:${i}`, `copy:${i}`, 'DB', 3);
    }
    await redis.select(0);
    await redis.call('SPOP', 'set:large', 10);
    await redis.call('XREADGROUP', 'GROUP', 'g', 'd', 'COUNT', 5, 'STREAMS', 'stream:large', '>');
    await redis.call('XAUTOCLAIM', 'stream:large', 'g', 'e', 0, 0);
    await redis.call('XACK', 'stream:large', 'g', '1-1');
    await redis.call('EXPIRE', 'int', 800, 'NX');
    await redis.call('GETEX', 'raw', 'PX', 700_000);
    await redis.call('FCALL', 'put', 1, 'by-function', 'v');
    await redis.call(
      'EVAL',
      "redis.call('select', 5) redis.call('set', KEYS[1], ARGV[1])",
      1,
      'by-script',
      'v',
    );
    await redis.call('SWAPDB', 3, 7);
    await redis.multi().set('a', 1).select(9).set('b', 2).move('b', 11).exec();
    await redis.select(0);
    await this.#newer();
  }

  /** Fields whose time has come, which the server has not told of: it does not look for them any more. */
  async expireUntold(): Promise<void> {
    const redis = this.#redis;
    await redis.call('DEBUG', 'SET-ACTIVE-EXPIRE', 0);
    if (!this.has('HPEXPIRE')) return;
    for (const [key, fields] of Object.entries({ 'hash:untold': ['f', 'stays'], 'hash:all-gone': ['f'] })) {
      await redis.call('HSET', key, ...fields.flatMap((field) => [field, 'v']));
      await redis.call('HPEXPIRE', key, 20, 'FIELDS', 1, 'f');
      await until('its time has come', async () => (await redis.hget(key, 'f')) === null);
    }
  }

  async #newer(): Promise<void> {
    const redis = this.#redis;
    const call = async (name: string, ...args: Argument[]) => {
      if (this.has(name)) await redis.call(name, ...args);
    };
    await call('HEXPIRE', 'hash:small', 500, 'NX', 'FIELDS', 2, 'f0', 'f1');
    await call('HPEXPIREAT', 'hash:large', Date.now() + 400_000, 'FIELDS', 2, 'f0', 'f600');
    await call('HPERSIST', 'fields:small', 'FIELDS', 1, 'f2');
    await call('HSETEX', 'hash:new', 'EX', 300, 'FIELDS', 2, 'a', 1, 'b', 2);
    await call('HGETEX', 'fields:large', 'PX', 200_000, 'FIELDS', 1, 'f3');
    await call('HGETDEL', 'fields:large', 'FIELDS', 1, 'f4');
    await call('HPEXPIRE', 'fields:large', 30, 'FIELDS', 1, 'f5');
    await call('HEXPIRE', 'fields:large', 0, 'FIELDS', 1, 'f6');
    await call('DELIFEQ', 'live:2', 2);
    await call('MSETEX', 2, 'ex:1', 'v', 'ex:2', 'v', 'EX', 400);
    await call('VADD', 'vectors', 'VALUES', 2, 0.125, 0.25, 'another');
    await call('VREM', 'vectors', 'element');
  }
}

const LIBRARY =
  "#!lua name=lib\nredis.register_function('put', function(k, a) return redis.call('SET', k[1], a[1]) end)";

async function commandsOf(redis: Redis): Promise<Set<string>> {
  const names = (await redis.call('COMMAND', 'LIST')) as string[];
  return new Set(names.map((name) => name.toUpperCase()));
}
