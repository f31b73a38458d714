// What BullMQ calls: one function per queue. A job ends in one of three ways:
//   done              the result says in words what happened
//   handed back       WaitingError behind moveToWait: a clean stop, or a job of a newer version; the job is at the head again
//   failed            a stopped lane; the reason is on the board, the lane's queue is paused
// Order and safety rest on none of it.

import { type Job, UnrecoverableError, WaitingError } from 'bullmq';
import {
  type GateResult,
  gateJobSchema,
  ingestJobSchema,
  JOB_VERSION,
  type LaneResult,
  laneJobSchema,
} from '../queues/jobs.ts';
import { GATE_QUEUE, INGEST_QUEUE } from '../queues/names.ts';
import type { WaitPlace } from '../src/journal/waits.ts';
import { sleep } from '../src/runtime/backoff.ts';
import { AbortedError } from '../src/runtime/errors.ts';
import type { PipelineContext } from './context.ts';
import type { GateRunner } from './gate.ts';
import type { GateEnd } from './gate-attempt.ts';
import type { IngestHolder } from './ingest-holder.ts';
import type { LaneProcessor } from './lane.ts';
import { LaneStopped } from './lane-stop.ts';

const GIVE_AWAY_MS = 100;
/** How long a job of a newer version is left to others before it is looked at again. */
const NEWER_MS = 500;
const NEWER_FORGOTTEN_MS = 5 * NEWER_MS;

export class JobProcessors {
  readonly #context: PipelineContext;
  readonly #lanes: LaneProcessor;
  readonly #gates: GateRunner;
  readonly #signal: AbortSignal;
  /** Lanes that this process works on right now. */
  readonly activeLanes = new Set<number>();
  /** Lanes that are its fair share; the supervisor keeps it current. */
  lanesMax = Number.POSITIVE_INFINITY;

  /** Queues at whose head a job of a newer version was seen, and when. */
  readonly #newer = new Map<string, { readonly place: WaitPlace; readonly seenMs: number }>();

  constructor(context: PipelineContext, lanes: LaneProcessor, gates: GateRunner, signal: AbortSignal) {
    this.#context = context;
    this.#lanes = lanes;
    this.#gates = gates;
    this.#signal = signal;
  }

  async lane(job: Job, token: string | undefined): Promise<LaneResult> {
    await this.#handBackIfNewer(job, token);
    const { lane, kind } = laneJobSchema.parse(job.data);
    this.activeLanes.add(lane);
    try {
      const result = await this.#lanes.run(lane, kind, this.#signal);
      if (result.ended === 'handed over' && this.activeLanes.size > this.lanesMax)
        return await this.#giveAway(lane, job, token);
      return result;
    } catch (error) {
      if (error instanceof LaneStopped) throw new UnrecoverableError(error.message);
      return await this.#handBack(job, token, error);
    } finally {
      this.activeLanes.delete(lane);
    }
  }

  async gate(job: Job, token: string | undefined): Promise<GateResult> {
    await this.#handBackIfNewer(job, token);
    const { gate } = gateJobSchema.parse(job.data);
    const startedMs = this.#context.now();
    try {
      const end = await this.#gates.run(gate, this.#signal);
      return { ended: GATE_ENDS[end], ms: this.#context.now() - startedMs };
    } catch (error) {
      return await this.#handBack(job, token, error);
    }
  }

  async ingest(holder: IngestHolder, job: Job, token: string | undefined): Promise<{ ended: string }> {
    await this.#handBackIfNewer(job, token);
    ingestJobSchema.parse(job.data);
    try {
      const ended = await holder.run(this.#signal);
      return { ended };
    } catch (error) {
      return await this.#handBack(job, token, error);
    }
  }

  /** Puts the job back at the head and stays away from it for long enough that another process takes it. */
  async #giveAway(lane: number, job: Job, token: string | undefined): Promise<never> {
    this.activeLanes.delete(lane);
    await job.moveToWait(token);
    await sleep(GIVE_AWAY_MS, this.#signal).catch(() => {});
    throw new WaitingError();
  }

  /** A clean stop puts the job back at the head, so that another process takes over at once. */
  async #handBack(job: Job, token: string | undefined, error: unknown): Promise<never> {
    if (error instanceof WaitingError) throw error;
    if (!(error instanceof AbortedError)) {
      this.#context.log.error(
        { err: error, queue: job.queueName, job: job.name },
        'a job failed; the watchdog sees to it that the work goes on',
      );
      throw error;
    }
    await job.moveToWait(token);
    throw new WaitingError();
  }

  /** What a newer process has added is its to take: the job goes back to the head, and this process stays away for a while. */
  async #handBackIfNewer(job: Job, token: string | undefined): Promise<void> {
    const version = (job.data as { v?: unknown }).v;
    if (version === undefined || Number(version) <= JOB_VERSION) return;
    const { waits, log, now } = this.#context;
    const place = placeOf(job.queueName);
    const hint = `a job of a newer version (${Number(version)}, known: ${JOB_VERSION}) is left to newer processes: update this one, or start a newer one`;
    if (await waits.begin(place, 'NEWER_JOB', hint, now())) log.warn({ queue: job.queueName }, hint);
    this.#newer.set(job.queueName, { place, seenMs: now() });
    await job.moveToWait(token);
    await sleep(NEWER_MS, this.#signal).catch(() => {});
    throw new WaitingError();
  }

  /** Somebody has taken the newer jobs that are not met any more: called once in a while. */
  forgetNewer(): void {
    const { waits, now, log } = this.#context;
    for (const [queue, { place, seenMs }] of this.#newer) {
      if (now() - seenMs < NEWER_FORGOTTEN_MS) continue;
      this.#newer.delete(queue);
      waits.end(place).catch((err) => log.debug({ err, queue }, 'a wait was not ended'));
    }
  }
}

/** Where status shows what becomes of a queue's jobs. */
function placeOf(queue: string): WaitPlace {
  if (queue === INGEST_QUEUE) return 'ingest';
  return queue === GATE_QUEUE ? 'gate' : `lane:${Number(queue.replace(/^\D+/, ''))}`;
}

const GATE_ENDS: Readonly<Record<GateEnd, GateResult['ended']>> = {
  executed: 'executed',
  failed: 'executed',
  'already executed': 'already executed',
  waiting: 'early',
  claimed: 'early',
  stopped: 'stopped',
  void: 'void',
};

/** One line about a job for people: `lane 3: seq 1200..1890, 87 commands, 11 KiB, 4 ms`. */
export function describeJob(queueName: string, job: unknown): string {
  const { kind, lane, gate, command, from, to, commands, bytes, ms, ended, lanes } = job as Record<
    string,
    unknown
  >;
  if (queueName === 'ingest') return 'ingest';
  if (kind === 'gate')
    return `gate ${gate}: ${command}, lanes ${Array.isArray(lanes) ? lanes.join(',') : '?'}${ms === undefined ? '' : `, ${ended}, ${ms} ms`}`;
  const what =
    kind === 'barrier' ? `lane ${lane}: up to gate ${gate} (${command})` : `lane ${lane}: seq ${from}..${to}`;
  if (commands === undefined) return what;
  return `${what}, ${commands} commands, ${bytesText(Number(bytes))}, ${ms} ms`;
}

function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${Math.round(bytes / 1024)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}
