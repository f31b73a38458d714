import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { encodeCommands } from '../../src/binlog/resp.ts';
import { packageRoot } from '../../src/runtime/package.ts';
import { refuseLeaks } from './canary.ts';
import { compareServers, type Difference } from './compare.ts';
import { RedisServer } from './redis-server.ts';
import type { LoggedEntry } from './workload.ts';

const DURABLE = ['--appendonly', 'yes', '--maxmemory-policy', 'noeviction'];

export interface PipelineOptions {
  /** The source itself is followed, not a stream in it. */
  readonly live?: boolean;
  readonly lanes?: number;
  readonly args?: readonly string[];
  readonly targetArgs?: readonly string[];
  readonly queueArgs?: readonly string[];
  /** The disk of the queue. */
  readonly queueDir?: string;
  /** Where workers find the target when that is not the server itself: a proxy. */
  readonly targetUrl?: (target: RedisServer) => Promise<string>;
  /** The same for the queue. */
  readonly queueUrl?: (queue: RedisServer) => Promise<string>;
  /** Another source than the stream. */
  readonly sourceUrl?: string;
}

/** Real servers for one pipeline, worker processes that can be killed, and the oracle to compare with. */
export class Pipeline implements AsyncDisposable {
  readonly source: RedisServer;
  readonly queue: RedisServer;
  readonly target: RedisServer;
  readonly oracle: RedisServer;
  readonly name = 'test';
  readonly workers: WorkerChild[] = [];
  readonly #options: PipelineOptions;
  readonly dir = mkdtempSync(join(tmpdir(), 'lanegate-test-'));

  #movedTo: string | undefined;
  #targetUrl: string;
  #queueUrl: string;

  private constructor(servers: readonly RedisServer[], options: PipelineOptions) {
    [this.source, this.queue, this.target, this.oracle] = servers as [
      RedisServer,
      RedisServer,
      RedisServer,
      RedisServer,
    ];
    this.#options = options;
    this.#targetUrl = this.target.url;
    this.#queueUrl = this.queue.url;
  }

  static async start(options: PipelineOptions = {}): Promise<Pipeline> {
    const servers = await Promise.all([
      RedisServer.start(),
      RedisServer.start({
        args: [...DURABLE, ...(options.queueArgs ?? [])],
        ...(options.queueDir === undefined ? {} : { dir: options.queueDir }),
      }),
      RedisServer.start({ args: [...(options.targetArgs ?? [])] }),
      RedisServer.start(),
    ]);
    const pipeline = new Pipeline(servers, options);
    if (options.queueUrl) pipeline.#queueUrl = await options.queueUrl(pipeline.queue);
    if (options.targetUrl) pipeline.#targetUrl = await options.targetUrl(pipeline.target);
    return pipeline;
  }

  /** Workers that are started from now on find the same log there. */
  moveSource(url: string): void {
    this.#movedTo = url;
  }

  get sourceUrl(): string {
    if (this.#movedTo !== undefined) return this.#movedTo;
    if (this.#options.live) return this.source.url;
    return this.#options.sourceUrl ?? `redis-stream://127.0.0.1:${this.source.port}?key=binlog`;
  }

  get urls(): string[] {
    return [
      '--name',
      this.name,
      '--source',
      this.sourceUrl,
      '--target',
      this.#targetUrl,
      '--queue',
      this.#queueUrl,
    ];
  }

  /** A worker process. `failpoint` as in LANEGATE_FAILPOINT; `machine`: whose disk it has. */
  worker(
    options: {
      failpoint?: string;
      lanes?: number;
      machine?: string;
      args?: readonly string[];
      env?: Readonly<Record<string, string>>;
    } = {},
  ): WorkerChild {
    const wanted = options.lanes ?? this.#options.lanes;
    const lanes = wanted === undefined ? [] : ['--lanes', String(wanted)];
    const child = new WorkerChild(
      [
        'worker',
        ...this.urls,
        '--data-dir',
        join(this.dir, options.machine ?? 'machine'),
        ...lanes,
        '--lock-ms',
        '2000',
        '--watchdog-ms',
        '300',
        ...(this.#options.args ?? []),
        ...(options.args ?? []),
      ],
      join(this.dir, `worker-${this.workers.length}`),
      options.failpoint,
      options.env,
    );
    this.workers.push(child);
    return child;
  }

  async append(entries: readonly LoggedEntry[]): Promise<void> {
    const client = this.source.client();
    for (let at = 0; at < entries.length; at += 200) {
      const batch = client.pipeline();
      for (const { db, timeMs, commands } of entries.slice(at, at + 200)) {
        const resp = encodeCommands(commands.map((command) => command.map((arg) => Buffer.from(arg))));
        batch.call('XADD', 'binlog', '*', 'resp', resp, 'db', String(db), 'time', String(timeMs));
      }
      await batch.exec();
    }
  }

  /** Waits until the low-water mark has reached the end of the stream. */
  async caughtUp(timeoutMs = 30_000, target = this.target): Promise<void> {
    const last = await this.#lastId();
    const deadline = performance.now() + timeoutMs;
    let mark = '';
    while (performance.now() < deadline) {
      mark =
        (await target
          .client()
          .get(`lanegate:${this.name}:mark`)
          .catch(() => null)) ?? '';
      const position = mark === '' ? '' : String((JSON.parse(mark) as { position: string }).position);
      if (position.replace(/[@~].*$/, '') === last) return;
      await delay(25);
    }
    throw new Error(
      `not caught up in ${timeoutMs} ms: the stream ends at ${last}, the mark is ${mark}\n${this.logs()}`,
    );
  }

  async differences(target = this.target): Promise<Difference[]> {
    return await compareServers(this.oracle.url, target.url);
  }

  async counters(): Promise<Record<string, number>> {
    const all = await this.queue.client().hgetall(`{lanegate-${this.name}}:counters`);
    return Object.fromEntries(Object.entries(all).map(([name, value]) => [name, Number(value)]));
  }

  logs(): string {
    return this.workers.map((worker, at) => `--- worker ${at}\n${worker.output.slice(-3000)}`).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.kill()));
    await Promise.all(
      [this.source, this.queue, this.target, this.oracle].map((server) => server[Symbol.asyncDispose]()),
    );
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #lastId(): Promise<string> {
    const [entry] = await this.source.client().xrevrange('binlog', '+', '-', 'COUNT', 1);
    return entry?.[0] ?? '0-0';
  }
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class WorkerChild {
  readonly process: ChildProcess;
  readonly #failpointFile: string;
  output = '';

  constructor(
    args: readonly string[],
    path: string,
    failpoint: string | undefined,
    more: Readonly<Record<string, string>> = {},
  ) {
    this.#failpointFile = `${path}.failpoint`;
    const env = {
      ...process.env,
      ...more,
      LANEGATE_FAILPOINT_FILE: this.#failpointFile,
      ...(failpoint ? { LANEGATE_FAILPOINT: failpoint } : {}),
    };
    this.process = spawn(process.execPath, [join(packageRoot(), 'bin/lanegate.js'), ...args], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    running.add(this.process);
    this.process.once('exit', () => running.delete(this.process));
    this.process.once('close', () => refuseLeaks(this.output, { args, env: more }));
    this.process.stdout?.on('data', (bytes) => (this.output += String(bytes)));
    this.process.stderr?.on('data', (bytes) => (this.output += String(bytes)));
  }

  /** Failpoints that were reached. */
  get reached(): string[] {
    return existsSync(this.#failpointFile)
      ? readFileSync(this.#failpointFile, 'utf8').trim().split('\n')
      : [];
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async exit(): Promise<number | null> {
    if (this.running) await once(this.process, 'exit');
    return this.process.exitCode;
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (!this.running) return;
    this.process.kill('SIGCONT');
    this.process.kill(signal);
    await this.exit();
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  /** Ends what a failpoint began with `stop` or `busy`. */
  goOn(): void {
    writeFileSync(`${this.#failpointFile}.go`, '');
    this.process.kill('SIGCONT');
  }
}
