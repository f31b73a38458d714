import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { keepSecret } from './canary.ts';

const START_ATTEMPTS_MAX = 8;
const READY_MS_MAX = 15_000;
const LOG_TAIL_CHARS = 4_000;
// Below the ephemeral range of Linux (32768) and of gVisor (16000): nobody's outgoing connection can sit on the port
// while a killed server waits for its restart.
const PORT_MIN = 10_000;
// Each process has ports of its own, and none twice: a killed server's must be free when it comes back.
const PORTS_OF_A_PROCESS = 500;
const FIRST_PORT = PORT_MIN + (Number(process.env.VITEST_POOL_ID ?? process.pid) % 12) * PORTS_OF_A_PROCESS;
const held = new Set<number>();

export interface RedisServerOptions {
  /** Kept on dispose when given; otherwise a temporary directory that is removed. */
  readonly dir?: string;
  readonly port?: number;
  /** Further redis.conf arguments such as `'--appendonly', 'yes'`; they win over the defaults. */
  readonly args?: readonly string[];
  readonly password?: string;
  readonly binary?: string;
}

interface Settings {
  readonly dir: string;
  readonly ownsDir: boolean;
  readonly port: number;
  readonly args: readonly string[];
  readonly password: string | undefined;
  readonly binary: string;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A real server for one test: `await using redis = await RedisServer.start()`. */
export class RedisServer implements AsyncDisposable {
  readonly #settings: Settings;
  #child: ChildProcess | undefined;
  #exited: Promise<void> = Promise.resolve();
  #client: Redis | undefined;

  private constructor(settings: Settings) {
    this.#settings = settings;
  }

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    keepSecret(options.password);
    const dir = options.dir ?? (await mkdtemp(join(tmpdir(), 'lanegate-redis-')));
    const fixed = {
      dir,
      ownsDir: options.dir === undefined,
      args: options.args ?? [],
      password: options.password,
      binary: options.binary ?? findBinary(),
    };
    for (let attempt = 1; ; attempt++) {
      const server = new RedisServer({ ...fixed, port: options.port ?? (await freePort()) });
      try {
        await server.#spawn();
        return server;
      } catch (error) {
        // Another test may have taken the port between the probe and the server's bind.
        const lostPort = options.port === undefined && /address already in use/i.test(String(error));
        if (lostPort && attempt < START_ATTEMPTS_MAX) continue;
        if (fixed.ownsDir) await rm(dir, { recursive: true, force: true });
        throw error;
      }
    }
  }

  get port(): number {
    return this.#settings.port;
  }

  /** Without the password. */
  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  get dir(): string {
    return this.#settings.dir;
  }

  get pid(): number {
    const pid = this.#child?.pid;
    if (pid === undefined) throw new Error(`the server on port ${this.port} is not running`);
    return pid;
  }

  /** Returns when the process is gone; a no-op on a server that does not run. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#child?.kill(signal);
    // A stopped process does not act on SIGTERM before it goes on.
    if (signal !== 'SIGKILL') this.#child?.kill('SIGCONT');
    await this.#exited;
  }

  /** The same port, directory and arguments. A running server is shut down by SIGTERM; for a crash call `kill()` first. */
  async restart(): Promise<void> {
    await this.kill('SIGTERM');
    await this.#spawn();
  }

  /** SIGSTOP: connections stay open and nothing answers. */
  stop(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  cont(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  /** One cached client; closed with the server. */
  client(): Redis {
    if (this.#client === undefined) {
      const { port, password } = this.#settings;
      this.#client = new Redis({ host: '127.0.0.1', port, ...(password === undefined ? {} : { password }) });
      // Without a listener ioredis prints every refused reconnect of a test that kills the server.
      this.#client.on('error', () => {});
    }
    return this.#client;
  }

  async log(): Promise<string> {
    const text = await readFile(this.#logPath(), 'utf8').catch(() => '');
    return text.slice(-LOG_TAIL_CHARS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client?.disconnect();
    this.#client = undefined;
    await this.kill();
    held.delete(this.port);
    if (this.#settings.ownsDir) await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }

  #logPath(): string {
    return join(this.dir, `redis-${this.port}.log`);
  }

  async #spawn(): Promise<void> {
    const { command, args } = commandLine(this.#settings);
    const log = await open(this.#logPath(), 'a');
    let child: ChildProcess;
    try {
      child = spawn(command, args, { stdio: ['ignore', log.fd, log.fd] });
    } finally {
      await log.close();
    }
    this.#child = child;
    running.add(child);
    let ended: string | undefined;
    this.#exited = new Promise((resolve) => {
      const end = (how: string) => {
        ended = how;
        running.delete(child);
        if (this.#child === child) this.#child = undefined;
        resolve();
      };
      child.once('exit', (code, signal) => end(`exited with ${signal ?? `code ${code}`}`));
      child.once('error', (error) => end(error.message));
    });
    const deadline = Date.now() + READY_MS_MAX;
    while (ended === undefined && Date.now() < deadline) {
      if (await answers(this.#settings, child.pid)) return;
      await Promise.race([delay(5), this.#exited]);
    }
    const why = ended ?? `did not answer PING within ${READY_MS_MAX} ms`;
    await this.kill();
    throw new Error(
      `${this.#settings.binary} on port ${this.port} ${why}; its log ends with:\n${await this.log()}`,
    );
  }
}

function commandLine(settings: Settings): { command: string; args: string[] } {
  const { binary, port, dir, password } = settings;
  const args = [
    '--port',
    String(port),
    '--bind',
    '127.0.0.1',
    '--dir',
    dir,
    '--save',
    '',
    '--appendonly',
    'no',
  ];
  args.push('--daemonize', 'no');
  if (password !== undefined) args.push('--requirepass', password);
  args.push(...settings.args);
  // The kernel kills the server with the test process, also when that dies by SIGKILL and runs no exit handler.
  const setpriv = findOnPath('setpriv');
  return setpriv === undefined
    ? { command: binary, args }
    : { command: setpriv, args: ['--pdeathsig', 'KILL', binary, ...args] };
}

/** Ready means PONG from this very process: the port may belong to someone else's server. */
function answers(settings: Settings, pid: number | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(settings.port, '127.0.0.1');
    let text = '';
    const finish = (ready: boolean) => {
      socket.destroy();
      resolve(ready);
    };
    socket.setTimeout(1_000, () => finish(false));
    socket.on('error', () => finish(false));
    socket.on('close', () => finish(false));
    socket.on('connect', () => {
      const { password } = settings;
      const auth =
        password === undefined
          ? ''
          : `*2\r\n$4\r\nAUTH\r\n$${Buffer.byteLength(password)}\r\n${password}\r\n`;
      socket.write(`${auth}INFO server\r\nPING\r\n`);
    });
    socket.on('data', (bytes) => {
      text += bytes.toString('latin1');
      if (/^-(LOADING|NOAUTH|WRONGPASS|MASTERDOWN)/m.test(text)) finish(false);
      else if (text.includes('+PONG')) finish(text.includes(`process_id:${pid}\r\n`));
    });
  });
}

async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST_PORT + Math.floor(Math.random() * PORTS_OF_A_PROCESS);
    if (held.has(port)) continue;
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once('error', () => resolve(false));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (!free) continue;
    held.add(port);
    return port;
  }
}

function findBinary(): string {
  const binary =
    process.env.LANEGATE_REDIS_SERVER ?? findOnPath('redis-server') ?? findOnPath('valkey-server');
  if (binary === undefined) {
    throw new Error('no redis-server or valkey-server on PATH; set LANEGATE_REDIS_SERVER to one');
  }
  return binary;
}

export interface OtherServer {
  readonly kind: 'valkey' | 'redis-new';
  readonly binary: string;
}

const OTHER_SERVERS = [
  { kind: 'valkey', variable: 'LANEGATE_TEST_VALKEY', onPath: 'valkey-server' },
  { kind: 'redis-new', variable: 'LANEGATE_TEST_REDIS_NEW', onPath: undefined },
] as const;

/** Servers beside the usual one. Each variable names a binary, or several as PATH does; none: what is missing. */
export function otherServers(): { readonly found: OtherServer[]; readonly missing: string[] } {
  const found: OtherServer[] = [];
  const missing: string[] = [];
  for (const { kind, variable, onPath } of OTHER_SERVERS) {
    const named = (process.env[variable] ?? '').split(delimiter).filter((path) => path !== '');
    const fallback = onPath === undefined ? undefined : findOnPath(onPath);
    const binaries = named.length > 0 || fallback === undefined ? named : [fallback];
    for (const binary of binaries) found.push({ kind, binary });
    if (binaries.length === 0) missing.push(`${kind}: set ${variable} to a binary`);
  }
  return { found, missing };
}

function findOnPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter);
  return folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
}
