// The watchdog looks at the whole pipeline once per interval, in one process at a time (an expiring claim), and puts
// right whatever was lost: jobs, wake-ups, pauses without an owner, the ingest job (I8). It also moves the
// low-water mark, trims the journal behind the retention window, and notices a target that went back in time.

import { INGEST_QUEUE } from '../queues/names.ts';
import { lanesWithGap } from '../src/journal/mark.ts';
import type { FencedSession } from '../src/target/session.ts';
import { announce, needsAnnouncing } from './announce.ts';
import type { PipelineContext } from './context.ts';
import { type MarkStep, moveMark } from './mark.ts';

const CONCURRENCY_EVERY_MS = 30_000;
/** Log entries of a stream whose applied part is not worth a trim. */
const TRIM_EVERY_MS = 1_000;
const GONE_AFTER_MS = 60_000;

const OUT_OF_MEMORY = /^OOM /;

type Reached = Awaited<ReturnType<PipelineContext['journal']['seen']>>;

export class Watchdog {
  readonly #context: PipelineContext;
  readonly #retention: { readonly ms: number; readonly bytes: number };
  /** (time, mark) of the last retention window, oldest first. */
  #marks: { readonly atMs: number; readonly mark: number; readonly inBytes: number }[] = [];
  /** Checkpoints at the last look of this process, and what the journal knew to be applied when it was last told to be lost. */
  #last: readonly number[] = [];
  #told: readonly number[] = [];
  #generation = '';
  #assertedAtMs = Number.NEGATIVE_INFINITY;
  #trimmedAtMs = Number.NEGATIVE_INFINITY;
  #trimmedThrough = 0;

  constructor(context: PipelineContext, retention: { ms: number; bytes: number }) {
    this.#context = context;
    this.#retention = retention;
  }

  /** One look. Throws on connection trouble; the next look starts afresh. */
  async look(session: FencedSession): Promise<void> {
    try {
      await this.#lookAround(session);
    } catch (error) {
      if (!OUT_OF_MEMORY.test((error as Error).message)) throw error;
      await this.#makeRoom(session);
    }
  }

  /** What is applied goes at once, whatever the retention window: nothing else can be done in a queue that is full. */
  async #makeRoom(session: FencedSession): Promise<void> {
    const { journal, log } = this.#context;
    const step = await moveMark(this.#context, session);
    if (!step) return;
    const { mark, snapshot } = step;
    const dropped = await journal.trim(snapshot.id, snapshot.lanes, mark.seq, true);
    this.#trimmedThrough = Math.max(this.#trimmedThrough, mark.seq);
    if (dropped > 0)
      log.warn({ items: dropped }, "the queue's Redis is out of memory: what is applied was dropped from it");
  }

  async #lookAround(session: FencedSession): Promise<void> {
    const { queues, records, journal, now, redis, log } = this.#context;
    const [stops, paused] = await Promise.all([records.stops(), this.#operatorPaused(INGEST_QUEUE)]);
    if (!stops.has('ingest') && !paused) {
      await queues.freeIngest();
      await queues.addIngest();
    }
    const claim = journal.keys.claim('watchdog');
    const holdMs = Math.max(100, Math.round(this.#context.options.watchdogMs * 0.8));
    const [claimed, pauses] = await Promise.all([
      redis.set(claim, this.#context.workerId, 'PX', holdMs, 'NX'),
      redis.hkeys(journal.keys.pauses),
    ]);
    if (claimed !== 'OK') return;
    await this.#reconcilePauses(pauses);
    // Read before the checkpoints are: what they are below of was lost, whichever process saw it applied.
    const reached = await journal.seen((await journal.inForce())?.lanes ?? 0);
    const step = await moveMark(this.#context, session);
    if (!step) return;
    this.#noticeRollback(step, reached);
    if (now() - this.#assertedAtMs >= CONCURRENCY_EVERY_MS) {
      await queues.assertConcurrency(step.snapshot.lanes);
      await this.#prune();
      this.#assertedAtMs = now();
    }
    const freed = await queues.freeLanes(step.snapshot.lanes);
    if (freed > 0) log.warn({ freed }, 'queues were stuck: part of their keys was removed');
    // What is committed from here on is announced by whoever commits it, and by the next look.
    if (needsAnnouncing(step.snapshot, step.checkpoints))
      await announce(this.#context, step.checkpoints, { everyLane: true });
    await this.#settle(step);
    await this.#trim(step);
  }

  #noticeRollback({ checkpoints, snapshot }: MarkStep, reached: Reached): void {
    if (snapshot.generation !== this.#generation) [this.#last, this.#told] = [[], []];
    const isOurs = reached.id === snapshot.id && reached.generation === snapshot.generation;
    const seen = isOurs ? reached.seen : [];
    const back = checkpoints.flatMap((seq, lane) => {
      const applied = seen[lane] ?? 0;
      const isNews = applied !== this.#told[lane];
      return seq < Math.max(this.#last[lane] ?? 0, isNews ? applied : 0) ? [lane] : [];
    });
    if (back.length > 0) {
      const gaps = lanesWithGap(snapshot.views, checkpoints);
      this.#context.log.warn(
        { lanes: back, gaps },
        'the target went back in time: applying again from its checkpoints',
      );
      this.#told = seen;
      this.#marks = [];
      this.#trimmedThrough = 0;
    }
    this.#generation = snapshot.generation;
    this.#last = checkpoints;
  }

  /** What is applied weighs nothing any more, also if whoever applied it died before it could say so. */
  async #settle({ checkpoints, snapshot }: MarkStep): Promise<void> {
    const { journal, options } = this.#context;
    const none = { seq: 0, applied: 0, wakeBelowBytes: options.budgetBytes / 2 };
    const done = snapshot.views.filter((view) => (checkpoints[view.lane] ?? 0) >= view.tail);
    for (const { lane, inBytes, outBytes } of done) {
      if (outBytes < inBytes)
        await journal.progress(snapshot.id, { ...none, where: lane, outBytes: inBytes });
    }
    if (done.length === snapshot.lanes && snapshot.gateOutBytes < snapshot.gateInBytes)
      await journal.progress(snapshot.id, { ...none, where: 'g', outBytes: snapshot.gateInBytes });
  }

  /** Drops what is applied for longer than the window, and earlier what exceeds the byte limit. */
  async #trim({ mark, snapshot }: MarkStep): Promise<void> {
    const { journal, now } = this.#context;
    const atMs = now();
    const inBytes = snapshot.views.reduce((sum, view) => sum + view.inBytes, snapshot.gateInBytes);
    this.#marks.push({ atMs, mark: mark.seq, inBytes });
    const old = this.#marks.filter((entry) => entry.atMs <= atMs - this.#retention.ms);
    const heavy = this.#marks.filter((entry) => inBytes - entry.inBytes > this.#retention.bytes);
    const short = heavy.length > old.length;
    const expired = short ? heavy : old;
    const last = expired.at(-1);
    // One step of the mark may weigh more than all that is to be kept.
    const isCoarse = last !== undefined && inBytes - last.inBytes > 2 * this.#retention.bytes;
    const through = (isCoarse ? this.#marks[expired.length] : last)?.mark ?? 0;
    this.#marks = this.#marks.slice(Math.max(0, expired.length - 1));
    if (through <= this.#trimmedThrough || atMs - this.#trimmedAtMs < TRIM_EVERY_MS) return;
    this.#trimmedAtMs = atMs;
    this.#trimmedThrough = through;
    await journal.trim(snapshot.id, snapshot.lanes, through, short);
  }

  /** Registrations and waits of processes that died without a word. */
  async #prune(): Promise<void> {
    const { redis, journal, waits, now } = this.#context;
    const alive = new Set<string>();
    for (const [id, text] of Object.entries(await redis.hgetall(journal.keys.workers))) {
      const atMs = Number(/"atMs":(\d+)/.exec(text)?.[1] ?? 0);
      if (now() - atMs < GONE_AFTER_MS) alive.add(id);
      else await redis.hdel(journal.keys.workers, id);
    }
    await waits.prune(alive);
  }

  async #operatorPaused(queue: string): Promise<boolean> {
    return (await this.#context.redis.hexists(this.#context.journal.keys.pauses, `${queue}|operator`)) === 1;
  }

  /** Every pause has an owner that is alive, and every operator's pause is in force. */
  async #reconcilePauses(pauses: readonly string[]): Promise<void> {
    const { redis, journal, queues, records, now } = this.#context;
    if (pauses.length === 0) return;
    const inForce = await journal.inForce();
    if (inForce) await records.dropVoid(inForce.generation);
    for (const field of pauses) {
      const bar = field.indexOf('|');
      const [queue, owner] = [field.slice(0, bar), field.slice(bar + 1)];
      const lane = queue.startsWith('lane-') ? Number(queue.slice('lane-'.length)) : undefined;
      if (owner.startsWith('gate:') && lane !== undefined) {
        const [, id, seq] = owner.split(':');
        if ((await redis.exists(journal.keys.claim(`gate-${id}-${seq}`))) === 0)
          await queues.gatePause('resume', owner, [lane], now());
      } else if (owner === 'stop' || owner === 'operator') {
        await queues.settlePause(queue);
      }
    }
  }
}
