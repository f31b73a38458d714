import { FlowProducer, Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import type { GateItem } from '../src/journal/item.ts';
import type { JournalKeys } from '../src/journal/keys.ts';
import { runScript } from '../src/journal/scripts.ts';
import { type GateJob, JOB_VERSION, type LaneJob } from './jobs.ts';
import { GATE_QUEUE, INGEST_QUEUE, laneQueue } from './names.ts';

const KEEP_COMPLETED = 100;
const KEEP_FAILED = 50;
const FLOW_EVERY_MS = 1_000;
const APPLY_ID = 'apply';
/** One holder at a time; the id is free again as soon as the job is gone. */
const INGEST_JOB_ID = 'ingest-holder';

const jobOptions = {
  attempts: 1,
  removeOnComplete: { count: KEEP_COMPLETED },
  removeOnFail: { count: KEEP_FAILED },
};

/** The pipeline's BullMQ queues, seen from the side that adds jobs. One connection serves them all. */
export class QueueSet {
  readonly #redis: Redis;
  readonly #keys: JournalKeys;
  readonly #lanes: Queue[] = [];
  #gate: Queue | undefined;
  #ingest: Queue | undefined;
  #flows: FlowProducer | undefined;
  #flowAtMs = Number.NEGATIVE_INFINITY;

  constructor(redis: Redis, keys: JournalKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  // BullMQ writes to the server as soon as a queue is opened: none is before it is used.

  get gate(): Queue {
    this.#gate ??= this.#queue(GATE_QUEUE);
    return this.#gate;
  }

  get ingest(): Queue {
    this.#ingest ??= this.#queue(INGEST_QUEUE);
    return this.#ingest;
  }

  /** Lane queues 0 .. lanes-1. */
  lanes(lanes: number): Queue[] {
    return Array.from({ length: lanes }, (_, lane) => this.lane(lane));
  }

  lane(lane: number): Queue {
    const known = this.#lanes[lane];
    if (known) return known;
    const queue = this.#queue(laneQueue(lane));
    this.#lanes[lane] = queue;
    return queue;
  }

  /** One active job per queue. A fetch gate, no exclusion: safety comes from the target's checkpoints. */
  async assertConcurrency(lanes: number): Promise<void> {
    await Promise.all([...this.lanes(lanes), this.ingest].map((queue) => queue.setGlobalConcurrency(1)));
  }

  /** At most one waits and one is active per lane: adding again costs little and loses nothing. */
  async addApply(lane: number, from: number, to: number): Promise<void> {
    const job: LaneJob = { v: JOB_VERSION, kind: 'apply', lane, from, to };
    await this.lane(lane).add('apply', job, {
      ...jobOptions,
      deduplication: { id: APPLY_ID, keepLastIfActive: true },
    });
  }

  /**
   * A flow of 8 lanes costs as much as a gate without one takes several times over: where gates follow each other
   * closely, one in FLOW_EVERY_MS shows what is going on.
   */
  flowIsDue(): boolean {
    return performance.now() - this.#flowAtMs >= FLOW_EVERY_MS;
  }

  /** The rendezvous that people see: a parent in the gate queue, a barrier child in each lane queue. */
  async addGate(journal: string, gate: GateItem): Promise<void> {
    this.#flowAtMs = performance.now();
    const parent: GateJob = {
      v: JOB_VERSION,
      kind: 'gate',
      gate: gate.seq,
      lanes: [...gate.lanes],
      command: gate.title,
    };
    await this.#flowProducer().add({
      name: gate.title,
      queueName: GATE_QUEUE,
      data: parent,
      opts: { ...jobOptions, jobId: `gate-${journal}-${gate.seq}` },
      children: gate.lanes.map((lane) => ({
        name: 'barrier',
        queueName: laneQueue(lane),
        data: {
          v: JOB_VERSION,
          kind: 'barrier',
          lane,
          gate: gate.seq,
          command: gate.title,
        } satisfies LaneJob,
        // A child that is removed or fails must not leave its parent waiting for ever.
        opts: { ...jobOptions, jobId: `barrier-${journal}-${gate.seq}`, ignoreDependencyOnFailure: true },
      })),
    });
  }

  async addIngest(): Promise<void> {
    const options = { attempts: 1, removeOnComplete: true, removeOnFail: true, jobId: INGEST_JOB_ID };
    await this.ingest.add('ingest', { v: JOB_VERSION, kind: 'ingest' }, options);
  }

  /** Frees lane queues of what would keep them still for ever: see orphans.lua. Returns how much there was. */
  async freeLanes(lanes: number): Promise<number> {
    const queues = Array.from({ length: lanes }, (_, lane) => laneQueue(lane));
    return await this.#free(queues, [`de:${APPLY_ID}`, `dn:${APPLY_ID}`], '');
  }

  /** The same for the ingest job, whose id is fixed. */
  async freeIngest(): Promise<number> {
    return await this.#free([INGEST_QUEUE], [INGEST_JOB_ID], INGEST_JOB_ID);
  }

  async #free(queues: readonly string[], blocking: readonly string[], job: string): Promise<number> {
    const ofQueue = ['meta', 'marker', 'wait', 'active', ...blocking];
    const keys = queues.flatMap((queue) => ofQueue.map((key) => `${this.#keys.prefix}:${queue}:${key}`));
    const args = queues.flatMap((queue) => [queue, job]);
    return Number(await runScript(this.#redis, 'orphans', [this.#keys.pauses, ...keys], args));
  }

  /**
   * Pauses or resumes lane queues in the name of `owner`; returns how many changed. `held`: an operator has paused one of those
   * that were to be paused, and none is.
   */
  async gatePause(
    what: 'pause' | 'resume',
    owner: string,
    lanes: readonly number[],
    nowMs: number,
  ): Promise<{ readonly changed: number; readonly held: boolean }> {
    const queues = lanes.map((lane) => `${this.#keys.prefix}:${laneQueue(lane)}`);
    const keys = queues.flatMap((key) => [`${key}:meta`, `${key}:marker`, `${key}:wait`]);
    const names = lanes.map((lane) => laneQueue(lane));
    const args = [what, owner, nowMs, ...names];
    const [changed, held] = (await runScript(this.#redis, 'pause', [this.#keys.pauses, ...keys], args)) as [
      number,
      number,
    ];
    return { changed, held: held === 1 };
  }

  /** Pauses the queue in the name of `owner`, unless somebody resumes it in the same moment. */
  async pauseAs(owner: 'operator' | 'stop', queue: string, record: string | number): Promise<void> {
    await this.#redis.hset(this.#keys.pauses, `${queue}|${owner}`, record);
    await this.settlePause(queue);
  }

  /** Pauses the queue if an operator or a stop owns a pause of it, resumes it if its stop is over. True if it changed. */
  async settlePause(queue: string): Promise<boolean> {
    const ofQueue = ['meta', 'marker', 'wait'].map((key) => `${this.#keys.prefix}:${queue}:${key}`);
    const keys = [this.#keys.pauses, this.#keys.stops, ...ofQueue];
    const stopPlace = queue.replace('lane-', 'lane:');
    return (await runScript(this.#redis, 'pause-owners', keys, [queue, stopPlace])) === 1;
  }

  /** Lanes whose queue is paused, but not by a gate (pause.lua tells them apart). */
  async pausedByOperator(lanes: readonly number[]): Promise<Set<number>> {
    const flags = await Promise.all(
      lanes.map((lane) => this.#redis.hget(`${this.#keys.prefix}:${laneQueue(lane)}:meta`, 'paused')),
    );
    return new Set(lanes.filter((_, at) => flags[at] !== null && flags[at] !== 'gate'));
  }

  async close(): Promise<void> {
    const all = [...this.#lanes, this.#gate, this.#ingest, this.#flows];
    await Promise.allSettled(all.map((opened) => opened?.close()));
  }

  #flowProducer(): FlowProducer {
    if (this.#flows) return this.#flows;
    const flows = new FlowProducer({ connection: this.#redis, prefix: this.#keys.prefix });
    flows.on('error', () => {});
    this.#flows = flows;
    return flows;
  }

  #queue(name: string): Queue {
    const queue = new Queue(name, { connection: this.#redis, prefix: this.#keys.prefix });
    // Connection trouble is reported by the connection's owner, once, not by every queue on it.
    queue.on('error', () => {});
    return queue;
  }
}
