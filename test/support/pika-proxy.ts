// A redis-server that behaves as a Pika 4.0.1 was seen to behave as a target, by what stands in front of it: other INFO,
// no COMMAND, fewer commands, WATCH that an EXEC breaks only for `_<key>`, SELECT inside MULTI that does nothing to what
// follows, a FLUSHDB that breaks no WATCH, PEXPIREAT that cuts its argument, and a death of the server by a flush beside
// other commands in one MULTI. What is kept runs on the real server.

import { connect, createServer, type Server, type Socket } from 'node:net';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import type { RedisServer } from './redis-server.ts';

const KNOWN = new Set(
  `append auth bitcount bitop bitpos client config dbsize decr decrby del discard echo exec exists expire expireat flushall
  flushdb geoadd get getbit getrange getset hdel hexists hget hgetall hincrby hincrbyfloat hkeys hlen hmget hmset hscan hset
  hsetnx hvals incr incrby incrbyfloat info keys lindex linsert llen lpop lpush lpushx lrange lrem lset ltrim mget mset msetnx
  multi persist pexpire pexpireat pfadd pfcount pfmerge ping psetex pttl publish rpop rpoplpush rpush rpushx sadd scan scard
  sdiff sdiffstore select set setbit setex setnx setrange sinter sinterstore sismember smembers smove spop srem sscan strlen
  sunion sunionstore ttl type unlink unwatch watch xadd xdel xlen xrange xtrim zadd zcard zincrby zinterstore zpopmax zpopmin
  zrange zrangebyscore zrem zremrangebylex zremrangebyrank zremrangebyscore zscan zscore zunionstore`.split(
    /\s+/,
  ),
);
const ALONE = new Set([
  'dbsize',
  'discard',
  'exec',
  'flushall',
  'flushdb',
  'info',
  'multi',
  'ping',
  'unwatch',
]);
const READS = new Set(
  `bitcount bitpos client config dbsize echo exists get getbit getrange hexists hget hgetall hkeys hlen hmget hscan hvals info
  keys lindex llen lrange mget pfcount ping pttl scan scard sdiff select sinter sismember smembers sscan strlen sunion ttl type
  xlen xrange zcard zrange zrangebyscore zscan zscore`.split(/\s+/),
);
const MANY_KEYS = new Set(['del', 'unlink']);
const SET_OPTIONS = new Set(['nx', 'xx', 'vx', 'ex', 'px']);

type Command = readonly Buffer[];

interface Queued {
  readonly name: string;
  readonly args: Command;
}

export class PikaProxy implements AsyncDisposable {
  /** How often the server died of a flush beside other commands. */
  crashes = 0;
  readonly server: RedisServer;
  readonly #listener: Server;
  readonly #clients = new Set<Client>();

  private constructor(server: RedisServer, listener: Server) {
    this.server = server;
    this.#listener = listener;
  }

  static async start(server: RedisServer): Promise<PikaProxy> {
    const listener = createServer({ noDelay: true });
    const proxy = new PikaProxy(server, listener);
    listener.on('connection', (socket) => proxy.#clients.add(new Client(proxy, socket)));
    await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get url(): string {
    const address = this.#listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return `redis://127.0.0.1:${address.port}`;
  }

  forget(client: Client): void {
    this.#clients.delete(client);
  }

  /** Breaks the WATCH of others. `names`: as the server compares them. */
  touch(names: readonly string[]): void {
    for (const client of this.#clients)
      if (names.some((name) => client.watched.has(name))) client.isFailed = true;
  }

  touchAll(): void {
    for (const client of this.#clients) if (client.watched.size > 0) client.isFailed = true;
  }

  async crash(): Promise<void> {
    this.crashes++;
    for (const client of this.#clients) client.close();
    await this.server.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    await new Promise<void>((resolve) => this.#listener.close(() => resolve()));
  }
}

class Client {
  readonly watched = new Set<string>();
  isFailed = false;
  readonly #proxy: PikaProxy;
  readonly #socket: Socket;
  readonly #server: Socket;
  #input: Buffer = Buffer.alloc(0);
  #replies: Buffer = Buffer.alloc(0);
  #awaiting: { count: number; resolve: (replies: Buffer[]) => void } | undefined;
  #working: Promise<void> = Promise.resolve();
  #db = 0;
  #queued: Queued[] | undefined;
  #isSpoilt = false;

  constructor(proxy: PikaProxy, socket: Socket) {
    this.#proxy = proxy;
    this.#socket = socket;
    this.#server = connect({ port: proxy.server.port, host: '127.0.0.1', noDelay: true });
    socket.on('data', (bytes) => this.#onInput(bytes));
    this.#server.on('data', (bytes) => this.#onReplies(bytes));
    for (const end of [socket, this.#server]) {
      end.on('error', () => this.close());
      end.on('close', () => this.close());
    }
  }

  close(): void {
    this.#proxy.forget(this);
    this.#socket.destroy();
    this.#server.destroy();
  }

  #onInput(bytes: Buffer): void {
    this.#input = Buffer.concat([this.#input, bytes]);
    for (let end = frameEnd(this.#input, 0); end > 0; end = frameEnd(this.#input, 0)) {
      const scanner = new RespScanner();
      scanner.reset(Buffer.from(this.#input.subarray(0, end)));
      this.#input = this.#input.subarray(end);
      scanner.next();
      const args = scanner.args();
      this.#working = this.#working.then(() => this.#command(args)).catch(() => this.close());
    }
  }

  #onReplies(bytes: Buffer): void {
    this.#replies = Buffer.concat([this.#replies, bytes]);
    const found: Buffer[] = [];
    let at = 0;
    while (this.#awaiting && found.length < this.#awaiting.count) {
      const end = frameEnd(this.#replies, at);
      if (end <= 0) return;
      found.push(Buffer.from(this.#replies.subarray(at, end)));
      at = end;
    }
    this.#replies = this.#replies.subarray(at);
    const awaiting = this.#awaiting;
    this.#awaiting = undefined;
    awaiting?.resolve(found);
  }

  #ask(commands: readonly Command[]): Promise<Buffer[]> {
    return new Promise((resolve) => {
      this.#awaiting = { count: commands.length, resolve };
      for (const args of commands) this.#server.write(encodeCommand(args));
    });
  }

  #say(text: string | Buffer): void {
    this.#socket.write(text);
  }

  async #command(args: Command): Promise<void> {
    const name = String(args[0]).toLowerCase();
    const refusal = refusalOf(name, args);
    if (refusal !== undefined) {
      this.#isSpoilt ||= this.#queued !== undefined;
      this.#say(refusal);
    } else if (name === 'exec') await this.#exec();
    else if (name === 'multi') this.#multi();
    else if (name === 'discard') this.#discard();
    else if (this.#queued !== undefined) {
      if (name === 'watch') return this.#say('-ERR WATCH inside MULTI is not allowed\r\n');
      this.#queued.push({ name, args });
      this.#say('+QUEUED\r\n');
    } else await this.#plain(name, args);
  }

  async #plain(name: string, args: Command): Promise<void> {
    if (name === 'watch') for (const key of args.slice(1)) this.watched.add(`db${this.#db}_${key}`);
    else if (name === 'unwatch') this.#unwatch();
    else if (name.startsWith('flush')) this.#proxy.touchAll();
    else if (!READS.has(name)) this.#proxy.touch(keysOf(name, args).map((key) => `db${this.#db}_${key}`));
    if (name === 'watch' || name === 'unwatch') return this.#say('+OK\r\n');
    if (name === 'info') return this.#say(await this.#info());
    if (name === 'config' && String(args[2]) === 'cache-model')
      return this.#say(encodeCommand(['cache-model', '0']));
    const [reply] = await this.#ask([asRun(name, args)]);
    if (name === 'select' && String(reply).startsWith('+')) this.#db = Number(String(args[1]));
    this.#say(reply as Buffer);
  }

  #multi(): void {
    this.#say(this.#queued ? '-ERR MULTI calls can not be nested\r\n' : '+OK\r\n');
    this.#queued ??= [];
  }

  #discard(): void {
    this.#say(this.#queued ? '+OK\r\n' : '-ERR DISCARD without MULTI\r\n');
    this.#end();
  }

  #unwatch(): void {
    this.watched.clear();
    this.isFailed = false;
  }

  #end(): void {
    this.#queued = undefined;
    this.#isSpoilt = false;
    this.#unwatch();
  }

  async #exec(): Promise<void> {
    const { isFailed } = this;
    const queued = this.#queued;
    const isSpoilt = this.#isSpoilt;
    this.#end();
    if (!queued) return this.#say('-ERR EXEC without MULTI\r\n');
    if (isSpoilt) return this.#say('-EXECABORT Transaction discarded because of previous errors.\r\n');
    if (isFailed) return this.#say('$-1\r\n');
    const flushes = queued.some(({ name }) => name.startsWith('flush'));
    if (flushes && queued.length > 1) return await this.#proxy.crash();
    const writes = queued.filter(({ name }) => !READS.has(name) && !name.startsWith('flush'));
    this.#proxy.touch(
      writes.flatMap(({ name, args }) => keysOf(name, args).map((key) => `db${this.#db}${key}`)),
    );
    const db = this.#db;
    const here = queued.map(({ name, args }) => (name === 'select' ? args : asRun(name, args)));
    // All of it runs where MULTI was said.
    const run = here.flatMap((args, at) =>
      queued[at]?.name === 'select'
        ? [args, ['SELECT', String(db)].map((word) => Buffer.from(word))]
        : [args],
    );
    const words = (...all: string[]) => all.map((word) => Buffer.from(word));
    const replies = await this.#ask([words('MULTI'), ...run, words('EXEC')]);
    const selected = queued.findLast(({ name }) => name === 'select');
    if (selected) {
      this.#db = Number(String(selected.args[1]));
      await this.#ask([words('SELECT', String(this.#db))]);
    }
    // As it is: a reply that has no end.
    const isCut = queued.some(({ name }) => name === 'flushall');
    this.#say(isCut ? '*1\r\n' : withoutExtra(replies.at(-1) as Buffer, queued));
  }

  async #info(): Promise<Buffer> {
    const [reply] = await this.#ask([[Buffer.from('INFO')]]);
    const runId = /^run_id:\w+/m.exec(String(reply))?.[0] ?? '';
    const text = [
      '# Server',
      'pika_version:4.0.0',
      runId,
      '# Replication',
      'role:master',
      'connected_slaves:0',
      '',
    ];
    const body = text.join('\r\n');
    return Buffer.from(`$${body.length}\r\n${body}\r\n`);
  }
}

function refusalOf(name: string, args: Command): string | undefined {
  if (!KNOWN.has(name)) return `-ERR unknown command "${name}"\r\n`;
  const isWrong = (args.length === 1 && !ALONE.has(name)) || (name === 'hset' && args.length !== 4);
  if (isWrong) return `-ERR wrong number of arguments for '${name}' command\r\n`;
  if (name.startsWith('flush') && args.length > 1) return '-ERR Invalid Argument\r\n';
  if (name !== 'set') return undefined;
  for (let at = 3; at < args.length; at++) {
    const option = String(args[at]).toLowerCase();
    if (!SET_OPTIONS.has(option)) return '-ERR syntax error\r\n';
    if (option !== 'nx' && option !== 'xx') at++;
  }
  return undefined;
}

function asRun(name: string, args: Command): Command {
  return name === 'pexpireat' ? [args[0] as Buffer, args[1] as Buffer, Buffer.from('1')] : args;
}

function keysOf(name: string, args: Command): string[] {
  if (name === 'mset')
    return args
      .slice(1)
      .filter((_, at) => at % 2 === 0)
      .map(String);
  return (MANY_KEYS.has(name) ? args.slice(1) : args.slice(1, 2)).map(String);
}

/** Leaves the replies of the SELECTs out that were put in. */
function withoutExtra(reply: Buffer, queued: readonly Queued[]): Buffer {
  if (!queued.some(({ name }) => name === 'select')) return reply;
  let at = reply.indexOf('\r\n') + 2;
  const kept: Buffer[] = [];
  for (const { name } of queued) {
    const end = frameEnd(reply, at);
    kept.push(reply.subarray(at, end));
    at = name === 'select' ? frameEnd(reply, end) : end;
  }
  return Buffer.concat([Buffer.from(`*${queued.length}\r\n`), ...kept]);
}

/** Where a RESP value ends that begins at `at`; -1 while it is not whole. */
function frameEnd(bytes: Buffer, at: number): number {
  const line = bytes.indexOf('\r\n', at);
  if (line < 0) return -1;
  const next = line + 2;
  const kind = String.fromCharCode(bytes[at] as number);
  const count = Number(bytes.subarray(at + 1, line).toString('latin1'));
  if (kind === '$' && count >= 0) return next + count + 2 <= bytes.length ? next + count + 2 : -1;
  if (kind !== '*') return next;
  let end = next;
  for (let i = 0; i < count; i++) {
    end = frameEnd(bytes, end);
    if (end < 0) return -1;
  }
  return end;
}
