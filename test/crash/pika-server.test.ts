import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import type { LoggedEntry } from '../support/workload.ts';

// The same on a real Pika, where there is one: LANEGATE_TEST_PIKA names a program that is called with a port and a
// directory and runs it in the foreground.

const PROGRAM = process.env.LANEGATE_TEST_PIKA;

/** Its other ports stand at fixed distances above. */
async function freePort(): Promise<number> {
  const probe = createServer();
  probe.listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return 10_000 + (port % 20_000);
}

class PikaServer implements AsyncDisposable {
  readonly port: number;
  readonly client: Redis;
  readonly #child: ChildProcess;
  readonly #dir: string;

  private constructor(port: number, dir: string, child: ChildProcess) {
    this.port = port;
    this.#dir = dir;
    this.#child = child;
    this.client = new Redis({ port, host: '127.0.0.1' });
    this.client.on('error', () => {});
  }

  static async start(program: string): Promise<PikaServer> {
    const dir = mkdtempSync(join(tmpdir(), 'lanegate-pika-'));
    const port = await freePort();
    const child = spawn(program, [String(port), dir], { stdio: 'ignore', detached: true });
    const server = new PikaServer(port, dir, child);
    await until('the Pika answers', async () => (await server.client.ping()) === 'PONG');
    return server;
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.client.disconnect();
    if (this.isRunning) {
      // A program that starts it through a shell is a group of its own.
      process.kill(-(this.#child.pid as number), 'SIGKILL');
      await once(this.#child, 'exit');
    }
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

test.skipIf(PROGRAM === undefined)(
  'rounds of SET, SET, FLUSHDB, SET into a real Pika, with a worker that dies at every step of a flush, end as they must',
  async () => {
    await using pika = await PikaServer.start(PROGRAM as string);
    const targetUrl = async () => `redis://127.0.0.1:${pika.port}`;
    await using pipeline = await Pipeline.start({ lanes: 3, args: ['--accept-weaker-guarantee'], targetUrl });
    const rounds = 40;
    const entries = Array.from({ length: rounds }, (_, round): LoggedEntry => {
      const before = [
        ['SET', 'key1', `a${round}`],
        ['SET', 'key1', 'b'],
        ['INCR', `n${round % 5}`],
        ['FLUSHDB'],
      ];
      const behind = [
        ['SET', 'key1', `c${round}`],
        ['INCR', 'n'],
        ['RPUSH', 'l', `${round}`],
      ];
      const more = [
        ['SADD', 'x', `${round}`],
        ['SUNIONSTORE', 'y', 'x', 'z'],
        ['SET', 'e', 'v', 'EX', '5000'],
      ];
      return { db: 0, timeMs: Date.now(), commands: [...before, ...behind, ...more] };
    });
    const feed = new Feed(pipeline, entries);
    for (const step of ['recorded', 'placed', 'fenced', 'sent', 'restored']) {
      const doomed = pipeline.worker({ failpoint: `flush-${step}=kill@2` });
      await feed.next(0.19);
      await until(`flush-${step} is reached`, () => doomed.reached.length > 0, 60_000);
      await doomed.exit();
    }
    pipeline.worker();
    await feed.rest();
    const mark = async () =>
      JSON.parse((await pika.client.get('lanegate:test:mark')) ?? '{"mark":0}').mark as number;
    const last = rounds * 10;
    await until('all of it is applied', async () => (await mark()) >= last, 120_000);
    const end = rounds - 1;
    expect(await pika.client.get('key1')).toBe(`c${end}`);
    expect(await pika.client.get('n')).toBe('1');
    expect(await pika.client.lrange('l', 0, -1)).toEqual([String(end)]);
    expect(await pika.client.smembers('y')).toEqual([String(end)]);
    expect(await pika.client.ttl('e')).toBeGreaterThan(4_000);
    const left = (await pika.client.keys('*')).filter((key) => !key.startsWith('lanegate:'));
    expect(left.sort()).toEqual(['e', 'key1', 'l', 'n', 'x', 'y']);
    expect(pika.isRunning).toBe(true);
  },
  300_000,
);
