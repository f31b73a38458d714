import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';
import { coversPlace, formatStream } from '../../src/sources/redis-link/position.ts';
import { compareServers, dumpAll } from './compare.ts';
import { until } from './faults.ts';
import { WorkerChild } from './pipeline.ts';
import { RedisServer } from './redis-server.ts';

const NAME = 'test';
const DURABLE = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'];
const DEBUGGABLE = ['--enable-debug-command', 'yes'];
const SOURCE = [...DEBUGGABLE, '--repl-diskless-sync-delay', '0', '--repl-backlog-size', '64mb'];
const GRACE_MS = 3_600_000;
const CAUGHT_UP_MS = 45_000;

export interface LiveOptions {
  readonly sourceArgs?: readonly string[];
  readonly targetArgs?: readonly string[];
  /** Other servers than the usual one. */
  readonly sourceBinary?: string | undefined;
  readonly targetBinary?: string | undefined;
  /** Of every worker. */
  readonly args?: readonly string[];
  readonly graceMs?: number;
  /** Where workers find the servers when that is not the server itself: proxies. */
  readonly sourceUrl?: (source: RedisServer) => Promise<string>;
  readonly targetUrl?: (target: RedisServer) => Promise<string>;
}

export interface LiveWorker {
  readonly failpoint?: string;
  readonly args?: readonly string[];
  /** A name below the pipeline's directory: what a machine is. */
  readonly machine?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A live source, a real replica of it to compare with, and lanegate's processes in between. */
export class LivePipeline implements AsyncDisposable {
  readonly source: RedisServer;
  readonly queue: RedisServer;
  readonly target: RedisServer;
  readonly workers: WorkerChild[] = [];
  readonly graceMs: number;
  readonly dir = mkdtempSync(join(tmpdir(), 'lanegate-live-'));
  readonly #options: LiveOptions;
  readonly #urls: readonly string[];
  readonly #servers: RedisServer[];

  private constructor(servers: readonly RedisServer[], urls: readonly string[], options: LiveOptions) {
    [this.source, this.queue, this.target] = servers as [RedisServer, RedisServer, RedisServer];
    this.#servers = [...servers];
    this.#urls = urls;
    this.#options = options;
    this.graceMs = options.graceMs ?? GRACE_MS;
  }

  static async start(options: LiveOptions = {}): Promise<LivePipeline> {
    const { sourceBinary, targetBinary } = options;
    const servers = await Promise.all([
      RedisServer.start({ args: [...SOURCE, ...(options.sourceArgs ?? [])], ...binaryOf(sourceBinary) }),
      RedisServer.start({ args: DURABLE }),
      RedisServer.start({ args: [...DEBUGGABLE, ...(options.targetArgs ?? [])], ...binaryOf(targetBinary) }),
    ]);
    const [source, , target] = servers;
    const urls = [
      (await options.sourceUrl?.(source)) ?? source.url,
      (await options.targetUrl?.(target)) ?? target.url,
    ];
    return new LivePipeline(servers, urls, options);
  }

  /** Another server of this scene. */
  async server(args: readonly string[] = []): Promise<RedisServer> {
    const { sourceBinary } = this.#options;
    const server = await RedisServer.start({ args: [...SOURCE, ...args], ...binaryOf(sourceBinary) });
    this.#servers.push(server);
    return server;
  }

  get urls(): string[] {
    const [source = '', target = ''] = this.#urls;
    return ['--name', NAME, '--source', source, '--target', target, '--queue', this.queue.url];
  }

  worker(options: LiveWorker = {}): WorkerChild {
    const at = this.workers.length;
    const child = new WorkerChild(
      [
        'worker',
        ...this.urls,
        '--data-dir',
        join(this.dir, options.machine ?? 'machine'),
        '--expiry-grace-ms',
        String(this.graceMs),
        ...['--lock-ms', '2000', '--watchdog-ms', '300'],
        ...(this.#options.args ?? []),
        ...(options.args ?? []),
      ],
      join(this.dir, `worker-${at}`),
      options.failpoint,
      options.env,
    );
    this.workers.push(child);
    return child;
  }

  /** Where the mark stands, as a position of the source; empty before the first. */
  async mark(): Promise<string> {
    const text = await this.target.client().get(`lanegate:${NAME}:mark`);
    return text === null ? '' : (JSON.parse(text) as { position: string }).position;
  }

  /** Up to where the journal holds the source's log; empty while there is none. */
  async read(): Promise<string> {
    return (await this.queue.client().hget(`{lanegate-${NAME}}:journal`, 'position')) ?? '';
  }

  /** The number of the log in force: 1 at the start, one more with every full sync. */
  async generation(): Promise<number> {
    const text = await this.target.client().get(`lanegate:${NAME}:identity`);
    return text === null ? 0 : Number.parseInt((JSON.parse(text) as { generation: string }).generation, 10);
  }

  /** Until the log with this number is in force, or a later one: whose link breaks gets another. */
  async follows(generation: number): Promise<void> {
    await until(`log ${generation} is followed`, async () => (await this.generation()) >= generation).catch(
      async (cause: unknown) => {
        const now = await this.generation();
        throw new Error(`log ${now} is followed, and not ${generation}\n${this.logs()}`, { cause });
      },
    );
  }

  /** Reason and hint of what stands still, by place. */
  async stops(): Promise<Record<string, { command: string; reason: string; hint: string }>> {
    const all = await this.queue.client().hgetall(`{lanegate-${NAME}}:stops`);
    return Object.fromEntries(Object.entries(all).map(([place, text]) => [place, JSON.parse(text)]));
  }

  async counters(): Promise<Record<string, number>> {
    const all = await this.queue.client().hgetall(`{lanegate-${NAME}}:counters`);
    return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, Number(value)]));
  }

  /** What lies in the spools of a machine. */
  spooled(machine = 'machine'): { readonly name: string; readonly path: string; readonly bytes: number }[] {
    const root = join(this.dir, machine, 'spool', NAME);
    try {
      return readdirSync(root, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => {
          const path = join(parentPath, name);
          return { name, path, bytes: statSync(path).size };
        });
    } catch {
      return [];
    }
  }

  async isLoading(): Promise<boolean> {
    return /^snap:.*:(?!start$|keys$)[0-9a-f:]+(\+\d+)?$/.test(await this.read());
  }

  async isStreaming(): Promise<boolean> {
    return /^[0-9a-f]{40}:/.test(await this.read());
  }

  /** Everything that `source` says now is applied. */
  async caughtUp(source = this.source): Promise<void> {
    let head = '';
    let mark = '';
    await until(
      'everything is applied',
      async () => {
        head = await headOf(source);
        mark = await this.mark();
        return mark !== '' && coversPlace(mark, head);
      },
      CAUGHT_UP_MS,
    ).catch((cause: unknown) => {
      throw new Error(`the source is at ${head}, the mark at ${mark}\n${this.logs()}`, { cause });
    });
  }

  /** Once nothing writes any more, all three servers hold the same, and every value has the same digest. */
  async equals(source = this.source): Promise<void> {
    await this.caughtUp(source);
    // What expires meanwhile has a DEL that arrives a little later: they are equal if they are at any one look.
    await this.#settles('the source', () => compareServers(source.url, this.target.url, this));
    const replica = await this.server();
    await replica.client().replicaof('127.0.0.1', source.port);
    await until('the replica has everything', async () => {
      const [own, its] = await Promise.all([headOf(source), headOf(replica)]);
      return coversPlace(its, own);
    });
    await this.#settles('the replica', async () => {
      const differences: unknown[] = await compareServers(replica.url, this.target.url, this);
      const [own, its] = await Promise.all([digests(this.target), digests(replica)]);
      return isDeepStrictEqual(own, its) ? differences : [...differences, { own, its }];
    });
    expect(await this.stops()).toEqual({});
  }

  async #settles(what: string, differences: () => Promise<unknown[]>): Promise<void> {
    let last: unknown[] = [];
    const equal = async () => {
      last = await differences();
      return last.length === 0;
    };
    await until(`nothing differs from ${what}`, equal, 15_000).catch(() => {});
    expect(last, this.logs()).toEqual([]);
  }

  logs(): string {
    return this.workers.map((worker, at) => `--- worker ${at}\n${worker.output.slice(-3_000)}`).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.kill()));
    await Promise.all(this.#servers.map((server) => server[Symbol.asyncDispose]()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function binaryOf(binary: string | undefined): { binary?: string } {
  return binary === undefined ? {} : { binary };
}

/** The end of the server's stream. */
export async function headOf(server: RedisServer): Promise<string> {
  const info = await server.client().info('replication');
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1] ?? '';
  const second = Number(field('second_repl_offset'));
  // The first offset that the second history does not have.
  const before = second > 0 ? { replid: field('master_replid2'), offset: second - 1 } : undefined;
  return formatStream(
    { replid: field('master_replid'), offset: Number(field('master_repl_offset')) },
    0,
    before,
  );
}

/** DEBUG DIGEST-VALUE of every key but lanegate's own. */
async function digests(server: RedisServer): Promise<Record<string, string>> {
  const redis = server.client().duplicate();
  try {
    const keys = [...(await dumpAll(server.url)).values()].filter(
      ({ key }) => !key.toString('latin1').startsWith('lanegate:'),
    );
    const found: Record<string, string> = {};
    for (let from = 0; from < keys.length; from += 500) {
      const some = keys.slice(from, from + 500);
      const batch = redis.pipeline();
      for (const { db, key } of some) batch.select(db).call('DEBUG', 'DIGEST-VALUE', key);
      const replies = (await batch.exec()) ?? [];
      for (const [i, { db, key }] of some.entries())
        found[`${db}:${key.toString('latin1')}`] = String(replies[2 * i + 1]?.[1]);
    }
    return found;
  } finally {
    redis.disconnect();
  }
}

export function offsetOf(position: string): number {
  return Number(position.split(':')[1]);
}
