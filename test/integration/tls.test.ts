import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer, type TLSSocket } from 'node:tls';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate, spawnLanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { RedisServer } from '../support/redis-server.ts';

// Real servers that speak TLS and want a client certificate, signed by an authority that only we know.

const run = promisify(execFile);
const ROLES = ['SOURCE', 'TARGET', 'QUEUE'] as const;

/** An authority with one certificate for 127.0.0.1 and one for clients. */
class Authority {
  readonly #folder: string;
  readonly #name: string;

  private constructor(folder: string, name: string) {
    this.#folder = folder;
    this.#name = name;
  }

  static async create(folder: string, name: string): Promise<Authority> {
    const made = new Authority(folder, name);
    const subject = ['-subj', `/CN=${name}`, '-days', '2'];
    await made.#openssl('req', '-x509', ...made.#newKey('ca'), '-out', made.file('ca.crt'), ...subject);
    await made.#sign('server', 'subjectAltName=IP:127.0.0.1,DNS:redis.test');
    await made.#sign('client', 'extendedKeyUsage=clientAuth');
    await made.#sign('expired', 'subjectAltName=IP:127.0.0.1', -1);
    return made;
  }

  file(name: string): string {
    return join(this.#folder, `${this.#name}-${name}`);
  }

  async #sign(who: string, extension: string, days = 2): Promise<void> {
    const extensions = this.file(`${who}.ext`);
    await writeFile(extensions, `${extension}\n`);
    const request = this.file(`${who}.csr`);
    await this.#openssl('req', ...this.#newKey(who), '-out', request, '-subj', `/CN=${who}`);
    const signer = ['-CA', this.file('ca.crt'), '-CAkey', this.file('ca.key'), '-CAcreateserial'];
    const out = ['-out', this.file(`${who}.crt`), '-days', `${days}`, '-extfile', extensions];
    await this.#openssl('x509', '-req', '-in', request, ...signer, ...out);
  }

  #newKey(who: string): string[] {
    return ['-newkey', 'rsa:2048', '-nodes', '-keyout', this.file(`${who}.key`)];
  }

  async #openssl(...args: string[]): Promise<void> {
    await run('openssl', args);
  }
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = 10_000 + Math.floor(Math.random() * 6_000);
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer().once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

/**
 * Passes on what is said to a server, and breaks its nth connection in the middle of a record: behind so many bytes of the
 * server's. `plain`: what came and is no TLS.
 */
class Breaker implements AsyncDisposable {
  readonly #server = createServer((client) => this.#accept(client));
  readonly #port: number;
  readonly #after: readonly number[];
  breaks = 0;
  plain = 0;
  #accepted = 0;

  constructor(port: number, after: readonly number[]) {
    this.#port = port;
    this.#after = after;
  }

  async listen(): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return (this.#server.address() as { port: number }).port;
  }

  #accept(client: Socket): void {
    const server = connect(this.#port, '127.0.0.1');
    let left = this.#after[this.#accepted++] ?? Infinity;
    const end = () => {
      client.destroy();
      server.destroy();
    };
    for (const socket of [client, server]) socket.on('error', end).on('close', end);
    client.once('data', (bytes) => {
      if (bytes[0] !== 0x16) this.plain++;
    });
    client.pipe(server);
    server.on('data', (bytes) => {
      client.write(bytes.subarray(0, left));
      left -= bytes.length;
      if (left > 0) return;
      left = Infinity;
      this.breaks++;
      client.end();
      server.destroy();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
  }
}

describe('TLS', () => {
  let folder = '';
  let ours: Authority;
  let other: Authority;
  const servers: RedisServer[] = [];
  const env: Record<string, string> = {};

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'lanegate-tls-'));
    [ours, other] = await Promise.all([Authority.create(folder, 'ours'), Authority.create(folder, 'other')]);
    for (const role of ROLES) {
      const port = await freePort();
      const files = ['--tls-cert-file', ours.file('server.crt'), '--tls-key-file', ours.file('server.key')];
      const tls = ['--tls-port', `${port}`, ...files, '--tls-ca-cert-file', ours.file('ca.crt')];
      const args = [
        ...tls,
        '--tls-auth-clients',
        'yes',
        '--appendonly',
        'yes',
        '--repl-diskless-sync-delay',
        '0',
      ];
      servers.push(await RedisServer.start({ args }));
      const [scheme, query] = role === 'SOURCE' ? ['rediss-stream', '?key=binlog'] : ['rediss', ''];
      env[`LANEGATE_${role}`] = `${scheme}://127.0.0.1:${port}${query}`;
      env[`LANEGATE_${role}_TLS_CA`] = ours.file('ca.crt');
      env[`LANEGATE_${role}_TLS_CERT`] = ours.file('client.crt');
      env[`LANEGATE_${role}_TLS_KEY`] = ours.file('client.key');
    }
  });

  afterAll(async () => {
    for (const server of servers) await server[Symbol.asyncDispose]();
    await rm(folder, { recursive: true, force: true });
  });

  const findings = async (changes: Record<string, string>) => {
    const { code, stdout } = await lanegate(['check', '--json'], { env: { ...env, ...changes } });
    const all = JSON.parse(stdout) as { level: string; what: string; text: string; hint: string }[];
    return { code, errors: all.filter(({ level }) => level === 'error') };
  };

  test('at all three servers, with client certificates: a binlog goes through, gates too', async () => {
    await using worker = spawnLanegate(['worker', '--lanes', '4'], { env });
    await worker.waitForLine(/ingest begins/);
    const input = 'SET a 1\nSET b 1\nRENAME a c\nFLUSHDB\nSET key1 a3\n';
    expect(await lanegate(['append'], { env, input })).toMatchObject({ code: 0, stderr: '' });
    expect(await lanegate(['status', '--wait', '--timeout', '30'], { env })).toMatchObject({ code: 0 });
    expect(await servers[1]?.client().get('key1')).toBe('a3');
    expect(await servers[1]?.client().exists('a', 'b', 'c')).toBe(0);
    expect(await findings({})).toEqual({ code: 0, errors: [] });
    expect((await worker.kill('SIGTERM')).code).toBe(0);
    expect(`${worker.stdout}${worker.stderr}`).not.toContain('PRIVATE KEY');
  });

  test.each(ROLES)(
    'an authority that did not sign the certificate of the %s is refused, with the reason',
    async (role) => {
      const what = role.toLowerCase();
      const { code, errors } = await findings({ [`LANEGATE_${role}_TLS_CA`]: other.file('ca.crt') });
      expect(code).toBe(1);
      expect(errors).toContainEqual({
        level: 'error',
        what,
        text: expect.stringMatching(/certificate/),
        hint: `name the authority that signed its certificate: --${what}-tls-ca FILE`,
        ...(role === 'SOURCE' ? { passes: true } : {}),
      });
    },
  );

  test('a name that the certificate does not carry is refused, one that it carries is taken', async () => {
    const named = (name: string) => findings({ LANEGATE_TARGET_TLS_SERVER_NAME: name });
    expect(await named('redis.test')).toEqual({ code: 0, errors: [] });
    const { code, errors } = await named('stranger.test');
    expect([code, errors[0]?.hint]).toEqual([1, expect.stringContaining('--target-tls-server-name')]);
  });

  test.each(ROLES)('an expired certificate of the %s is refused, with the reason', async (role) => {
    const files = {
      cert: await readFile(ours.file('expired.crt')),
      key: await readFile(ours.file('expired.key')),
    };
    const server = createTlsServer(files, (socket) => socket.on('error', () => {}));
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const url = String(env[`LANEGATE_${role}`]).replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`);
    const { code, errors } = await findings({ [`LANEGATE_${role}`]: url });
    await new Promise((resolve) => server.close(resolve));
    const told = errors.find(({ what }) => what === role.toLowerCase());
    expect([code, told?.text]).toEqual([1, expect.stringMatching(/certificate has expired/)]);
  });

  everyCase(
    'a connection that breaks inside a record is opened again, over TLS, and nothing is applied twice',
    async () => {
      const tlsPort = Number(/:(\d+)$/.exec(String(env.LANEGATE_TARGET))?.[1]);
      // Inside the handshake, inside the first replies, and later on.
      await using breaker = new Breaker(tlsPort, [700, 3_000, 2_600, 2_800, 3_500, 5_000, 9_000]);
      const port = await breaker.listen();
      const changed = {
        ...env,
        LANEGATE_NAME: 'broken',
        LANEGATE_SOURCE: String(env.LANEGATE_SOURCE).replace('binlog', 'broken'),
        LANEGATE_TARGET: `rediss://127.0.0.1:${port}`,
        LANEGATE_TARGET_DATA: 'replace',
        LANEGATE_WATCHDOG_MS: '300',
        LANEGATE_CHUNK_BYTES: '4096',
      };
      await using worker = spawnLanegate(['worker', '--lanes', '2'], { env: changed });
      const pushed: string[] = [];
      const push = async () => {
        pushed.push(`element ${pushed.length}`);
        const argv = JSON.stringify(['RPUSH', 'list', pushed.at(-1)]);
        await servers[0]?.client().call('XADD', 'broken', '*', 'argv', argv);
      };
      await until('it broke again and again', async () => {
        await push();
        return breaker.breaks >= 7;
      }).catch((cause) => {
        throw new Error(`${breaker.breaks} breaks\n${worker.stderr.slice(-3_000)}`, { cause });
      });
      await push();
      expect(await lanegate(['status', '--wait', '--timeout', '40'], { env: changed })).toMatchObject({
        code: 0,
      });
      expect(await servers[1]?.client().lrange('list', 0, -1)).toEqual(pushed);
      expect(breaker.plain).toBe(0);
      expect((await worker.kill('SIGTERM')).code).toBe(0);
    },
  );

  test('a live source is copied and followed over TLS, with a client certificate', async () => {
    const [source, target] = servers as [RedisServer, RedisServer];
    await target.client().flushall();
    await source.client().mset('copied', '1', 'also', '2');
    const live = {
      ...env,
      LANEGATE_NAME: 'live',
      LANEGATE_SOURCE: String(env.LANEGATE_SOURCE)
        .replace('rediss-stream', 'rediss')
        .replace('?key=binlog', ''),
      LANEGATE_DATA_DIR: join(folder, 'live'),
    };
    await using worker = spawnLanegate(['worker', '--lanes', '2'], { env: live });
    const copied = async () => (await target.client().exists('copied', 'also')) === 2;
    await until('the copy is there', copied, 40_000).catch((cause) => {
      throw new Error(worker.stderr.slice(-3_000), { cause });
    });
    await source.client().set('followed', '1');
    await until('the rest follows', async () => (await target.client().exists('followed')) === 1);
    expect((await worker.kill('SIGTERM')).code).toBe(0);
    const refused = await findings({
      ...live,
      LANEGATE_SOURCE_TLS_CA: other.file('ca.crt'),
      LANEGATE_TARGET_DATA: 'keep',
    });
    expect(refused.errors.map(({ what, text }) => [what, text])).toEqual([
      ['source', expect.stringMatching(/certificate/)],
    ]);
  });

  test.each(ROLES)('the %s is told by SNI whom we want to talk to', async (role) => {
    const names: (string | false | undefined)[] = [];
    const files = {
      cert: await readFile(ours.file('server.crt')),
      key: await readFile(ours.file('server.key')),
    };
    const recorder = createTlsServer(files, (socket) => {
      names.push((socket as TLSSocket & { servername?: string }).servername);
      socket.on('error', () => {});
      socket.destroy();
    });
    await new Promise<void>((resolve) => recorder.listen(0, '127.0.0.1', resolve));
    const { port } = recorder.address() as { port: number };
    const url = String(env[`LANEGATE_${role}`]).replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`);
    await findings({ [`LANEGATE_${role}`]: url, [`LANEGATE_${role}_TLS_SERVER_NAME`]: 'redis.test' });
    await new Promise((resolve) => recorder.close(resolve));
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names)).toEqual(new Set(['redis.test']));
  });

  test('a server that wants a certificate and gets none, or gets no TLS at all, says so', async () => {
    const none = await findings({ LANEGATE_TARGET_TLS_CERT: '', LANEGATE_TARGET_TLS_KEY: '' });
    expect([none.code, none.errors[0]?.hint]).toEqual([1, expect.stringContaining('--target-tls-cert FILE')]);
    const plain = await findings({ LANEGATE_TARGET: `rediss://127.0.0.1:${servers[1]?.port}` });
    expect([plain.code, plain.errors[0]?.hint]).toEqual([
      1,
      expect.stringContaining('whether this port speaks TLS'),
    ]);
  });
});
