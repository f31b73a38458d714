import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { encodeCommands } from '../../src/binlog/resp.ts';
import { RedisServer } from '../support/redis-server.ts';
import type { LoggedEntry } from '../support/workload.ts';
import type { PikaOrigin } from './pika-source.ts';
import { PikaWorkload } from './pika-workload.ts';
import type { Scene } from './scene.ts';
import { ChaosWorkload } from './workload.ts';

// Whoever writes to the source: straight to it, and on after each of its restarts.

const PAUSE_MS = 25;
const AGAIN_MS = 50;

/** Makes the next bit of the load, and returns how many commands that was. */
interface Writer extends AsyncDisposable {
  write(): Promise<number>;
}

export class Feed implements AsyncDisposable {
  readonly #writer: Writer;
  #running: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  commands = 0;

  private constructor(writer: Writer) {
    this.#writer = writer;
  }

  static async create(scene: Scene, seed: number): Promise<Feed> {
    if (scene.pika) return new Feed(new PikaWriter(scene.pika, seed));
    if (scene.options.source === 'redis') return new Feed(new LiveWriter(scene.redis, seed));
    return new Feed(new StreamWriter(scene.redis, await RedisServer.start(), seed));
  }

  start(): void {
    const stop = new AbortController();
    const done = this.#run(stop.signal);
    // Its failure is for `stop` to tell.
    done.catch(() => {});
    this.#running = { stop, done };
  }

  /** Returns when all that was made is in the source. */
  async stop(): Promise<void> {
    this.#running?.stop.abort();
    await this.#running?.done;
    this.#running = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.#writer[Symbol.asyncDispose]();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.commands += await this.#writer.write();
      await delay(PAUSE_MS);
    }
  }
}

function clientOf(server: RedisServer): Redis {
  const client = new Redis(server.url, { maxRetriesPerRequest: null });
  client.on('error', () => {});
  return client;
}

class LiveWriter implements Writer {
  readonly #client: Redis;
  readonly #workload: ChaosWorkload;

  constructor(source: RedisServer, seed: number) {
    this.#client = clientOf(source);
    this.#workload = new ChaosWorkload(this.#client, seed);
  }

  async write(): Promise<number> {
    return (await this.#workload.entry())?.commands.length ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.disconnect();
  }
}

/** An entry that may have been appended is appended again under its id, which the stream takes once. */
class StreamWriter implements Writer {
  readonly #client: Redis;
  readonly #model: RedisServer;
  readonly #workload: ChaosWorkload;
  #clock = 0;

  /** `model`: out of every fault's reach, it says what commands mean. */
  constructor(source: RedisServer, model: RedisServer, seed: number) {
    this.#client = clientOf(source);
    this.#model = model;
    this.#workload = new ChaosWorkload(model.client(), seed);
  }

  async write(): Promise<number> {
    const entry = await this.#workload.entry();
    if (entry) await this.#append(entry);
    return entry?.commands.length ?? 0;
  }

  async #append({ db, timeMs, commands }: LoggedEntry): Promise<void> {
    const resp = encodeCommands(commands.map((command) => command.map((arg) => Buffer.from(arg))));
    const id = `${++this.#clock}-1`;
    for (;;) {
      try {
        await this.#client.call('XADD', 'binlog', id, 'resp', resp, 'db', String(db), 'time', String(timeMs));
        return;
      } catch (error) {
        if (/equal or smaller/.test(String(error))) return;
        if (!/LOADING|ECONN|closed|READONLY|MISCONF/.test(String(error))) throw error;
        await delay(AGAIN_MS);
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.disconnect();
    await this.#model[Symbol.asyncDispose]();
  }
}

class PikaWriter implements Writer {
  readonly #origin: PikaOrigin;
  readonly #workload: PikaWorkload;

  constructor(origin: PikaOrigin, seed: number) {
    this.#origin = origin;
    this.#workload = new PikaWorkload(origin, seed);
  }

  async write(): Promise<number> {
    return this.#origin.master.isRunning ? this.#workload.write() : 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {}
}
