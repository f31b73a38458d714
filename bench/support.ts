// The servers of a run, and how a pipeline comes to them.

import { RedisServer } from '../test/support/redis-server.ts';
import { Pipeline, type PipelineOptions } from './pipeline.ts';

export const NAME = 'bench';
export const LANES = 8;
export const KEYSPACE = 1_000_000;

/** As compose.yaml and the embedded queue server have it. */
const QUEUE_ARGS = [
  ...['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'],
  ...['--auto-aof-rewrite-min-size', '512mb'],
];

export interface Settings {
  readonly runs: number;
  /** Of the drain and of the ceiling; the mixes take a quarter. */
  readonly commands: number;
  /** For an experiment: further arguments of the workers' Node and of `lanegate worker`. */
  readonly nodeArgs: readonly string[];
  readonly workerArgs: readonly string[];
}

/** A stream that is filled and waits to be drained. */
export interface Filled {
  readonly key: string;
  /** Raw commands: the seq that the journal's head ends at. */
  readonly seqs: number;
  /** Commands that change data: SELECT, MULTI and EXEC are not counted. */
  readonly commands: number;
  /** Keys that the target holds at the end; undefined where that is not checked. */
  readonly keys: number | undefined;
  /** Bytes of RESP. */
  readonly bytes: number;
}

type Changes = Partial<Pick<PipelineOptions, 'name' | 'lanes' | 'queue' | 'target'>>;

/** Source and target live as long as the run; a queue server only as long as one measurement. */
export class Bench implements AsyncDisposable {
  readonly settings: Settings;
  readonly source: RedisServer;
  readonly target: RedisServer;

  private constructor(settings: Settings, source: RedisServer, target: RedisServer) {
    this.settings = settings;
    this.source = source;
    this.target = target;
  }

  static async start(settings: Settings): Promise<Bench> {
    const source = await RedisServer.start();
    return new Bench(settings, source, await RedisServer.start());
  }

  /** Empties the target and forgets at the source that `key` was ever read. */
  async reset(key: string, name = NAME): Promise<void> {
    await this.target.client().flushall('SYNC');
    const source = this.source.client();
    if ((await source.exists(key)) === 1) await source.xgroup('DESTROY', key, `lanegate:${name}`);
  }

  /** A fresh queue server and an empty target, without workers yet. */
  async pipeline(key: string, changes: Changes = {}): Promise<Pipeline> {
    await this.reset(key);
    return this.pipelineOn(key, changes);
  }

  /** The same with the target as it is. */
  async pipelineOn(key: string, changes: Changes = {}): Promise<Pipeline> {
    const { source } = this;
    const sourceUrl = `redis-stream://127.0.0.1:${source.port}?key=${key}`;
    return this.pipelineFrom({ key, source, sourceUrl }, changes);
  }

  async pipelineFrom(
    from: Pick<PipelineOptions, 'key' | 'source' | 'sourceUrl' | 'coversSource'>,
    changes: Changes = {},
  ): Promise<Pipeline> {
    const { nodeArgs, workerArgs } = this.settings;
    return new Pipeline({
      name: NAME,
      lanes: LANES,
      target: this.target,
      nodeArgs,
      workerArgs,
      ...from,
      ...changes,
      queue: changes.queue ?? (await startQueue()),
      ownsQueue: changes.queue === undefined,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source[Symbol.asyncDispose]();
    await this.target[Symbol.asyncDispose]();
  }
}

export function startQueue(): Promise<RedisServer> {
  return RedisServer.start({ args: QUEUE_ARGS });
}
