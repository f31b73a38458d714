import { Redis } from 'ioredis';
import type { Argument } from './pika-log.ts';

// The data of a Pika as its clients see it, in a real redis-server, with Pika's order of things: a write holds the lock of
// its keys and a share of its database's while it is executed and then logged; EXEC holds the locks of all its commands'
// keys, reads as well; a plain read holds none; FLUSHDB is logged after its lock is released.

export interface PikaDataOptions {
  readonly databases: readonly string[];
  readonly port: number;
  readonly log: (command: readonly Argument[], db: string) => void;
  /** Waits between execution and the log. */
  readonly beforeLog: () => Promise<void>;
  readonly beforeFlushLog: () => Promise<void>;
  /** As 4.0.1 does: APPEND to a missing key is logged without its value. */
  readonly losesAppend: boolean;
  /** What TYPE says of a stream: `streams` of 4.0, `none` of 3.5. */
  readonly typeOfStreams: 'streams' | 'none';
  readonly info: () => string;
}

const WRITES = new Set(
  (
    'SET SETEX PSETEX SETNX GETSET APPEND SETRANGE INCR INCRBY INCRBYFLOAT DECR DECRBY DEL UNLINK EXPIRE PEXPIRE EXPIREAT ' +
    'PEXPIREAT PERSIST HSET HMSET HDEL HINCRBY HINCRBYFLOAT LPUSH RPUSH LPOP RPOP LSET LTRIM LREM SADD SREM SPOP ZADD ' +
    'ZINCRBY ZREM XADD XDEL XTRIM SETBIT PFADD PFMERGE RENAME FLUSHDB FLUSHALL'
  ).split(' '),
);

/** What PFMERGE makes: a register a byte. */
export const MERGED_COUNT = Buffer.alloc(131_072, 3);

export class PikaData {
  readonly #options: PikaDataOptions;
  readonly #clients: readonly Redis[];
  readonly #locks = new Map<string, Promise<void>>();
  #writing = new Map<string, Set<Promise<void>>>();
  #flushing = new Map<string, Promise<void>>();

  constructor(options: PikaDataOptions) {
    this.#options = options;
    const shape = { host: '127.0.0.1', port: options.port, protocol: 2, enableReadyCheck: false } as const;
    this.#clients = options.databases.map((_, db) => new Redis({ ...shape, db }));
    for (const client of this.#clients) client.on('error', () => {});
  }

  session(): PikaSession {
    return new PikaSession(this, this.#options.databases);
  }

  close(): void {
    for (const client of this.#clients) client.disconnect();
  }

  async run(args: readonly Buffer[], db: number): Promise<unknown> {
    const name = nameOf(args);
    if (!WRITES.has(name)) return await this.#execute(args, db);
    if (name === 'FLUSHDB' || name === 'FLUSHALL') return await this.#flush(args, db);
    return await this.#locked([args], db, () => this.#write(args, db));
  }

  async transaction(commands: readonly (readonly Buffer[])[], db: number): Promise<unknown[]> {
    return await this.#locked(commands, db, async () => {
      const replies: Promise<unknown>[] = [];
      for (const args of commands) {
        const isWrite = WRITES.has(nameOf(args));
        const reply = (isWrite ? this.#write(args, db) : this.#execute(args, db)).catch(
          (error: Error) => error,
        );
        replies.push(reply);
        // INFO tells of the log as it is behind what was asked before.
        if (isWrite || nameOf(args) === 'INFO') await Promise.all(replies);
      }
      return await Promise.all(replies);
    });
  }

  async #execute(args: readonly Buffer[], db: number): Promise<unknown> {
    const [name, ...rest] = args;
    if (nameOf(args) === 'INFO') return this.#options.info();
    // In its own form.
    if (nameOf(args) === 'PFMERGE')
      return await (this.#clients[db] as Redis).set(args[1] as Buffer, MERGED_COUNT);
    const reply = await (this.#clients[db] as Redis).callBuffer(String(name), ...rest);
    return nameOf(args) === 'TYPE' && String(reply) === 'stream' ? this.#options.typeOfStreams : reply;
  }

  async #write(args: readonly Buffer[], db: number): Promise<unknown> {
    const isNew = nameOf(args) === 'APPEND' && (await this.#clients[db]?.exists(args[1] as Buffer)) === 0;
    const reply = await this.#execute(args, db);
    await this.#options.beforeLog();
    const name = this.#options.databases[db] as string;
    for (const item of logged(args, reply, isNew && this.#options.losesAppend)) this.#options.log(item, name);
    return reply;
  }

  /**
   * Its lock is the whole database's, and ends before it is logged. FLUSHALL as in 4.0.0: of all databases, logged in the
   * one where it was called.
   */
  async #flush(args: readonly Buffer[], db: number): Promise<unknown> {
    const { databases } = this.#options;
    const own = databases[db] as string;
    const names = nameOf(args) === 'FLUSHALL' ? databases : [own];
    const held = (of: ReadonlyMap<string, unknown>) => names.some((name) => of.has(name));
    while (held(this.#flushing)) await Promise.all(names.map((name) => this.#flushing.get(name)));
    const writes = () => names.flatMap((name) => [...(this.#writing.get(name) ?? [])]);
    const work = (async () => {
      while (writes().length > 0) await Promise.all(writes());
      return await this.#execute(args, db);
    })();
    const lock = work.then(() => {});
    for (const name of names) this.#flushing.set(name, lock);
    const reply = await work.finally(() => names.forEach((name) => void this.#flushing.delete(name)));
    await this.#options.beforeFlushLog();
    this.#options.log([nameOf(args).toLowerCase()], own);
    return reply;
  }

  async #locked<T>(commands: readonly (readonly Buffer[])[], db: number, work: () => Promise<T>): Promise<T> {
    const name = this.#options.databases[db] as string;
    while (this.#flushing.has(name)) await this.#flushing.get(name);
    const { promise, resolve } = latch();
    const writing = this.#writing.get(name) ?? new Set();
    this.#writing.set(name, writing.add(promise));
    const keys = [...new Set(commands.flatMap((args) => keysOf(args)))].sort().map((key) => `${name} ${key}`);
    const free = keys.map((key) => this.#locks.get(key));
    const own = promise;
    for (const key of keys) this.#locks.set(key, own);
    try {
      await Promise.all(free);
      return await work();
    } finally {
      writing.delete(promise);
      for (const key of keys) if (this.#locks.get(key) === own) this.#locks.delete(key);
      resolve();
    }
  }
}

/** Such as may run at once with others. */
export function isPlainRead(args: readonly Buffer[]): boolean {
  return /^(TYPE|PTTL|GET|GETRANGE|LRANGE|[HSZ]SCAN|XRANGE|XINFO|TIME)$/.test(nameOf(args));
}

export class PikaSession {
  readonly #data: PikaData;
  readonly #databases: readonly string[];
  #db = 0;
  #queue: (readonly Buffer[])[] | undefined;

  constructor(data: PikaData, databases: readonly string[]) {
    this.#data = data;
    this.#databases = databases;
  }

  async command(args: readonly Buffer[]): Promise<unknown> {
    const name = nameOf(args);
    if (name === 'MULTI') {
      this.#queue = [];
      return 'OK';
    }
    if (name === 'EXEC') {
      const queue = this.#queue ?? [];
      this.#queue = undefined;
      return await this.#data.transaction(queue, this.#db);
    }
    if (this.#queue !== undefined) {
      this.#queue.push(args);
      return 'QUEUED';
    }
    if (name !== 'SELECT') return await this.#data.run(args, this.#db);
    const db = Number(args[1]);
    if (this.#databases[db] === undefined) throw new Error('ERR invalid DB index');
    this.#db = db;
    return 'OK';
  }
}

/** What Pika writes for it. */
function logged(args: readonly Buffer[], reply: unknown, loses: boolean): (readonly Argument[])[] {
  const [, key, value] = args as [Buffer, Buffer, Buffer];
  switch (nameOf(args)) {
    case 'DEL':
    case 'UNLINK':
      return args.slice(1).map((one) => ['del', one]);
    case 'APPEND':
      return [loses ? ['pksetexat', key, 0, ''] : args];
    case 'PFMERGE':
      return [['set', key, MERGED_COUNT]];
    case 'SPOP':
      return Buffer.isBuffer(reply) ? [['srem', key, reply]] : [];
    case 'XADD':
      return [args.map((arg, i) => (i === 2 ? String(reply) : arg))];
    case 'PEXPIRE':
      return [['pexpireat', key, Date.now() + Number(value)]];
    case 'PSETEX':
      return [['pksetexat', key, Date.now() + Number(value), args[3] as Buffer]];
    default:
      return [args];
  }
}

function keysOf(args: readonly Buffer[]): string[] {
  const keys =
    nameOf(args) === 'RENAME' || /^(DEL|UNLINK)$/.test(nameOf(args)) ? args.slice(1) : args.slice(1, 2);
  return keys.map((key) => key.toString('latin1'));
}

function nameOf(args: readonly Buffer[]): string {
  return String(args[0]).toUpperCase();
}

function latch(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
