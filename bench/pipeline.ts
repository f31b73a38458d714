// One pipeline that is measured, and the one question that every measurement asks: is everything applied?

import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { JournalKeys } from '../src/journal/keys.ts';
import { packageRoot } from '../src/runtime/package.ts';
import { ControlKeys, parseCheckpoint } from '../src/target/control.ts';
import type { RedisServer } from '../test/support/redis-server.ts';
import { cpuUs, machineCpuUs, peakRssBytes } from './processes.ts';
import { WorkerProcess } from './worker-process.ts';

const POLL_MS = 10;
const STALL_MS_MAX = 30_000;

export interface PipelineOptions {
  readonly name: string;
  readonly lanes: number;
  /** The stream's key; of a live source, what is measured. */
  readonly key: string;
  readonly source: RedisServer;
  /** As `--source` has it. */
  readonly sourceUrl: string;
  readonly target: RedisServer;
  readonly queue: RedisServer;
  /** False where other pipelines use the queue as well: it stays the caller's to close. */
  readonly ownsQueue: boolean;
  readonly nodeArgs: readonly string[];
  readonly workerArgs: readonly string[];
  /** Of a live source: true iff a position has everything that the source has now. */
  readonly coversSource?: (position: string) => Promise<boolean>;
}

export interface Progress {
  readonly done: boolean;
  /** Sum of the lanes' checkpoints: it grows as long as anything is applied. */
  readonly sum: number;
}

export class Pipeline implements AsyncDisposable {
  readonly key: string;
  readonly lanes: number;
  readonly source: RedisServer;
  readonly target: RedisServer;
  readonly queue: RedisServer;
  readonly workers: WorkerProcess[] = [];
  readonly #options: PipelineOptions;
  readonly #control: ControlKeys;
  readonly #journal: JournalKeys;

  constructor(options: PipelineOptions) {
    this.#options = options;
    this.#control = new ControlKeys(options.name);
    this.#journal = new JournalKeys(options.name);
    this.key = options.key;
    this.lanes = options.lanes;
    this.source = options.source;
    this.target = options.target;
    this.queue = options.queue;
  }

  startWorker(options: { roles?: string; profileDir?: string; label: string }): WorkerProcess {
    const { name, lanes, sourceUrl, nodeArgs, workerArgs } = this.#options;
    const args = ['worker', '--name', name, '--lanes', String(lanes), '--log-level', 'warn'];
    args.push('--source', sourceUrl, '--target', this.target.url, '--queue', this.queue.url);
    // Dies with the queue server, as everything of this pipeline does.
    args.push('--data-dir', join(this.queue.dir, name));
    if (options.roles !== undefined) args.push('--roles', options.roles);
    args.push(...workerArgs);
    const worker = new WorkerProcess(options.label, args, [...nodeArgs, ...profiling(options)]);
    this.workers.push(worker);
    return worker;
  }

  /**
   * Everything is applied: the journal's head is at `seqs`, or its position covers the live source, and no lane is
   * behind its tail.
   */
  async progress(seqs: number): Promise<Progress> {
    const lanes = Array.from({ length: this.lanes }, (_, lane) => lane);
    const journal = this.#journal;
    const queue = this.queue.client();
    const [values, [last], [head, ...tails]] = await Promise.all([
      this.target.client().mget(this.#control.checkpoints(this.lanes)),
      queue.xrevrange(journal.positions, '+', '-', 'COUNT', 1),
      queue.hmget(journal.state, 'head', ...lanes.map((lane) => `tail:${lane}`)),
    ]);
    const checkpoints = values.map((value) => parseCheckpoint(value ?? '')?.seq ?? 0);
    const sum = checkpoints.reduce((total, seq) => total + seq, 0);
    const applied = lanes.every((lane) => (checkpoints[lane] ?? 0) >= Number(tails[lane]));
    const done = Number(head ?? -1) >= seqs && applied && (await this.#coversSource(last?.[1][1]));
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
    return Number((await this.queue.client().hget(this.#journal.counters, name)) ?? 0);
  }

  /** A measurement that lost something would be none. `keys`: without lanegate's own; undefined: not looked at. */
  async check(keys: number | undefined): Promise<void> {
    for (const name of ['divergences', 'unverified', 'deadLettered']) {
      const count = await this.counter(name);
      if (count > 0)
        throw new Error(this.explained(`${this.key}: ${count} ${name} where there must be none`));
    }
    if (keys === undefined) return;
    const found = (await this.target.client().dbsize()) - this.#control.all(this.lanes).length;
    if (found !== keys) throw new Error(`${this.key}: ${found} keys at the target, not ${keys}`);
  }

  /** With the workers' logs and what `lanegate status` says. */
  explained(what: string): string {
    return [what, ...this.workers.map((worker) => worker.log()), this.#status()].join('\n');
  }

  /** CPU so far of every process of this pipeline, us, by label; 'elsewhere' is the rest of the machine. */
  cpu(): Readonly<Record<string, number>> {
    const own = this.workers.map((worker) => [worker.label, cpuUs(worker.pid).own] as const);
    const [queue, source] = [cpuUs(this.queue.pid), cpuUs(this.source.pid)];
    const known = [
      ...own,
      ['queue', queue.own] as const,
      ["queue's AOF rewrites", queue.children] as const,
      ['target', cpuUs(this.target.pid).own] as const,
      ['source', source.own] as const,
      ["source's snapshot", source.children] as const,
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
    if (this.#options.ownsQueue) await this.queue[Symbol.asyncDispose]();
  }

  async #coversSource(position: string | undefined): Promise<boolean> {
    const { coversSource } = this.#options;
    if (coversSource === undefined) return true;
    return position !== undefined && (await coversSource(position));
  }

  #status(): string {
    const { name, sourceUrl } = this.#options;
    const args = [join(packageRoot(), 'bin/lanegate.js'), 'status', '--name', name];
    args.push('--queue', this.queue.url, '--source', sourceUrl, '--target', this.target.url);
    try {
      return execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 });
    } catch (error) {
      return String((error as { stdout?: unknown }).stdout ?? error);
    }
  }
}

/** What was used between two looks, us per command, by label. */
export function cpuPerCommand(
  before: Readonly<Record<string, number>>,
  after: Readonly<Record<string, number>>,
  commands: number,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after).map(([label, us]) => [label, (us - (before[label] ?? 0)) / commands]),
  );
}

function profiling({ label, profileDir }: { label: string; profileDir?: string }): string[] {
  if (profileDir === undefined) return [];
  return ['--cpu-prof', `--cpu-prof-dir=${profileDir}`, `--cpu-prof-name=${label}.cpuprofile`];
}
