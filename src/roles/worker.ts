// One process of a pipeline: connections, BullMQ workers for its roles, and the supervisor that follows the number of
// lanes, registers the process and lets the watchdog look around.

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { hostname } from 'node:os';
import { type Job, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import type { PipelineContext, ProcessorOptions } from '../../processors/context.ts';
import { GateRunner } from '../../processors/gate.ts';
import { type HolderOptions, IngestHolder } from '../../processors/ingest-holder.ts';
import { JobProcessors } from '../../processors/jobs.ts';
import { LaneProcessor } from '../../processors/lane.ts';
import { SessionPool } from '../../processors/session-pool.ts';
import { Watchdog } from '../../processors/watchdog.ts';
import { coalesceWrites, queueConnection, queueLink } from '../../queues/connection.ts';
import type { LaneResult } from '../../queues/jobs.ts';
import { GATE_QUEUE, INGEST_QUEUE, laneQueue } from '../../queues/names.ts';
import { QueueSet } from '../../queues/queue-set.ts';
import { CommandTable } from '../binlog/command-table.ts';
import { ClosedGates } from '../journal/closed-gates.ts';
import { Journal } from '../journal/journal.ts';
import { LaneLogs } from '../journal/lane-log.ts';
import { Records } from '../journal/records.ts';
import { Waits } from '../journal/waits.ts';
import { sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError } from '../runtime/errors.ts';
import { type Logger, safeMessage } from '../runtime/log.ts';
import type { Source } from '../sources/source.ts';
import { ControlKeys } from '../target/control.ts';
import { aliveWorkers, policyFingerprint } from './registration.ts';

export type Role = 'ingest' | 'lanes' | 'gate';

export interface WorkerOptions {
  readonly name: string;
  readonly queue: Endpoint;
  readonly target: Endpoint;
  /** Needed for the ingest role. */
  readonly source: Source | undefined;
  readonly roles: readonly Role[];
  readonly processor: ProcessorOptions;
  readonly holder: HolderOptions;
  readonly retention: { readonly ms: number; readonly bytes: number };
  /** How long a lost worker's job stays its own, ms. */
  readonly lockMs: number;
  readonly log: Logger;
}

const DRAIN_DELAY_S = 1;
const REGISTRATION_MS = 1_000;

/** Runs until `stop`. Constructing connects; `start` returns when the workers are attached. */
export class WorkerProcess {
  readonly id = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  readonly context: PipelineContext;
  readonly queues: QueueSet;
  readonly #options: WorkerOptions;
  readonly #redis: Redis;
  readonly #abort = new AbortController();
  readonly #jobs: JobProcessors;
  readonly #holder: IngestHolder | undefined;
  readonly #watchdog: Watchdog;
  readonly #lanes: Worker[] = [];
  readonly #others: Worker[] = [];
  #supervisor: Promise<void> | undefined;
  #registered: Promise<void> | undefined;
  #started = false;
  #stopping: Promise<void> | undefined;
  #queueLostAtMs: number | undefined;

  constructor(options: WorkerOptions) {
    this.#options = options;
    const { name, log } = options;
    this.#redis = this.#connect();
    coalesceWrites(this.#redis);
    // One listener for each thing under way; many lanes are many.
    setMaxListeners(0, this.#abort.signal);
    const journal = new Journal(name, this.#redis);
    const records = new Records(this.#redis, journal.keys);
    const waits = new Waits(this.#redis, journal.keys, this.id);
    const now = () => Date.now();
    this.queues = new QueueSet(this.#redis, journal.keys);
    const table = CommandTable.shipped();
    const openLink = () => queueLink(options.queue, `lanegate:${name}`);
    this.context = {
      name,
      workerId: this.id,
      redis: this.#redis,
      openBlocking: () => this.#connect(),
      openLink,
      laneLogs: new LaneLogs(openLink),
      closedGates: new ClosedGates(openLink, journal.keys, log),
      control: new ControlKeys(name),
      journal,
      records,
      waits,
      queues: this.queues,
      sessions: new SessionPool({
        endpoint: options.target,
        name: `lanegate:${name}`,
        identity: new ControlKeys(name).identity,
        waits,
        log,
        now,
        onRetry: () => void records.count('retries').catch(() => {}),
      }),
      table: () => table,
      options: options.processor,
      log,
      now,
    };
    const gates = new GateRunner(this.context);
    this.#jobs = new JobProcessors(
      this.context,
      new LaneProcessor(this.context, gates),
      gates,
      this.#abort.signal,
    );
    this.#holder = options.source && new IngestHolder(this.context, options.source, options.holder);
    this.#watchdog = new Watchdog(this.context, options.retention);
  }

  /** Lanes that this process works on right now. */
  get activeLanes(): readonly number[] {
    return [...this.#jobs.activeLanes].sort((a, b) => a - b);
  }

  /** True while the queue's Redis answers. */
  get queueConnected(): boolean {
    return this.#redis.status === 'ready';
  }

  /** Shows the process to the others and to status, before it takes part. */
  register(): void {
    this.#registered ??= this.#keepRegistered();
  }

  start(): void {
    const { roles } = this.#options;
    this.#started = true;
    const holder = this.#holder;
    if (roles.includes('ingest') && holder) {
      this.#others.push(this.#worker(INGEST_QUEUE, (job, token) => this.#jobs.ingest(holder, job, token)));
    }
    if (roles.includes('gate'))
      this.#others.push(this.#worker(GATE_QUEUE, (job, token) => this.#jobs.gate(job, token)));
    this.register();
    // With its roles, at once; if that fails, the next turn does it.
    this.#register().catch(() => {});
    this.#supervisor = this.#supervise();
  }

  /** Hands active jobs back and ends within `graceMs`; what is not done then is left to the stalled check. */
  stop(graceMs: number): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    const workers = [...this.#lanes, ...this.#others];
    const closing = workers.map((worker) => worker.close());
    this.#abort.abort();
    this.context.closedGates.close();
    const deadline = sleep(graceMs, new AbortController().signal);
    await Promise.race([Promise.allSettled([...closing, this.#supervisor, this.#registered]), deadline]);
    const goodbye = this.context.redis.hdel(this.context.journal.keys.workers, this.id);
    await Promise.race([goodbye.catch(() => {}), sleep(500, new AbortController().signal)]);
    this.context.sessions.close();
    this.context.laneLogs.close();
    await Promise.race([this.queues.close(), sleep(500, new AbortController().signal)]);
    this.#redis.disconnect();
    await this.#options.source?.close();
  }

  #worker(name: string, process: (job: Job, token: string | undefined) => Promise<unknown>): Worker {
    const { lockMs, log } = this.#options;
    const worker = new Worker(name, process, {
      connection: this.#redis,
      prefix: this.context.journal.keys.prefix,
      concurrency: 1,
      lockDuration: lockMs,
      stalledInterval: Math.max(1_000, lockMs / 2),
      maxStalledCount: 1_000_000_000,
      drainDelay: DRAIN_DELAY_S,
      runRetryDelay: 1_000,
    });
    // One connection's trouble shows on every worker: said once by #connect.
    worker.on('error', (error) => log.debug({ err: error, queue: name }, 'queue worker'));
    worker.on('stalled', (job) =>
      log.warn({ queue: name, job }, 'a job whose worker was lost is taken over'),
    );
    return worker;
  }

  #laneWorker(lane: number): Worker {
    const worker = this.#worker(laneQueue(lane), (job, token) => this.#jobs.lane(job, token));
    worker.on('completed', (_, result: LaneResult) => {
      // Only now: a follow-up that is added while the job is active goes to the same process at once.
      if (result.ended !== 'handed over') return;
      this.queues.addApply(lane, result.to + 1, result.to + 1).catch(() => {});
    });
    return worker;
  }

  /** Looks around once per interval until the process stops. */
  async #supervise(): Promise<void> {
    const { log, processor } = this.#options;
    const { signal } = this.#abort;
    while (!signal.aborted) {
      try {
        await this.#followLanes();
        const session = await this.context.sessions.acquire('target', signal);
        try {
          await this.#watchdog.look(session);
          await session.abandon();
          this.context.sessions.release(session);
        } catch (error) {
          this.context.sessions.drop(session);
          throw error;
        }
      } catch (error) {
        if (!(error instanceof AbortedError)) log.debug({ err: error }, 'the watchdog could not look around');
      }
      // Before the first start there is nothing to watch, and everything waits for it.
      const idleMs = this.#lanes.length === 0 ? Math.min(100, processor.watchdogMs) : processor.watchdogMs;
      await sleep(idleMs, signal).catch(() => {});
    }
  }

  async #followLanes(): Promise<void> {
    const inForce = await this.context.journal.inForce();
    if (!inForce || !this.#options.roles.includes('lanes')) return;
    if (this.#lanes.length < inForce.lanes) await this.queues.assertConcurrency(inForce.lanes);
    while (this.#lanes.length < inForce.lanes) this.#lanes.push(this.#laneWorker(this.#lanes.length));
    while (this.#lanes.length > inForce.lanes) {
      const gone = this.#lanes.pop();
      if (gone) void gone.close().catch(() => {});
    }
  }

  /** Apart from the watchdog, which waits while the target is away: just then status must know who waits. */
  async #keepRegistered(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      await this.#register().catch((error) => this.#options.log.debug({ err: error }, 'not registered'));
      await sleep(REGISTRATION_MS, signal).catch(() => {});
    }
  }

  async #register(): Promise<void> {
    const { roles, holder } = this.#options;
    const { pid } = process;
    this.#jobs.forgetNewer();
    const registration = {
      id: this.id,
      host: hostname(),
      pid,
      roles: this.#started ? roles : [],
      lanes: this.activeLanes,
      ...(roles.includes('ingest') ? { policy: policyFingerprint(holder.policy) } : {}),
      atMs: Date.now(),
      ...(this.#holder?.view ? { ingest: this.#holder.view } : {}),
    };
    const { workers } = this.context.journal.keys;
    const [, alive] = await Promise.all([
      this.#redis.hset(workers, this.id, JSON.stringify(registration)),
      aliveWorkers(this.#redis, this.context.journal.keys, Date.now()),
    ]);
    const sharing = alive.filter((worker) => worker.roles.includes('lanes')).length;
    this.#jobs.lanesMax = fairShare(this.#lanes.length, sharing, this.#holder?.view !== undefined);
  }

  #connect(): Redis {
    const { queue, log } = this.#options;
    const redis = new Redis(queueConnection(queue, `lanegate:${this.#options.name}`));
    redis.on('error', (error: Error) => {
      if (this.#queueLostAtMs !== undefined || this.#abort.signal.aborted) return;
      this.#queueLostAtMs = Date.now();
      log.warn({ queue: queue.display }, `waiting for the queue's Redis: ${safeMessage(error)}`);
    });
    redis.on('ready', () => {
      if (this.#queueLostAtMs === undefined) return;
      log.info(
        { queue: queue.display, ms: Date.now() - this.#queueLostAtMs },
        "the queue's Redis answers again",
      );
      this.#queueLostAtMs = undefined;
    });
    return redis;
  }
}

/** Lanes for one of `processes`: the one that also ingests is half as free for them as the others. */
function fairShare(lanes: number, processes: number, ingests: boolean): number {
  if (processes <= 1) return lanes;
  const besidesIngest = Math.max(1, Math.floor(lanes / (2 * processes)));
  return ingests ? besidesIngest : Math.ceil((lanes - besidesIngest) / (processes - 1));
}
