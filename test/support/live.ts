import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type CliResult, type LanegateProcess, spawnLanegate } from './cli.ts';
import { until } from './faults.ts';
import { WorkerChild } from './pipeline.ts';
import { RedisServer } from './redis-server.ts';

const SOURCE = [
  '--enable-debug-command',
  'yes',
  '--repl-diskless-sync-delay',
  '0',
  '--repl-ping-replica-period',
  '1',
];

/** Real servers around a live source, and workers that follow it. */
export class Live implements AsyncDisposable {
  readonly source: RedisServer;
  readonly target: RedisServer;
  readonly queue: RedisServer;
  readonly dir = mkdtempSync(join(tmpdir(), 'lanegate-live-'));
  readonly name = 'live';
  readonly #servers: RedisServer[];
  readonly #workers: WorkerChild[] = [];

  private constructor(source: RedisServer, target: RedisServer, queue: RedisServer) {
    this.source = source;
    this.target = target;
    this.queue = queue;
    this.#servers = [source, target, queue];
  }

  static async start(options: { sourceArgs?: readonly string[] } = {}): Promise<Live> {
    const [source, target, queue] = await Promise.all([
      RedisServer.start({ args: [...SOURCE, ...(options.sourceArgs ?? [])] }),
      RedisServer.start({ args: ['--enable-debug-command', 'yes'] }),
      RedisServer.start({ args: ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'] }),
    ]);
    return new Live(source, target, queue);
  }

  get urls(): string[] {
    const dataDir = join(this.dir, 'data');
    return [
      ...['--name', this.name, '--source', this.source.url, '--target', this.target.url],
      ...['--queue', this.queue.url, '--data-dir', dataDir],
    ];
  }

  /** A native replica of the source. */
  async replica(): Promise<RedisServer> {
    const replica = await RedisServer.start({
      args: [...SOURCE, '--replicaof', `127.0.0.1 ${this.source.port}`, '--replica-read-only', 'yes'],
    });
    this.#servers.push(replica);
    await until('the replica is in step', async () =>
      /master_link_status:up/.test(await replica.client().info('replication')),
    );
    return replica;
  }

  worker(args: readonly string[] = []): WorkerChild {
    const fixed = ['--lock-ms', '2000', '--watchdog-ms', '300', '--lanes', '4'];
    const child = new WorkerChild(
      ['worker', ...this.urls, ...fixed, ...args],
      join(this.dir, `worker-${this.#workers.length}`),
      undefined,
    );
    this.#workers.push(child);
    return child;
  }

  /** Everything that the source has now is applied. */
  async caughtUp(timeoutMs = 40_000): Promise<void> {
    let head = await this.#head();
    await until(
      'all of it is applied',
      async () => {
        const mark = (await this.target.client().get(`lanegate:${this.name}:mark`)) ?? '{}';
        const position = (JSON.parse(mark) as { position?: string }).position ?? '';
        const [replid = '', offset] = position.split(':');
        if (replid === head.replid) return Number(offset) >= head.offset;
        // A server names its history anew with its first replica.
        if (/^[0-9a-f]{40}$/.test(replid)) head = await this.#head();
        return false;
      },
      timeoutMs,
    ).catch((cause) => {
      throw new Error(`not caught up with ${head.offset}:\n${this.logs()}`, { cause });
    });
  }

  async #head(): Promise<{ replid: string; offset: number }> {
    const info = await this.source.client().info('replication');
    const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(info)?.[1] ?? '';
    return { replid: field('master_replid'), offset: Number(field('master_repl_offset')) };
  }

  finish(args: readonly string[] = [], env: Record<string, string> = {}): LanegateProcess {
    return spawnLanegate(['finish', ...this.urls, ...args], { env, cwd: this.dir });
  }

  async finished(args: readonly string[] = []): Promise<CliResult & { report: FinishLine }> {
    await using process = this.finish(['--json', ...args]);
    const result = await process.exit();
    const last = result.stdout.trim().split('\n').at(-1) ?? '';
    return { ...result, report: (last === '' ? {} : JSON.parse(last)) as FinishLine };
  }

  logs(): string {
    return this.#workers.map(({ output }, at) => `--- worker ${at}\n${output.slice(-3000)}`).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.kill()));
    await Promise.all(this.#servers.map((server) => server[Symbol.asyncDispose]()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** What `finish --json` says last; only what the tests look at. */
export interface FinishLine {
  readonly writes: string;
  readonly deadlines?: {
    scanned: number;
    volatile: number;
    restored: number;
    exact: boolean;
    rounds: number;
  };
  readonly targetOnly?: { count: number; first: { db: number; key: string }[] };
  readonly records?: { records: number; unnamed: number; keys: number; different: number };
  readonly verify?: { compared: number; differences: Record<string, number> };
  readonly removed?: number;
  readonly done: string[];
  readonly open: string[];
}
