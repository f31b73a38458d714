import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { coversPika, formatPikaPosition, positionAt } from '../../src/sources/pika/position.ts';
import { until } from './faults.ts';
import { pikaClient } from './pika-client.ts';
import type { PikaMasterOptions } from './pika-faults.ts';
import { PikaMaster } from './pika-master.ts';
import { Pipeline, type PipelineOptions } from './pipeline.ts';
import { RedisServer } from './redis-server.ts';

/** A master with data behind it, and a pipeline that follows it. */
export class PikaScene implements AsyncDisposable {
  readonly data: RedisServer;
  readonly master: PikaMaster;
  readonly pipeline: Pipeline;
  readonly #clients: Redis[] = [];

  private constructor(data: RedisServer, master: PikaMaster, pipeline: Pipeline) {
    this.data = data;
    this.master = master;
    this.pipeline = pipeline;
  }

  static async start(options: PikaMasterOptions = {}, piped: PipelineOptions = {}): Promise<PikaScene> {
    const data = await RedisServer.start();
    // A write is in the data for a while before it is in the log.
    const beforeLog = async () => {
      if (Math.random() < 0.2) await delay(Math.random() * 10);
    };
    const master = await PikaMaster.start({ windowItems: 900, beforeLog, ...options, data });
    const pipeline = await Pipeline.start({ lanes: 4, sourceUrl: master.url, ...piped });
    return new PikaScene(data, master, pipeline);
  }

  client(db = 0): Redis {
    const client = pikaClient(this.master.port, db);
    this.#clients.push(client);
    return client;
  }

  /** Directly: Pika's log knows nothing of it. */
  async populate(keys: number, db = 0): Promise<void> {
    const batch = this.data.client().pipeline().select(db);
    for (let i = 0; i < keys; i++) {
      batch.set(`string:${i}`, `value ${i}`);
      if (i % 5 === 0) batch.rpush(`list:${i}`, 'a', 'b', 'a');
      if (i % 5 === 1) batch.hset(`hash:${i}`, { a: '1', b: '2' });
      if (i % 5 === 2) batch.sadd(`set:${i}`, 'a', 'b');
      if (i % 5 === 3) batch.zadd(`zset:${i}`, 1.1, 'a', -3, 'b');
      if (i % 5 === 4) batch.xadd(`stream:${i}`, '*', 'a', '1');
      if (i % 7 === 0) batch.pexpireat(`string:${i}`, Date.now() + 3_600_000 + i);
    }
    await batch.select(0).exec();
  }

  async position(): Promise<string> {
    const text = await this.pipeline.target.client().get('lanegate:test:mark');
    return text === null ? '' : (JSON.parse(text) as { position: string }).position;
  }

  async isCopied(): Promise<boolean> {
    const position = await this.position();
    return position !== '' && !position.startsWith('copy');
  }

  async copies(): Promise<void> {
    await until('it copies', async () => /^copy:.*:[1-9]/.test(await this.position()), 60_000).catch(
      this.#why,
    );
  }

  async caughtUp(): Promise<void> {
    const isApplied = async () => {
      if (!(await this.isCopied())) return false;
      const head = formatPikaPosition(
        positionAt('', new Map([...this.master.logs].map(([db, { end }]) => [db, end]))),
      );
      return coversPika(await this.position(), head);
    };
    await until('the log is applied', isApplied, 60_000).catch(this.#why);
  }

  async generation(): Promise<number> {
    const text = await this.pipeline.target.client().get('lanegate:test:identity');
    return Number.parseInt((JSON.parse(text ?? '') as { generation: string }).generation, 10);
  }

  #why = (cause: unknown): never => {
    throw new Error(`it does not end\n${this.pipeline.logs()}`, { cause });
  };

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    await this.pipeline[Symbol.asyncDispose]();
    await this.master[Symbol.asyncDispose]();
    await this.data[Symbol.asyncDispose]();
  }
}

export interface PikaLoad {
  /** Commands that were run. */
  readonly count: () => number;
  stop(): Promise<void>;
}

/** Clients that write until they are stopped. `renames`: no Pika knows RENAME, but a later one may. */
export function pikaLoad(
  scene: PikaScene,
  {
    db = 0,
    keys = 40,
    flushes = true,
    clients = 6,
    pauseMs = 4,
    renames = true,
    also = [] as readonly string[][],
  } = {},
): PikaLoad {
  let isOver = false;
  let count = 0;
  const pick = (of: number) => Math.floor(Math.random() * of);
  const command = (): string[] => {
    const i = pick(keys);
    const all = [
      ['INCR', `count:${i}`],
      ['APPEND', `text:${i}`, `${count},`],
      ['APPEND', `string:${pick(400)}`, '+'],
      ['RPUSH', `list:${i}`, String(count)],
      ['RPUSH', 'hot', String(count)],
      ['HINCRBY', `hash:${i}`, 'a', '1'],
      ['ZINCRBY', `zset:${i}`, '2', 'a'],
      ['LPOP', `list:${i}`],
      ['DEL', `list:${pick(keys)}`],
      ...(renames ? [['RENAME', `text:${i}`, `text:${pick(keys)}`]] : []),
      ['XADD', `stream:${i}`, '*', 'n', String(count)],
      ['PSETEX', `brief:${i}`, '700000', String(count)],
      ...also,
    ];
    return all[pick(all.length)] as string[];
  };
  const write = async () => {
    const client = scene.client(db);
    while (!isOver) {
      const [name = '', ...args] = command();
      // A key that is of another type, or not there, by the load itself.
      await client.call(name, ...args).catch((error: Error) => {
        if (!/WRONGTYPE|no such key|not an integer/.test(error.message) && !isOver) throw error;
      });
      count++;
      if (pauseMs > 0) await delay(pauseMs);
      if (flushes && count % 900 === 899) await client.call('FLUSHDB');
    }
  };
  const writers = Array.from({ length: clients }, write);
  // A test that fails ends the connections first.
  for (const writer of writers) writer.catch(() => {});
  return {
    count: () => count,
    async stop() {
      isOver = true;
      await Promise.all(writers);
    },
  };
}
