// The servers and worker processes of a measurement, and the one question that all of them ask: is everything applied?

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { JournalKeys } from '../src/journal/keys.ts';
import { ControlKeys, parseCheckpoint } from '../src/target/control.ts';
import { RedisServer } from '../test/support/redis-server.ts';
import { cpuUs, machineCpuUs, peakRssBytes } from './processes.ts';

export const NAME = 'bench';
export const LANES = 8;
export const KEYSPACE = 1_000_000;

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const POLL_MS = 10;
const STALL_MS_MAX = 30_000;
const STOP_MS_MAX = 20_000;
/** As compose.yaml and the embedded queue server have it. */
const QUEUE_ARGS = [
  ...['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'],
  ...['--auto-aof-rewrite-min-size', '512mb'],
];

const control = new ControlKeys(NAME);
const journal = new JournalKeys(NAME);

export interface Settings {
  readonly runs: number;
  /** Of the drain and of the ceiling; the mixes take a quarter. */
  readonly commands: number;
  /** For an experiment: further arguments of the workers' Node and of `lanegate worker`. */
  readonly nodeArgs: readonly string[];
  readonly workerArgs: readonly string[];
}

export function say(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
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
}

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
  async reset(key: string): Promise<void> {
    await this.target.client().flushall('SYNC');
    const source = this.source.client();
    if ((await source.exists(key)) === 1) await source.xgroup('DESTROY', key, `lanegate:${NAME}`);
  }

  /** A fresh queue server and an empty target, without workers yet. */
  async pipeline(key: string): Promise<Pipeline> {
    await this.reset(key);
    return new Pipeline(this, key, await RedisServer.start({ args: QUEUE_ARGS }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source[Symbol.asyncDispose]();
    await this.target[Symbol.asyncDispose]();
  }
}

export interface Progress {
  readonly done: boolean;
  /** Sum of the lanes' checkpoints: it grows as long as anything is applied. */
  readonly sum: number;
}

/** One pipeline from the stream `key` to the bench's target. */
export class Pipeline implements AsyncDisposable {
  readonly bench: Bench;
  readonly key: string;
  readonly queue: RedisServer;
  readonly workers: WorkerProcess[] = [];

  constructor(bench: Bench, key: string, queue: RedisServer) {
    this.bench = bench;
    this.key = key;
    this.queue = queue;
  }

  startWorker(options: { roles?: string; profileDir?: string; label: string }): WorkerProcess {
    const { source, target } = this.bench;
    const args = ['worker', '--name', NAME, '--lanes', String(LANES), '--log-level', 'warn'];
    args.push('--source', `redis-stream://127.0.0.1:${source.port}?key=${this.key}`);
    args.push('--target', target.url, '--queue', this.queue.url);
    if (options.roles !== undefined) args.push('--roles', options.roles);
    const { nodeArgs, workerArgs } = this.bench.settings;
    args.push(...workerArgs);
    const worker = new WorkerProcess(options.label, args, [...nodeArgs, ...profiling(options)]);
    this.workers.push(worker);
    return worker;
  }

  /** Everything through `seqs` is applied: the journal's head is there and no lane is behind its tail. */
  async progress(seqs: number): Promise<Progress> {
    const lanes = Array.from({ length: LANES }, (_, lane) => lane);
    const [values, [head, ...tails]] = await Promise.all([
      this.bench.target.client().mget(control.checkpoints(LANES)),
      this.queue.client().hmget(journal.state, 'head', ...lanes.map((lane) => `tail:${lane}`)),
    ]);
    const checkpoints = values.map((value) => parseCheckpoint(value ?? '')?.seq ?? 0);
    const sum = checkpoints.reduce((total, seq) => total + seq, 0);
    const done = Number(head ?? -1) >= seqs && lanes.every((l) => (checkpoints[l] ?? 0) >= Number(tails[l]));
    return { done, sum };
  }

  /** @throws with what `lanegate status` says when a worker ends or nothing moves for 30 s */
  async untilApplied(seqs: number, onProgress: (progress: Progress) => void = () => {}): Promise<void> {
    let sum = -1;
    let movedAtMs = performance.now();
    for (;;) {
      const progress = await this.progress(seqs);
      onProgress(progress);
      if (progress.done) return;
      if (progress.sum !== sum) movedAtMs = performance.now();
      sum = progress.sum;
      const ended = this.workers.find((worker) => worker.ended !== undefined);
      if (ended) throw new Error(this.explained(`worker ${ended.label} ${ended.ended}`));
      if (performance.now() - movedAtMs > STALL_MS_MAX)
        throw new Error(this.explained(`nothing moved for ${STALL_MS_MAX / 1000} s`));
      await delay(POLL_MS);
    }
  }

  /** The pipeline exists, and its lanes have workers. */
  async untilReady(): Promise<void> {
    await this.untilApplied(0);
    // Workers look for the pipeline every 100 ms before they attach to its lanes.
    await delay(500);
  }

  async counter(name: string): Promise<number> {
    return Number((await this.queue.client().hget(journal.counters, name)) ?? 0);
  }

  /** With the workers' logs and what `lanegate status` says. */
  explained(what: string): string {
    return [what, ...this.workers.map((worker) => worker.log()), this.#status()].join('\n');
  }

  #status(): string {
    const args = [join(root, 'bin/lanegate.js'), 'status', '--name', NAME, '--queue', this.queue.url];
    args.push('--source', `redis-stream://127.0.0.1:${this.bench.source.port}?key=${this.key}`);
    args.push('--target', this.bench.target.url);
    try {
      return execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
    } catch (error) {
      return String((error as { stdout?: unknown }).stdout ?? error);
    }
  }

  /** CPU so far of every process of this pipeline, us, by label; 'elsewhere' is the rest of the machine. */
  cpu(): Readonly<Record<string, number>> {
    const own = this.workers.map((worker) => [worker.label, cpuUs(worker.pid).own] as const);
    const queue = cpuUs(this.queue.pid);
    const target = cpuUs(this.bench.target.pid);
    const known = [
      ...own,
      ['queue', queue.own] as const,
      ["queue's AOF rewrites", queue.children] as const,
      ['target', target.own] as const,
      ['source', cpuUs(this.bench.source.pid).own] as const,
    ];
    const elsewhere = known.reduce((rest, [, us]) => rest - us, machineCpuUs());
    return Object.fromEntries([...known, ['elsewhere', elsewhere]]);
  }

  /** Peak resident memory of the workers and the queue server, bytes, by label. */
  memory(): Readonly<Record<string, number>> {
    const own = this.workers.map((worker) => [worker.label, peakRssBytes(worker.pid)] as const);
    return Object.fromEntries([...own, ['queue', peakRssBytes(this.queue.pid)]]);
  }

  /** used_memory_peak of the queue server, bytes. */
  async queuePeakBytes(): Promise<number> {
    const info = await this.queue.client().info('memory');
    return Number(/^used_memory_peak:(\d+)/m.exec(info)?.[1]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    await this.queue[Symbol.asyncDispose]();
  }
}

function profiling({ label, profileDir }: { label: string; profileDir?: string }): string[] {
  if (profileDir === undefined) return [];
  return ['--cpu-prof', `--cpu-prof-dir=${profileDir}`, `--cpu-prof-name=${label}.cpuprofile`];
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class WorkerProcess {
  readonly label: string;
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #exited: Promise<void>;
  /** How it ended; undefined while it runs. */
  ended: string | undefined;

  constructor(label: string, args: readonly string[], nodeArgs: readonly string[]) {
    this.label = label;
    this.#dir = mkdtempSync(join(tmpdir(), 'lanegate-bench-'));
    const log = openSync(this.#logPath(), 'a');
    this.#child = spawn(process.execPath, [...nodeArgs, join(root, 'bin/lanegate.js'), ...args], {
      stdio: ['ignore', log, log],
      cwd: root,
    });
    closeSync(log);
    running.add(this.#child);
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        running.delete(this.#child);
        this.ended = `ended with ${signal ?? `code ${code}`}`;
        resolve();
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`worker ${this.label} was not started`);
    return this.#child.pid;
  }

  log(): string {
    return `${this.label}: ${readFileSync(this.#logPath(), 'utf8').slice(-4_000)}`;
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const abort = new AbortController();
    const late = delay(STOP_MS_MAX, 'late', { signal: abort.signal }).catch(() => 'stopped');
    if ((await Promise.race([this.#exited, late])) === 'late') {
      say(`worker ${this.label} did not end within ${STOP_MS_MAX / 1000} s of SIGTERM: killed`);
      this.#child.kill('SIGKILL');
      await this.#exited;
    }
    abort.abort();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #logPath(): string {
    return join(this.#dir, 'worker.log');
  }
}
