import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { type Endpoint, parseEndpoint } from '../../src/runtime/endpoint.ts';
import { AbortedError } from '../../src/runtime/errors.ts';
import { Connection, ConnectionLost, type ConnectionOptions } from '../../src/wire/connection.ts';
import { type BatchOutcome, ProtocolError, ReplyError } from '../../src/wire/replies.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';

const CK = 'lanegate:test:ck:0';
const LARGE = 24 * 1024 * 1024;
const PRELUDE = [['WATCH', CK], ['GET', CK], ['MULTI']] as const;

function endpoint(url: string, secrets: { username?: string; password?: string } = {}): Endpoint {
  return parseEndpoint('--target', url, secrets);
}

function open(url: string, options: Partial<ConnectionOptions> = {}): Promise<Connection> {
  return Connection.open(endpoint(url), { connectTimeoutMs: 5_000, replyTimeoutMs: 5_000, ...options });
}

function encoded(...commands: string[][]): Buffer {
  const words = (command: string[]) =>
    command.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('');
  return Buffer.from(commands.map((command) => `*${command.length}\r\n${words(command)}`).join(''));
}

async function applied(connection: Connection, ...commands: string[][]): Promise<BatchOutcome> {
  await connection.callMany(PRELUDE);
  return connection.execBatch([encoded(...commands)], commands.length);
}

const lost = (call: Promise<unknown>) =>
  call.then(
    () => expect.unreachable('the call should have been rejected'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(ConnectionLost);
      return error as ConnectionLost;
    },
  );

describe('a batch', () => {
  test('is committed with its checkpoint, and the next prelude may travel behind its EXEC', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    expect(await connection.callMany(PRELUDE)).toEqual(['OK', null, 'OK']);
    const outcome = connection.execBatch(
      [encoded(['SET', 'a', '1'], ['INCR', 'n']), encoded(['SET', CK, '1:2'])],
      3,
    );
    const prelude = connection.callMany(PRELUDE);
    expect(await outcome).toEqual({ kind: 'committed', errors: [], replies: 3 });
    expect(await prelude).toEqual(['OK', Buffer.from('1:2'), 'OK']);
    expect(await connection.call(['DISCARD'])).toBe('OK');
    connection.close();
  });

  test('is fenced when the watched checkpoint was written by another session', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    await connection.callMany(PRELUDE);
    await redis.client().set(CK, '1:9');
    expect(await connection.execBatch([encoded(['SET', 'a', '1'])], 1)).toEqual({ kind: 'fenced' });
    expect(await redis.client().exists('a')).toBe(0);
    expect(await applied(connection, ['SET', 'a', '2'])).toMatchObject({ kind: 'committed' });
    connection.close();
  });

  test('is aborted as a whole by a command that cannot be queued, which is named by its index', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    const outcome = await applied(connection, ['SET', 'a', '1'], ['NOSUCH', 'x'], ['SET', 'b', '1'], ['GET']);
    expect(outcome).toMatchObject({
      kind: 'aborted',
      error: { code: 'EXECABORT' },
      errors: [
        { index: 1, error: { code: 'ERR' } },
        { index: 3, error: { code: 'ERR' } },
      ],
    });
    expect(await redis.client().dbsize()).toBe(0);
    connection.close();
  });

  test('is aborted when EXEC itself is refused', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    const outcome = await connection.execBatch([], 0);
    expect(outcome).toMatchObject({
      kind: 'aborted',
      errors: [],
      error: { message: 'ERR EXEC without MULTI' },
    });
    connection.close();
  });

  test('outside MULTI ends the connection, because nothing fenced what ran', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    const error = await lost(connection.execBatch([encoded(['SET', 'a', '1'])], 1));
    expect(error.cause).toBeInstanceOf(ProtocolError);
    expect(connection.closed).toBe(true);
  });

  test('reports a command that failed inside EXEC by its index; the others are applied', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    await connection.call(['SET', 's', 'x']);
    const outcome = await applied(
      connection,
      ['SET', 'a', '1'],
      ['LPUSH', 's', 'y'],
      ['INCR', 'n'],
      ['INCR', 's'],
    );
    expect(outcome).toMatchObject({
      kind: 'committed',
      replies: 4,
      errors: [
        { index: 1, error: { code: 'WRONGTYPE' } },
        { index: 3, error: { code: 'ERR' } },
      ],
    });
    expect(await redis.client().mget('a', 'n')).toEqual(['1', '1']);
    connection.close();
  });

  test('a MULTI inside it is refused without dooming it, and the indexes behind it stay right', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    await connection.call(['SET', 's', 'x']);
    const outcome = await applied(
      connection,
      ['SET', 'a', '1'],
      ['MULTI'],
      ['LPUSH', 's', 'y'],
      ['SET', 'b', '1'],
    );
    expect(outcome).toMatchObject({ kind: 'committed', replies: 3, errors: [{ index: 1 }, { index: 2 }] });
    connection.close();
  });

  test('nested replies are passed over, and an error inside one is not a failed command', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    await connection.callMany([
      ['RPUSH', 'l', 'a', Buffer.alloc(100_000, '\r\n-'), 'c'],
      ['XADD', 'x', '1-1', 'f', 'v', 'g', 'w'],
      ['XADD', 'x', '2-1', 'f', ''],
    ]);
    const outcome = await applied(
      connection,
      ['LRANGE', 'l', '0', '-1'],
      ['XRANGE', 'x', '-', '+'],
      ['EVAL', "return {1,{2,{'a',{},{3}}},redis.error_reply('NESTED in a table')}", '0'],
      ['EVAL', "return redis.error_reply('OUTER is a failure')", '0'],
      ['LRANGE', 'none', '0', '-1'],
      ['GET', 'none'],
      ['GET', 'l'],
      ['SET', 'a', '1'],
    );
    expect(outcome).toMatchObject({
      kind: 'committed',
      replies: 8,
      errors: [
        { index: 3, error: { code: 'OUTER' } },
        { index: 6, error: { code: 'WRONGTYPE' } },
      ],
    });
    expect(await connection.call(['GET', 'a'])).toEqual(Buffer.from('1'));
    connection.close();
  });

  test('of 100,000 commands is counted right, also through packets of odd sizes', async () => {
    await using redis = await RedisServer.start();
    await using proxy = await FaultyProxy.start(redis.port);
    proxy.sliceBytes(8_191);
    const connection = await open(proxy.url);
    const commands = Array.from({ length: 100_000 }, (_, n) =>
      n % 3 === 0 ? ['SET', `k${n}`, '1'] : ['INCR', 'n'],
    );
    expect(await applied(connection, ...commands)).toEqual({
      kind: 'committed',
      errors: [],
      replies: 100_000,
    });
    connection.close();
  });
});

describe('a connection that breaks', () => {
  test.each(['after-execution', 'before-forward'] as const)(
    'rejects everything pending and sends nothing again (cut %s)',
    async (moment) => {
      await using redis = await RedisServer.start();
      await using proxy = await FaultyProxy.start(redis.port);
      const connection = await open(proxy.url);
      await connection.callMany(PRELUDE);
      proxy.cutAfter('EXEC', 'request', moment);
      const outcome = connection.execBatch([encoded(['INCR', 'n'], ['SET', CK, '1:1'])], 2);
      const prelude = connection.callMany(PRELUDE);
      expect((await lost(outcome)).sent).toBe(true);
      expect((await lost(prelude)).sent).toBe(true);
      expect(connection.closeReason).toBeInstanceOf(ConnectionLost);
      expect((await lost(connection.call(['PING']))).sent).toBe(false);
      await delay(100);
      expect([proxy.accepted, proxy.connections, proxy.cuts]).toEqual([1, 0, 1]);
      expect(await redis.client().get('n')).toBe(moment === 'after-execution' ? '1' : null);
    },
  );

  test('leaves no unhandled rejection of the calls that nobody awaits any more', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    const unhandled: unknown[] = [];
    const listener = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', listener);
    void connection.callMany(PRELUDE);
    void connection.execBatch([], 0);
    connection.close();
    await delay(10);
    process.removeListener('unhandledRejection', listener);
    expect(unhandled).toEqual([]);
  });

  test('a call that was still in memory when it broke is known not to have been sent', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url);
    const call = connection.call(['INCR', 'n']);
    connection.close();
    connection.close();
    expect((await lost(call)).sent).toBe(false);
    expect(connection.closeReason).toBeUndefined();
  });

  test('a server that stops answering costs the connection after the reply timeout of the call', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url, { replyTimeoutMs: 60_000 });
    redis.stop();
    const started = performance.now();
    const impatient = connection.call(['PING'], { timeoutMs: 50 });
    const slow = connection.call(['PING']);
    expect((await lost(impatient)).message).toContain('did not reply in time');
    expect((await lost(slow)).sent).toBe(true);
    expect(performance.now() - started).toBeLessThan(2_000);
    redis.cont();
  });

  test('what waits behind a call that may take longer is not late before that one is', async () => {
    await using redis = await RedisServer.start({ args: ['--enable-debug-command', 'yes'] });
    const connection = await open(redis.url, { replyTimeoutMs: 100 });
    const long = connection.call(['DEBUG', 'SLEEP', '0.6'], { timeoutMs: 30_000 });
    const behind = connection.call(['PING']);
    expect(await Promise.all([long, behind])).toEqual(['OK', 'PONG']);
    connection.close();
  });

  test('a reply in time keeps it open: the timeout is of a call, not of the connection', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url, { replyTimeoutMs: 80 });
    for (let round = 0; round < 6; round++) {
      expect(await connection.call(['PING'])).toBe('PONG');
      await delay(30);
    }
    connection.close();
  });

  test('a large value may take longer than the reply timeout, in both directions, as long as it moves', async () => {
    const timeoutMs = 700;
    const pieces = 24;
    const piece = Buffer.alloc(64 * 1024, 'v');
    const server = createServer({ highWaterMark: 64 * 1024 }, async (socket) => {
      socket.on('error', () => {});
      await once(socket, 'readable');
      socket.read();
      socket.write('+OK\r\n');
      // The request is taken slowly, then the reply is given slowly.
      for (let taken = 0; taken < LARGE; await delay(1_800 / (LARGE / piece.length))) {
        const bytes = socket.read() as Buffer | null;
        if (bytes === null) await once(socket, 'readable');
        else taken += bytes.length;
      }
      socket.write(`$${pieces * piece.length}\r\n`);
      for (let at = 0; at < pieces; at++) {
        socket.write(piece);
        await delay(75);
      }
      socket.write('\r\n');
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const connection = await open(`redis://127.0.0.1:${port}`, { replyTimeoutMs: timeoutMs });
    const beganMs = performance.now();
    const reply = await connection.call(['ECHO', Buffer.alloc(LARGE, 'x')]);
    expect(performance.now() - beganMs).toBeGreaterThan(3 * timeoutMs);
    expect((reply as Buffer).length).toBe(pieces * piece.length);
    connection.close();
    server.close();
  });

  test('a reply larger than the limit ends it, the same bytes skipped in a batch do not', async () => {
    await using redis = await RedisServer.start();
    const connection = await open(redis.url, { maxReplyBytes: 1_000 });
    await redis.client().set('big', 'x'.repeat(300_000));
    expect(await applied(connection, ['GET', 'big'])).toMatchObject({ kind: 'committed' });
    expect((await lost(connection.call(['GET', 'big']))).message).toContain('more than 1000 bytes');
  });
});

describe('opening', () => {
  test('authenticates, names itself and selects the database of the endpoint', async () => {
    await using redis = await RedisServer.start({ password: 'correct horse' });
    const target = endpoint(`${redis.url}/3`, { username: 'default', password: 'correct horse' });
    const connection = await Connection.open(target, {
      name: 'lane-7',
      connectTimeoutMs: 5_000,
      replyTimeoutMs: 5_000,
    });
    const info = String(await connection.call(['CLIENT', 'INFO']));
    expect(info).toContain('name=lane-7');
    expect(info).toContain('db=3');
    connection.close();
  });

  test.each([
    ['a wrong password', { password: 'hunter2' }, { password: 'right' }, 'WRONGPASS'],
    ['no password', {}, { password: 'right' }, 'NOAUTH'],
    ['a password that the server does not want', { password: 'hunter2' }, {}, 'ERR'],
  ])(
    '%s is refused with the code of the server and without the password',
    async (_, secrets, options, code) => {
      await using redis = await RedisServer.start(options);
      const opening = Connection.open(endpoint(redis.url, secrets), {
        connectTimeoutMs: 5_000,
        replyTimeoutMs: 5_000,
      });
      const error = await opening.catch((reason: unknown) => reason);
      expect(error).toMatchObject({ name: 'ReplyError', code });
      expect(JSON.stringify([String(error), error, (error as Error).stack])).not.toContain('hunter2');
    },
  );

  test('a server that quotes the arguments of AUTH does not get the password into the error', async () => {
    await using server = await saying((socket) =>
      socket.write("-ERR unknown command 'AUTH', with args: 'hunter2' \r\n+OK\r\n"),
    );
    const target = endpoint(server.url, { password: 'hunter2' });
    const opening = Connection.open(target, { connectTimeoutMs: 5_000, replyTimeoutMs: 5_000 });
    await expect(opening).rejects.toThrow(
      /^ERR redis:\/\/127.0.0.1:\d+ refused the credentials: AUTH failed$/,
    );
  });

  test('a database out of range, a refused port and a silent server are told apart', async () => {
    await using redis = await RedisServer.start();
    await expect(open(`${redis.url}/99`)).rejects.toMatchObject({ name: 'ReplyError', code: 'ERR' });
    await redis.kill();
    const refused = await lost(open(redis.url));
    expect(refused.message).toContain('ECONNREFUSED');
    expect(refused.sent).toBe(false);
    await using silent = await saying(() => {});
    await lost(open(silent.url, { connectTimeoutMs: 50 }));
    const stop = AbortSignal.timeout(20);
    await expect(open(silent.url, { signal: stop })).rejects.toBeInstanceOf(AbortedError);
  });
});

test('error replies of calls are values with the first word as code, and integers beyond 2^53 are exact', async () => {
  await using redis = await RedisServer.start();
  const connection = await open(redis.url);
  await connection.call(['SET', 'n', '9223372036854775806']);
  const [big, error, pong] = await connection.callMany([
    ['INCR', 'n'],
    ['LPUSH', 'n', Buffer.from([0, 255])],
    ['PING'],
  ]);
  expect(big).toBe(9223372036854775807n);
  expect(error).toBeInstanceOf(ReplyError);
  expect(error).toMatchObject({ code: 'WRONGTYPE' });
  expect(pong).toBe('PONG');
  connection.close();
});

test.each(['-ERR max number of clients reached\r\n', '?what\r\n', 'HTTP/1.1 400\r\n\r\n'])(
  'bytes that nothing asked for or that are no reply end the connection: %j',
  async (bytes) => {
    await using server = await saying((socket, request) => {
      socket.write(request.includes('SELECT') ? '+OK\r\n' : `+PONG\r\n${bytes}`);
    });
    const connection = await open(server.url);
    await connection.call(['PING']);
    expect(connection.closeReason?.cause).toBeInstanceOf(ProtocolError);
  },
);

interface ToldServer extends AsyncDisposable {
  readonly url: string;
}

/** For what a real server cannot be made to say. */
async function saying(onRequest: (socket: Socket, request: string) => void): Promise<ToldServer> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('data', (bytes) => onRequest(socket, bytes.toString('latin1')));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as { port: number };
  return {
    url: `redis://127.0.0.1:${address.port}`,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
