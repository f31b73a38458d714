import { type ChildProcess, execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { describe, expect, test } from 'vitest';
import { EmbeddedQueue } from '../../src/roles/embedded-queue.ts';
import type { Endpoint } from '../../src/runtime/endpoint.ts';
import { everyCase } from '../support/cases.ts';

const log = pino({ level: 'silent' });
const CHILD = fileURLToPath(new URL('../support/embedded-queue-child.ts', import.meta.url));

interface ChildMessage {
  readonly event: 'started' | 'failed' | 'interrupted';
  readonly adopted?: boolean;
  readonly port?: number;
  readonly code?: string;
}

class Starter implements AsyncDisposable {
  readonly process: ChildProcess;

  constructor(dataDir: string) {
    // Detached: a process group of its own, so that a test can signal the group as a terminal's Ctrl-C does.
    this.process = fork(CHILD, [dataDir], { detached: true, execArgv: ['--import', 'tsx'] });
  }

  async message(): Promise<ChildMessage> {
    const [message] = await once(this.process, 'message', { signal: AbortSignal.timeout(20_000) });
    return message as ChildMessage;
  }

  async kill(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const exit = once(this.process, 'exit');
    this.process.kill('SIGKILL');
    await exit;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

class DataDir implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<DataDir> {
    return new DataDir(await mkdtemp(join(tmpdir(), 'lanegate-data-')));
  }

  record(): { pid: number; port: number; password: string; startedAt: number } {
    return JSON.parse(readFileSync(join(this.path, 'queue.json'), 'utf8'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      process.kill(this.record().pid, 'SIGKILL');
    } catch {
      // Stopped by the test.
    }
    await rm(this.path, { recursive: true, force: true, maxRetries: 5 });
  }
}

async function ask<Answer>(
  endpoint: Endpoint,
  question: (client: Redis) => Promise<Answer>,
): Promise<Answer> {
  const client = new Redis({ host: endpoint.host, port: endpoint.port, password: endpoint.password ?? '' });
  // A wrong password is reported by the question's own rejection.
  client.on('error', () => {});
  try {
    return await question(client);
  } finally {
    client.disconnect();
  }
}

function alive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

describe('the embedded queue server', () => {
  test('runs with an AOF, without eviction, on loopback, behind a password that stands in no argument', async () => {
    await using data = await DataDir.create();
    const queue = await EmbeddedQueue.start({ dataDir: data.path, log });
    const { pid, password } = data.record();
    const config = await ask(queue.endpoint, async (client) => [
      await client.config('GET', 'appendonly'),
      await client.config('GET', 'appendfsync'),
      await client.config('GET', 'maxmemory-policy'),
      await client.config('GET', 'save'),
      await client.config('GET', 'bind'),
    ]);
    expect(JSON.stringify(config)).toMatch(/yes.*everysec.*noeviction.*127\.0\.0\.1/);
    expect(password.length).toBeGreaterThan(40);
    expect(queue.endpoint.display).not.toContain(password);
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8')).not.toContain(password);
    expect(execFileSync('ps', ['axww', '-o', 'args'], { encoding: 'utf8' })).not.toContain(password);
    for (const file of ['queue.json', 'queue.conf', 'run.pid']) {
      expect(statSync(join(data.path, file)).mode & 0o777, file).toBe(0o600);
    }
    await expect(ask({ ...queue.endpoint, password: 'wrong' }, (client) => client.ping())).rejects.toThrow(
      /WRONGPASS/,
    );
    await queue.stop();
    await queue.stop();
    expect(alive(pid)).toBe(false);
    expect((await readdir(data.path)).sort()).toEqual(['queue', 'queue.log']);
  });

  test('keeps its data over a clean stop', async () => {
    await using data = await DataDir.create();
    const first = await EmbeddedQueue.start({ dataDir: data.path, log });
    await ask(first.endpoint, (client) => client.set('journal', 'kept'));
    await first.stop();
    const second = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(second.adopted).toBe(false);
    expect(await ask(second.endpoint, (client) => client.get('journal'))).toBe('kept');
    await second.stop();
  });

  test('is adopted with its data by the next run after the starter was killed', async () => {
    await using data = await DataDir.create();
    await using starter = new Starter(data.path);
    expect(await starter.message()).toMatchObject({ event: 'started', adopted: false });
    const found = await EmbeddedQueue.find(data.path);
    expect(found).toBeDefined();
    await ask(found as Endpoint, (client) => client.set('journal', 'kept'));
    const { pid } = data.record();
    await starter.kill();

    const next = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(next.adopted).toBe(true);
    expect(next.endpoint).toEqual(found);
    expect(await ask(next.endpoint, (client) => client.get('journal'))).toBe('kept');
    expect(data.record().pid).toBe(pid);
    await next.stop();
    expect(alive(pid)).toBe(false);
  });

  test('is adopted when the starter died before it could write down the pid', async () => {
    await using data = await DataDir.create();
    await using starter = new Starter(data.path);
    await starter.message();
    await starter.kill();
    const record = data.record();
    writeFileSync(join(data.path, 'queue.json'), JSON.stringify({ ...record, pid: null, startTime: null }));
    const next = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(next.adopted).toBe(true);
    expect(data.record().pid).toBe(record.pid);
    await next.stop();
  });

  test('is started anew on the same AOF when the recorded one is dead', async () => {
    await using data = await DataDir.create();
    await using starter = new Starter(data.path);
    await starter.message();
    const old = data.record();
    await ask((await EmbeddedQueue.find(data.path)) as Endpoint, (client) => client.set('journal', 'kept'));
    // No wait for the fsync: Redis hands the AOF to the kernel before it replies, and the kernel survives.
    await starter.kill();
    process.kill(old.pid, 'SIGKILL');
    await expect.poll(() => alive(old.pid)).toBe(false);
    expect(await EmbeddedQueue.find(data.path)).toBeUndefined();

    const next = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(next.adopted).toBe(false);
    expect(data.record().password).not.toBe(old.password);
    expect(await ask(next.endpoint, (client) => client.get('journal'))).toBe('kept');
    await next.stop();
  });

  test('a record whose pid now belongs to another process is not taken for a live server', async () => {
    await using data = await DataDir.create();
    const record = { pid: process.pid, startTime: 'another boot:1', port: 1, password: 'x', startedAt: 0 };
    writeFileSync(join(data.path, 'queue.json'), JSON.stringify(record));
    writeFileSync(join(data.path, 'run.pid'), JSON.stringify(record));
    const queue = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(queue.adopted).toBe(false);
    await queue.stop();
  });

  test('a second live run is refused and named, and the first goes on', async () => {
    await using data = await DataDir.create();
    await using starter = new Starter(data.path);
    await starter.message();
    await expect(EmbeddedQueue.start({ dataDir: data.path, log })).rejects.toMatchObject({
      code: 'ALREADY_RUNNING',
      message: expect.stringContaining(String(starter.process.pid)),
    });
    expect(await EmbeddedQueue.find(data.path)).toBeDefined();
    starter.process.send('stop');
    await once(starter.process, 'exit');
    const after = await EmbeddedQueue.start({ dataDir: data.path, log });
    expect(after.adopted).toBe(false);
    await after.stop();
  });

  everyCase('of several runs that find a dead one at once, one takes its place', async () => {
    await using data = await DataDir.create();
    await using dead = new Starter(data.path);
    await dead.message();
    await dead.kill();
    const starters = Array.from({ length: 4 }, () => new Starter(data.path));
    await using _cleanup = {
      [Symbol.asyncDispose]: async () => void (await Promise.all(starters.map((s) => s.kill()))),
    };
    const messages = await Promise.all(starters.map((starter) => starter.message()));
    expect(messages.filter(({ event }) => event === 'started')).toMatchObject([{ adopted: true }]);
    expect(messages.filter(({ code }) => code === 'ALREADY_RUNNING')).toHaveLength(3);
  });

  test('Ctrl-C at the starter does not reach it', async () => {
    await using data = await DataDir.create();
    await using starter = new Starter(data.path);
    await starter.message();
    const interrupted = starter.message();
    process.kill(-(starter.process.pid as number), 'SIGINT');
    expect(await interrupted).toMatchObject({ event: 'interrupted' });
    await delay(100);
    expect(await EmbeddedQueue.find(data.path)).toBeDefined();
    starter.process.send('stop');
    await once(starter.process, 'exit');
    expect(await EmbeddedQueue.find(data.path)).toBeUndefined();
  });

  test('says how to get a server when there is none, and lets go of the lock', async () => {
    await using data = await DataDir.create();
    for (const env of [
      { PATH: data.path },
      { LANEGATE_REDIS_SERVER: '/nowhere/redis-server', PATH: process.env.PATH },
    ]) {
      await expect(EmbeddedQueue.start({ dataDir: data.path, log, env })).rejects.toMatchObject({
        code: 'NO_REDIS_SERVER',
        hint: expect.stringContaining('apt-get install'),
      });
    }
    expect(await readdir(data.path)).toEqual([]);
  });

  test('refuses a server below 6.2 and shows the log of one that does not start', async () => {
    await using data = await DataDir.create();
    const fake = join(data.path, 'redis-server');
    const start = (version: string) => {
      const script = `#!/bin/sh\n[ "$1" = --version ] && echo "Redis server v=${version} sha=0" || { echo boom; exit 1; }\n`;
      writeFileSync(fake, script, { mode: 0o755 });
      return EmbeddedQueue.start({ dataDir: data.path, log, env: { LANEGATE_REDIS_SERVER: fake } });
    };
    await expect(start('6.0.16')).rejects.toMatchObject({ code: 'REDIS_SERVER_TOO_OLD' });
    await expect(start('7.2.4')).rejects.toMatchObject({
      code: 'QUEUE_NOT_STARTED',
      message: expect.stringContaining('boom'),
    });
  });
});
