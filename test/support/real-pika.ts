import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { until } from './faults.ts';
import { pikaClient } from './pika-client.ts';

// A real Pika, where there is one: LANEGATE_TEST_PIKA names a program that is called with a port, a directory and a number
// of databases, and runs a Pika there in the foreground. Its other ports stand at fixed distances above.

export const PIKA_PROGRAM = process.env.LANEGATE_TEST_PIKA;

const OTHER_PORTS = [1_000, 2_000, 10_001];

async function freePort(): Promise<number> {
  for (;;) {
    // Above the ports of the tests' other servers, below those that connections get.
    const port = 12_000 + Math.floor(Math.random() * 8_000);
    const taken = await Promise.all([port, ...OTHER_PORTS.map((more) => port + more)].map(isTaken));
    if (!taken.includes(true)) return port;
  }
}

async function isTaken(port: number): Promise<boolean> {
  const probe = createServer();
  try {
    probe.listen(port, '127.0.0.1');
    await once(probe, 'listening');
    return false;
  } catch {
    return true;
  } finally {
    await new Promise((resolve) => probe.close(resolve));
  }
}

export class RealPika implements AsyncDisposable {
  readonly port: number;
  readonly client: Redis;
  readonly dir: string;
  readonly #databases: number;
  readonly #clients: Redis[] = [];
  #child: ChildProcess | undefined;

  private constructor(port: number, databases: number) {
    this.port = port;
    this.#databases = databases;
    this.dir = mkdtempSync(join(tmpdir(), 'lanegate-pika-'));
    this.client = this.connect();
  }

  static async start({ databases = 1 } = {}): Promise<RealPika> {
    const pika = new RealPika(await freePort(), databases);
    await pika.restart();
    return pika;
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get isRunning(): boolean {
    return this.#child !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Gone when the Pika is. */
  connect(): Redis {
    const client = pikaClient(this.port);
    this.#clients.push(client);
    return client;
  }

  async restart(): Promise<void> {
    await this.kill();
    const args = [String(this.port), this.dir, String(this.#databases)];
    this.#child = spawn(PIKA_PROGRAM as string, args, { stdio: 'ignore', detached: true });
    await until('the Pika answers', async () => (await this.client.ping()) === 'PONG');
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || !this.isRunning) return;
    const exited = once(child, 'exit');
    // A program that starts it through a shell is a group of its own.
    process.kill(-(child.pid as number), 'SIGKILL');
    await exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
