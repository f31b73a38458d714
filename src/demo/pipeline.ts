import { join } from 'node:path';
import { Redis } from 'ioredis';
import { queueConnection } from '../../queues/connection.ts';
import { firstStop, waitUntilCaughtUp } from '../roles/caught-up.ts';
import { Observer } from '../roles/observe.ts';
import { sleep } from '../runtime/backoff.ts';
import { StopError } from '../runtime/errors.ts';
import { packageRoot, packageVersion } from '../runtime/package.ts';
import { BinlogWriter } from '../sources/binlog-writer.ts';
import { openSource } from '../sources/open.ts';
import type { Source } from '../sources/source.ts';
import type { PipelineStatus } from '../status.ts';
import type { Child, Children } from './children.ts';
import type { DemoServers } from './servers.ts';
import { COMMANDS_PER_ROUND, rounds } from './workload.ts';

export const PIPELINE = 'demo';
const WORKERS = 2;
const ROUNDS_PER_APPEND = 50;
const POLL_MS = 100;
const STUCK_MS_MAX = 120_000;
const MS_PER_ROUND_MAX = 100;
/** About two rounds: by default so dense a log becomes a few large segments, and hardly a gate could be watched. */
const SEGMENT_BYTES = 3_072;
/** A killed worker's jobs go to the other one after this; nobody at a demo wants to wait for the default. */
const LOCK_MS = 2_000;

export interface PipelineOptions {
  readonly children: Children;
  readonly servers: DemoServers;
  readonly lanes: number;
  readonly graceMs: number;
}

export interface ApplyOptions {
  readonly rounds: number;
  /** Commands applied so far, about. */
  readonly onProgress: (applied: number) => void;
  readonly onKill: (text: string) => void;
  readonly signal: AbortSignal;
}

/** lanegate as a user runs it: worker processes, seen from outside through an Observer. */
export class DemoPipeline {
  readonly observer: Observer;
  readonly redis: Redis;
  readonly sourceUrl: string;
  readonly writer: BinlogWriter;
  readonly #options: PipelineOptions;
  readonly #source: Source;
  readonly #workers: Child[] = [];
  #started = 0;

  constructor(options: PipelineOptions) {
    const { source, queue, target } = options.servers;
    this.#options = options;
    this.sourceUrl = `redis-stream://${source.host}:${source.port}?key=binlog`;
    this.writer = new BinlogWriter({ url: this.sourceUrl });
    this.#source = openSource(this.sourceUrl, { name: PIPELINE });
    this.redis = new Redis(queueConnection(queue, 'lanegate:demo'));
    this.redis.on('error', () => {});
    this.observer = new Observer({
      name: PIPELINE,
      version: packageVersion(),
      redis: this.redis,
      target,
      source: this.#source,
      now: () => Date.now(),
    });
  }

  get workers(): readonly Child[] {
    return this.#workers;
  }

  /** Appends the rounds and applies them; on the way the worker that reads the source is killed. */
  async apply(options: ApplyOptions): Promise<{ gates: number; kills: number }> {
    const { rounds: count, onProgress, onKill, signal } = options;
    // The rest follows the kill: however fast the workers are, there is work for the ones that are left.
    const first = Math.ceil(count / 2);
    await this.#append(0, first);
    for (let at = 0; at < WORKERS; at++) this.#startWorker();
    const status = await this.#untilApplied(Math.floor((count * COMMANDS_PER_ROUND) / 3), onProgress, signal);
    const victim = this.#workerThatReads(status);
    victim.kill('SIGKILL');
    await victim.exited;
    this.#workers.splice(this.#workers.indexOf(victim), 1);
    const successor = this.#startWorker();
    onKill(`SIGKILL to worker ${victim.pid}, which read the log; worker ${successor.pid} started`);
    await this.#append(first, count);
    const end = await waitUntilCaughtUp({
      observer: this.observer,
      source: this.#source,
      timeoutMs: STUCK_MS_MAX + count * MS_PER_ROUND_MAX,
      signal,
      onStatus: (status) => {
        this.#assertAlive();
        onProgress(appliedThrough(status));
      },
    });
    if (end.kind === 'stopped') throw stopped(end.place, end.stop.reason, end.stop.hint);
    if (end.kind === 'timeout') throw stopped('the pipeline', `it still waits for ${end.waitingFor}`);
    return { gates: end.status.counters.gates, kills: 1 };
  }

  /**
   * Starts a new worker for each that was killed or stopped; returns what to say about it.
   * @throws Error for one that failed
   */
  replaceEnded(): string[] {
    const ended = this.#workers.filter((worker) => worker.ended !== undefined);
    return ended.map((worker) => {
      if (worker.ended === 'exit code 1') this.#assertAlive();
      this.#workers.splice(this.#workers.indexOf(worker), 1);
      return `worker ${worker.pid} is gone (${worker.ended}); worker ${this.#startWorker().pid} started`;
    });
  }

  /** Drains the workers. Idempotent. */
  async close(): Promise<void> {
    await this.writer.close();
    const { graceMs } = this.#options;
    await Promise.all(this.#workers.map((worker) => worker.end('SIGTERM', graceMs + 2_000)));
    this.observer.close();
    await this.#source.close();
    this.redis.disconnect();
  }

  async #append(from: number, to: number): Promise<void> {
    for (let at = from; at < to; at += ROUNDS_PER_APPEND) {
      const entries = [...rounds(at, Math.min(to, at + ROUNDS_PER_APPEND))];
      await this.writer.appendAll(entries.map((commands) => ({ commands })));
    }
  }

  async #untilApplied(
    seq: number,
    onProgress: (applied: number) => void,
    signal: AbortSignal,
  ): Promise<PipelineStatus> {
    const beganMs = performance.now();
    for (;;) {
      const status = await this.observer.status();
      this.#assertAlive();
      const applied = appliedThrough(status);
      onProgress(applied);
      const stop = firstStop(status);
      if (stop) throw stopped(stop.place, stop.stop.reason, stop.stop.hint);
      if (applied >= seq) return status;
      if (performance.now() - beganMs > STUCK_MS_MAX + seq * MS_PER_ROUND_MAX)
        throw stopped('the pipeline', `it stands at seq ${applied}`);
      await sleep(POLL_MS, signal);
    }
  }

  #startWorker(): Child {
    const { children, servers, lanes, graceMs } = this.#options;
    const options = {
      name: PIPELINE,
      source: this.sourceUrl,
      target: servers.target.display,
      queue: servers.queue.display,
      lanes,
      'segment-bytes': SEGMENT_BYTES,
      'lock-ms': LOCK_MS,
      'grace-ms': graceMs,
    };
    const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    const args = [join(packageRoot(), 'bin/lanegate.js'), 'worker', ...flags, '--trim-source'];
    this.#started++;
    const worker = children.spawn(`worker-${this.#started}`, process.execPath, args, ownEnvironment());
    this.#workers.push(worker);
    return worker;
  }

  /** The holder of the ingest: the loss that is felt most. */
  #workerThatReads(status: PipelineStatus): Child {
    const holder = status.workers.find(({ id }) => id === status.ingest.holder);
    const worker = this.#workers.find(({ pid }) => pid === holder?.pid) ?? this.#workers[0];
    if (worker === undefined) throw new Error('the demo has no workers');
    return worker;
  }

  #assertAlive(): void {
    const dead = this.#workers.find(({ ended }) => ended !== undefined);
    if (dead) throw new Error(`${dead.name} ended by itself (${dead.ended}):\n${dead.logTail}`);
  }
}

/** In this log a seq counts every command, and a FLUSHDB holds the lanes within one round of each other. */
function appliedThrough({ lanes }: PipelineStatus): number {
  return Math.max(0, ...lanes.map((lane) => lane.appliedThrough));
}

/** What the user has set for other pipelines is not meant for this one. */
function ownEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('LANEGATE_')));
}

function stopped(place: string, reason: string, hint = 'this is a defect of lanegate'): StopError {
  return new StopError('DEMO_STOPPED', `${place} stopped: ${reason}`, { hint });
}
