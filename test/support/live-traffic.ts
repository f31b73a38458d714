import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { until } from './faults.ts';
import type { RedisServer } from './redis-server.ts';
import { random } from './workload.ts';

// What applications do to a server, all at once and without end: every type, several databases, transactions, scripts,
// functions, groups of streams, expiry. Nobody knows the result; a real replica of the same source does.

const BATCH = 30;
const PAUSE_MS = 30;
const DATABASES = 4;

export interface TrafficOptions {
  readonly seed: number;
  /** FLUSHDB, FLUSHALL, SWAPDB: shares of 1000. */
  readonly global?: number;
  /** Keys with a TTL of less than a second. */
  readonly expiring?: boolean;
  readonly keys?: number;
}

type Command = readonly (string | number)[];

const LIBRARY = `#!lua name=lib
redis.register_function('bump', function(keys, args)
  redis.call('INCRBY', keys[1], args[1])
  return redis.call('RPUSH', keys[2], redis.call('TIME')[2])
end)`;
const SCRIPT = `redis.call('LPUSH', KEYS[1], ARGV[1])
if redis.call('LLEN', KEYS[1]) > 5 then redis.call('RPOPLPUSH', KEYS[1], KEYS[2]) end
return redis.call('HINCRBY', KEYS[3], 'script', 1)`;

/** Runs until it is stopped; what is refused (a wrong type, an absent group) is part of it. */
export class Traffic {
  readonly #redis: Redis;
  readonly #options: TrafficOptions;
  readonly #next: () => number;
  readonly #done: Promise<void>;
  #running = true;
  #unique = 0;
  #sent = 0;

  constructor(server: RedisServer, options: TrafficOptions) {
    const overrides = { maxRetriesPerRequest: 0, enableOfflineQueue: true } as const;
    this.#redis = server.client().duplicate({ ...overrides, retryStrategy: () => 20 });
    this.#redis.on('error', () => {});
    this.#options = options;
    this.#next = random(options.seed);
    this.#done = this.#run();
  }

  get sent(): number {
    return this.#sent;
  }

  /** Until `commands` more were answered. */
  async more(commands: number): Promise<void> {
    const to = this.#sent + commands;
    await until(`${commands} more commands have run`, () => this.#sent >= to);
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
    this.#redis.disconnect();
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const batch = this.#redis.pipeline();
      batch.call('SELECT', Math.floor(this.#next() * DATABASES));
      for (let i = 0; i < BATCH; i++)
        for (const [name, ...args] of this.#group()) batch.call(String(name), ...args);
      const replies = await batch.exec().catch(() => null);
      if (replies?.some(([error]) => error === null) === true) this.#sent += BATCH;
      await delay(PAUSE_MS);
    }
  }

  #group(): readonly Command[] {
    const share = this.#next() * 1_000;
    const global = this.#options.global ?? 3;
    if (share < global) return [this.#pick(this.#globals())];
    if (share < 40) return [['MULTI'], ...[1, 2, 3].map(() => this.#pick(this.#keyed())), ['EXEC']];
    if (share < 160) return [this.#pick(this.#crossing())];
    if (share < 220 && this.#options.expiring !== false) return [this.#pick(this.#expiring())];
    return [this.#pick(this.#keyed())];
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#next() * list.length)] as T;
  }

  #number(below: number): number {
    return Math.floor(this.#next() * below);
  }

  #key(kind: string): string {
    return `${kind}:${this.#number(this.#options.keys ?? 30)}`;
  }

  #keyed(): Command[] {
    const id = this.#unique++;
    const key = (kind: string) => this.#key(kind);
    return [
      ['SET', key('s'), `v${id}`],
      ['APPEND', key('s'), `a${id},`],
      ['SETRANGE', key('s'), this.#number(40), `r${id}`],
      ['SETBIT', key('b'), this.#number(500), 1],
      ['BITFIELD', key('b'), 'INCRBY', 'u8', this.#number(30), 3],
      ['INCR', key('n')],
      ['INCRBYFLOAT', key('f'), '0.1'],
      ['GETDEL', key('s')],
      ['RPUSH', key('l'), `e${id}`, `f${id}`],
      ['LPOP', key('l')],
      ['LINSERT', key('l'), 'BEFORE', `e${id - 40}`, `i${id}`],
      ['LTRIM', key('l'), 0, 60],
      ['HSET', key('h'), `f${this.#number(30)}`, `${id}`.repeat(1 + this.#number(20))],
      ['HINCRBYFLOAT', key('h'), 'x', '1.5'],
      ['HDEL', key('h'), `f${this.#number(30)}`],
      ['SADD', key('t'), this.#number(90), `m${this.#number(30)}`],
      ['SADD', key('ints'), this.#number(9_000)],
      ['SPOP', key('t'), this.#number(3)],
      ['SREM', key('t'), this.#number(90)],
      ['ZADD', key('z'), 'GT', 'CH', this.#number(100), `m${this.#number(50)}`],
      ['ZINCRBY', key('z'), '1.25', `m${this.#number(50)}`],
      ['ZPOPMIN', key('z')],
      ['GEOADD', key('g'), this.#next() * 90, this.#next() * 40, `p${this.#number(20)}`],
      ['PFADD', key('p'), id, id + 1],
      ['XADD', key('x'), 'MAXLEN', '~', 50, '*', 'n', id, 'm', `v${id}`],
      ['XADD', key('x'), '*', 'n', id],
      ['XTRIM', key('x'), 'MAXLEN', '~', 20, 'LIMIT', 5],
      ['XDEL', key('x'), `${Date.now() - this.#number(300)}-0`],
      ['XGROUP', 'CREATE', key('x'), 'grp', '$', 'MKSTREAM'],
      ['XREADGROUP', 'GROUP', 'grp', `c${this.#number(3)}`, 'COUNT', 5, 'STREAMS', key('x'), '>'],
      ['XAUTOCLAIM', key('x'), 'grp', 'other', 0, 0, 'COUNT', 3],
      ['XGROUP', 'SETID', key('x'), 'grp', '0'],
      ['XGROUP', 'DELCONSUMER', key('x'), 'grp', `c${this.#number(3)}`],
      ['DEL', key('s'), key('l'), key('n')],
      ['UNLINK', key('h')],
      ['MSET', key('s'), `x${id}`, key('s'), `y${id}`, key('s'), 7],
      ['PERSIST', key('s')],
      ['PUBLISH', 'channel', id],
    ];
  }

  #crossing(): Command[] {
    const key = (kind: string) => this.#key(kind);
    const db = this.#number(DATABASES);
    return [
      ['RENAME', key('s'), key('s')],
      ['RENAMENX', key('x'), key('x')],
      ['LMOVE', key('l'), key('l'), 'LEFT', 'RIGHT'],
      ['SMOVE', key('t'), key('t'), this.#number(90)],
      ['SUNIONSTORE', key('t'), key('t'), key('t')],
      ['SDIFFSTORE', key('t'), key('t'), key('ints')],
      ['ZRANGESTORE', key('z'), key('z'), 0, 10],
      ['ZUNIONSTORE', key('z'), 2, key('z'), key('t')],
      ['GEOSEARCHSTORE', key('g'), key('g'), 'FROMLONLAT', 10, 10, 'BYRADIUS', 4_000, 'km'],
      ['PFMERGE', key('p'), key('p'), key('p')],
      ['BITOP', 'XOR', key('b'), key('b'), key('b')],
      ['SORT', key('ints'), 'LIMIT', 0, 5, 'STORE', key('l')],
      ['COPY', key('h'), key('h'), 'REPLACE'],
      ['COPY', key('x'), key('x'), 'DB', db, 'REPLACE'],
      ['MOVE', key('z'), db],
      ['LMPOP', 2, key('l'), key('l'), 'LEFT', 'COUNT', 2],
      ['MSETNX', `u:${this.#number(99)}`, 1, `u:${this.#number(99)}`, 2],
      ['EVAL', SCRIPT, 3, key('l'), key('l'), key('h'), this.#unique++],
      ['FCALL', 'bump', 2, key('n'), key('l'), 3],
      ['FUNCTION', 'LOAD', 'REPLACE', LIBRARY],
    ];
  }

  #expiring(): Command[] {
    const key = (kind: string) => this.#key(kind);
    const id = this.#unique++;
    return [
      ['SET', key('s'), `e${id}`, 'PX', 30 + this.#number(400)],
      ['SET', key('s'), `e${id}`, 'EX', 10_000],
      ['PEXPIRE', key('l'), 30 + this.#number(400)],
      ['EXPIRE', key('h'), 20_000, 'NX'],
      ['EXPIRE', key('h'), 30_000, 'GT'],
      ['PEXPIRE', key('n'), 200],
      ['GETEX', key('s'), 'PX', 100 + this.#number(300)],
      ['PEXPIREAT', key('t'), Date.now() + 150],
      ['EXPIRE', key('z'), -1],
      ['SETEX', key('s'), 15_000, `x${id}`],
    ];
  }

  #globals(): Command[] {
    return [
      ['FLUSHDB'],
      ['FLUSHDB', 'ASYNC'],
      ['SWAPDB', 0, 1 + this.#number(DATABASES - 1)],
      ['SWAPDB', 1, 2],
      ['FLUSHALL'],
      ['FUNCTION', 'FLUSH'],
    ];
  }
}
