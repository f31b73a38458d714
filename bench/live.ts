// A running server as source, what loads it, and a replica of its own kind to set against lanegate.

import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { encodeCommand } from '../src/binlog/resp.ts';
import { coversPlace, formatStream } from '../src/sources/redis-link/position.ts';
import { RedisServer } from '../test/support/redis-server.ts';
import { randomFrom } from './figures.ts';
import type { Pipeline } from './pipeline.ts';
import { cpuUs, peakRssBytes } from './processes.ts';
import type { Bench } from './support.ts';

/** A replica may fall behind by what is written while it is stopped, and none waits for others to come. */
const SOURCE_ARGS = [
  ...['--repl-diskless-sync', 'yes', '--repl-diskless-sync-delay', '0'],
  ...['--repl-backlog-size', '1gb', '--client-output-buffer-limit', 'replica', '0', '0', '0'],
];
const VALUE_BYTES = 100;
/** Values are slices of it: no two near ones are alike, and none can be compressed. */
const NOISE_BYTES = 64 * 1024;
const KEYS_PER_WRITE = 1_000;
const SEED = 20_240_602;
const POLL_MS = 10;
const ATTACH_MS_MAX = 60_000;
const SAMPLE_KEYS = 200;

export class LiveSource implements AsyncDisposable {
  readonly server: RedisServer;

  private constructor(server: RedisServer) {
    this.server = server;
  }

  static async start(): Promise<LiveSource> {
    return new LiveSource(await RedisServer.start({ args: SOURCE_ARGS }));
  }

  /** Empties the target; no worker runs yet. */
  async pipeline(bench: Bench, what: string): Promise<Pipeline> {
    await bench.target.client().flushall('SYNC');
    return bench.pipelineFrom({
      key: what,
      source: this.server,
      sourceUrl: this.server.url,
      coversSource: async (position) => coversPlace(position, await this.#head()),
    });
  }

  async native(): Promise<NativeReplica> {
    return new NativeReplica(this, await RedisServer.start());
  }

  /** `keys` keys with a value of 100 bytes each, whatever was there before. */
  async fill(keys: number): Promise<void> {
    await this.server.client().flushall('SYNC');
    const random = randomFrom(SEED);
    const noise = Buffer.from(Uint8Array.from({ length: NOISE_BYTES }, () => random() * 256));
    const socket = connect(this.server.port, '127.0.0.1');
    await once(socket, 'connect');
    let answered = 0;
    const allAnswered = new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('data', (bytes) => {
        answered += bytes.length;
        if (answered >= keys * '+OK\r\n'.length) resolve();
      });
    });
    for (let from = 0; from < keys; from += KEYS_PER_WRITE) {
      const count = Math.min(KEYS_PER_WRITE, keys - from);
      if (!socket.write(setsOf(from, count, noise))) await once(socket, 'drain');
    }
    await allAnswered;
    socket.destroy();
  }

  keys(): Promise<number> {
    return this.server.client().dbsize();
  }

  /** As many keys on both sides, and a sample of them alike. `pipeline` has applied everything. */
  async check(pipeline: Pipeline): Promise<void> {
    await pipeline.check(await this.keys());
    const [source, target] = [this.server.client(), pipeline.target.client()];
    for (let i = 0; i < SAMPLE_KEYS; i++) {
      const key = await source.randomkey();
      if (key === null) return;
      const [here, there] = await Promise.all([source.getBuffer(key), target.getBuffer(key)]);
      if (here === null || there === null || !here.equals(there))
        throw new Error(`${pipeline.key}: the target has another value of ${key} than the source`);
    }
  }

  /** Where a reader of the replication link is that has read everything. */
  async #head(): Promise<string> {
    const { replid, offset } = await this.offset();
    return formatStream({ replid, offset }, 0);
  }

  async offset(): Promise<{ replid: string; offset: number }> {
    const info = await this.server.client().info('replication');
    return {
      replid: field(info, 'master_replid'),
      offset: Number(field(info, 'master_repl_offset')),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}

/** What REPLICAOF does: the same server program as the source. */
export class NativeReplica implements AsyncDisposable {
  readonly server: RedisServer;
  readonly #source: LiveSource;

  constructor(source: LiveSource, server: RedisServer) {
    this.#source = source;
    this.server = server;
  }

  /** Resolves when its full sync is over. */
  async attach(): Promise<void> {
    await this.server.client().replicaof('127.0.0.1', this.#source.server.port);
    await this.untilCaughtUp();
  }

  /** Everything that the source has now is applied here. */
  async untilCaughtUp(): Promise<void> {
    const lateMs = performance.now() + ATTACH_MS_MAX;
    for (;;) {
      const { offset } = await this.#source.offset();
      const info = await this.server.client().info('replication');
      const isUp = field(info, 'master_link_status') === 'up';
      if (isUp && Number(field(info, 'slave_repl_offset')) >= offset) return;
      if (performance.now() > lateMs) throw new Error(`the native replica does not catch up:\n${info}`);
      await delay(POLL_MS);
    }
  }

  async check(): Promise<void> {
    const [here, there] = await Promise.all([this.#source.keys(), this.server.client().dbsize()]);
    if (here !== there) throw new Error(`native replica: ${there} keys, not ${here}`);
  }

  cpu(): Readonly<Record<string, number>> {
    const source = cpuUs(this.#source.server.pid);
    const target = cpuUs(this.server.pid).own;
    return { target, source: source.own, "source's snapshot": source.children };
  }

  memory(): Readonly<Record<string, number>> {
    return { target: peakRssBytes(this.server.pid) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server[Symbol.asyncDispose]();
  }
}

/** SETs that a server has run. */
export async function setsRun(server: RedisServer): Promise<number> {
  const stats = await server.client().info('commandstats');
  return Number(/^cmdstat_set:calls=(\d+)/m.exec(stats)?.[1] ?? 0);
}

function setsOf(from: number, count: number, noise: Buffer): Buffer {
  const sets: Buffer[] = [];
  for (let i = from; i < from + count; i++) {
    const at = (i * 7) % (NOISE_BYTES - VALUE_BYTES);
    const value = noise.subarray(at, at + VALUE_BYTES);
    sets.push(encodeCommand(['SET', `key:${String(i).padStart(12, '0')}`, value]));
  }
  return Buffer.concat(sets);
}

function field(info: string, name: string): string {
  const found = new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1];
  if (found === undefined) throw new Error(`INFO replication has no ${name}`);
  return found;
}
