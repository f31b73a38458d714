import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { encodeCommands } from '../../src/binlog/resp.ts';
import { RedisServer } from '../support/redis-server.ts';
import type { LoggedEntry } from '../support/workload.ts';
import type { Scene } from './scene.ts';
import { ChaosWorkload } from './workload.ts';

// Whoever writes to the source: straight to it, and on after each of its restarts. An entry that may have been appended
// is appended again under its id, which the stream takes once.

const PAUSE_MS = 25;
const AGAIN_MS = 50;

export class Feed implements AsyncDisposable {
  readonly #scene: Scene;
  readonly #client: Redis;
  /** Where the source is a stream, a server that is out of every fault's reach says what commands mean. */
  readonly #model: RedisServer | undefined;
  readonly #workload: ChaosWorkload;
  #running: { readonly stop: AbortController; readonly done: Promise<void> } | undefined;
  #clock = 0;
  commands = 0;

  private constructor(scene: Scene, model: RedisServer | undefined, seed: number) {
    this.#scene = scene;
    this.#model = model;
    this.#client = new Redis(scene.source.url, { maxRetriesPerRequest: null });
    this.#client.on('error', () => {});
    this.#workload = new ChaosWorkload(model?.client() ?? this.#client, seed);
  }

  static async create(scene: Scene, seed: number): Promise<Feed> {
    const model = scene.options.source === 'redis-stream' ? await RedisServer.start() : undefined;
    return new Feed(scene, model, seed);
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
    this.#client.disconnect();
    await this.#model?.[Symbol.asyncDispose]();
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const entry = await this.#workload.entry();
      if (entry && this.#scene.options.source === 'redis-stream') await this.#append(entry);
      this.commands += entry?.commands.length ?? 0;
      await delay(PAUSE_MS);
    }
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
}
