import type { Redis } from 'ioredis';
import { Journal, type Snapshot } from '../journal/journal.ts';
import { lowWaterMark } from '../journal/mark.ts';
import { Records } from '../journal/records.ts';
import { Waits } from '../journal/waits.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { safeMessage } from '../runtime/log.ts';
import { positionRules } from '../sources/positions.ts';
import type { Position, Source } from '../sources/source.ts';
import type { PipelineStatus, Waiting } from '../status.ts';
import type { Identity } from '../target/control.ts';
import { Outages } from './outages.ts';
import { aliveWorkers, type Registration } from './registration.ts';
import { holderOf, type JournalFacts, type QueueFacts, statusOf } from './status-of.ts';
import { type TargetFacts, TargetView } from './target-view.ts';

const GATES_MAX = 64;
const ANSWER_MS_MAX = 2_500;

export interface ObserverOptions {
  /** The pipeline. */
  readonly name: string;
  readonly version: string;
  /** Connection to the queue's Redis; stays the caller's to close. */
  readonly redis: Redis;
  /** Without it the checkpoints are those that the journal has seen. */
  readonly target: Endpoint | undefined;
  /** Makes the lag exact also while no ingest runs; stays the caller's to close. */
  readonly source?: Source | undefined;
  readonly now: () => number;
}

export interface Observation {
  readonly status: PipelineStatus;
  /** Everything up to here is applied, as computed at this look; the stored mark may be older. */
  readonly applied: { readonly seq: number; readonly position: Position } | undefined;
  /** The replies of everything applied are read, and what they said is recorded. */
  readonly accounted: boolean;
  readonly holder: Registration | undefined;
  /** What the target says that the pipeline is; undefined when it cannot be asked. */
  readonly identity: Identity | undefined;
}

/** Looks at queue, target and journal from outside; changes nothing. Several looks may be under way at once. */
export class Observer {
  readonly #options: ObserverOptions;
  readonly #journal: Journal;
  readonly #records: Records;
  readonly #waits: Waits;
  readonly #target: TargetView;
  readonly #outages = new Outages<'queue' | 'identity'>();
  #kind: string | undefined;

  constructor(options: ObserverOptions) {
    const { name, redis, target } = options;
    this.#options = options;
    this.#journal = new Journal(name, redis);
    this.#records = new Records(redis, this.#journal.keys);
    this.#waits = new Waits(redis, this.#journal.keys, 'observer');
    this.#target = new TargetView(name, target);
    this.#kind = options.source?.kind;
  }

  async status(): Promise<PipelineStatus> {
    return (await this.observe()).status;
  }

  /** Both the queue and the target answer. */
  async ready(): Promise<boolean> {
    const { queue, target } = await this.status();
    return queue.waiting === null && target.waiting === null;
  }

  /** Never throws for a server that is away: the status says so. */
  async observe(): Promise<Observation> {
    const { name, version, now } = this.#options;
    const nowMs = now();
    const head = this.#sourceHead();
    const inForce = await this.#ask(() => this.#journal.inForce(), nowMs);
    const lanes = inForce !== undefined && 'lanes' in inForce ? inForce.lanes : undefined;
    const found = await this.#target.look(lanes, nowMs);
    const target = await this.#judgeIdentity(found, lanes !== undefined, nowMs);
    this.#kind = kindOf(found) ?? this.#kind;
    const queue = await this.#ask(() => this.#queueFacts(target, nowMs), nowMs);
    const facts = 'code' in queue ? undefined : queue;
    const holder = facts && holderOf(facts);
    // Without a target to look at, whoever reads the source says what it is.
    this.#kind ??= holder?.ingest?.kind;
    const { snapshot, applied } = facts?.journal ?? {};
    const unread = unreadEntries(snapshot, await head, this.#options.source) ?? connectedLag(holder);
    const rules = positionRules(this.#kind);
    const status = statusOf({
      name,
      version,
      nowMs,
      queue,
      target,
      source: {
        kind: this.#kind ?? null,
        unread,
        unreadSinceMs: unread === 0 ? undefined : await this.#unreadSinceMs(snapshot, holder),
        unapplied: applied && snapshot && rules?.entriesBehind(applied.position, snapshot.position),
      },
    });
    const accounted = facts?.journal !== undefined && isAccounted(facts.journal);
    return { status, applied, accounted, holder, identity: target.identity };
  }

  /** Idempotent. */
  close(): void {
    this.#target.close();
  }

  async #queueFacts(target: TargetFacts, nowMs: number): Promise<QueueFacts> {
    const { redis } = this.#options;
    const { keys } = this.#journal;
    const [workers, stops, counters, journal] = await Promise.all([
      aliveWorkers(redis, keys, nowMs),
      this.#records.stops(),
      this.#records.counters(),
      this.#journalFacts(target),
    ]);
    const queues = ['ingest', 'gate', ...(journal?.snapshot.views.map(({ lane }) => `lane-${lane}`) ?? [])];
    const [waits, flags, guarantee] = await Promise.all([
      this.#waits.all(new Set(workers.map(({ id }) => id))),
      Promise.all(queues.map((queue) => redis.hexists(`${keys.prefix}:${queue}:meta`, 'paused'))),
      redis.hget(keys.control, 'guarantee'),
    ]);
    const paused = new Set(queues.filter((_, at) => flags[at] === 1));
    return { journal, stops, waits, workers, counters, paused, guarantee };
  }

  async #journalFacts(target: TargetFacts): Promise<JournalFacts | undefined> {
    const inForce = await this.#journal.inForce();
    if (inForce === undefined) return undefined;
    const { lanes, generation } = inForce;
    const seen = await this.#options.redis.hmget(
      this.#journal.keys.state,
      ...Array.from({ length: lanes }, (_, lane) => `seen:${lane}`),
    );
    const checkpoints = Array.from({ length: lanes }, (_, lane) => {
      const checkpoint = target.checkpoints[lane];
      return checkpoint?.generation === generation ? checkpoint.seq : Number(seen[lane] ?? 0);
    });
    const snapshot = await this.#journal.snapshot(lanes, checkpoints);
    if (snapshot === undefined) return undefined;
    const behind = snapshot.views.filter((view) => (checkpoints[view.lane] ?? 0) < view.tail);
    const from = Math.min(...behind.map((view) => checkpoints[view.lane] ?? 0));
    const gates = behind.length === 0 ? [] : await this.#journal.gatesBehind(from, GATES_MAX);
    return { snapshot, checkpoints, gates, applied: await this.#applied(snapshot, checkpoints) };
  }

  async #applied(snapshot: Snapshot, checkpoints: readonly number[]): Promise<JournalFacts['applied']> {
    const seq = lowWaterMark(snapshot.head, snapshot.views, checkpoints);
    if (seq === undefined) return undefined;
    if (seq === snapshot.head) return { seq, position: snapshot.position };
    const resume = await this.#journal.resumePoint(snapshot.id, seq);
    return resume && { seq, position: resume.position };
  }

  /** A journal whose target knows nothing of it: something that no lane can cure. */
  async #judgeIdentity(target: TargetFacts, hasJournal: boolean, nowMs: number): Promise<TargetFacts> {
    if (!target.answered || target.identity !== undefined || !hasJournal) {
      this.#outages.end('identity');
      return target;
    }
    const flush = await this.#journal.flushRecord().catch(() => undefined);
    if (flush?.intent) {
      const hint =
        'a gate has flushed the target and writes back what lanegate keeps there; it goes on by itself';
      return { ...target, waiting: this.#outages.begin('identity', 'GATE', hint, nowMs) };
    }
    const hint = `the target knows nothing of pipeline "${this.#options.name}", but the queue does: was it emptied, or is --target another server?`;
    return { ...target, waiting: this.#outages.begin('identity', 'NO_IDENTITY', hint, nowMs) };
  }

  async #ask<T>(question: () => Promise<T>, nowMs: number): Promise<T | Waiting> {
    const { redis } = this.#options;
    try {
      // A client that waits for its server would keep the question, and all that follow, until that comes back.
      if (redis.status !== 'ready') throw new Error(`not connected (${redis.status})`);
      const answer = await within(question(), ANSWER_MS_MAX);
      this.#outages.end('queue');
      return answer;
    } catch (error) {
      const message = safeMessage(error);
      const code =
        /^(LOADING|NOAUTH|NOPERM|OOM|BUSY|READONLY|MASTERDOWN)\b/.exec(message)?.[1] ?? 'CONNECTION';
      return this.#outages.begin('queue', code, `the queue's Redis does not answer: ${message}`, nowMs);
    }
  }

  async #unreadSinceMs(
    snapshot: Snapshot | undefined,
    holder: Registration | undefined,
  ): Promise<number | undefined> {
    const { source } = this.#options;
    if (source === undefined || snapshot === undefined) return holder?.ingest?.unreadSinceMs ?? undefined;
    return await within(source.timeBehind(snapshot.position), ANSWER_MS_MAX).catch(() => undefined);
  }

  async #sourceHead(): Promise<Position | undefined> {
    const { source } = this.#options;
    if (source === undefined) return undefined;
    try {
      return (await within(source.head(), ANSWER_MS_MAX)).position;
    } catch {
      // Whether the source answers is for the ingest to say; here it only sharpens the lag.
      return undefined;
    }
  }
}

function isAccounted({ snapshot, checkpoints }: JournalFacts): boolean {
  return snapshot.views.every(({ lane, seen }) => (seen ?? -1) >= (checkpoints[lane] ?? 0));
}

function kindOf({ identity }: TargetFacts): string | undefined {
  return identity?.source.split(':', 1)[0];
}

function connectedLag(holder: Registration | undefined): number | undefined {
  return holder?.ingest?.connected === true ? (holder.ingest.lagEntries ?? undefined) : undefined;
}

function unreadEntries(
  snapshot: Snapshot | undefined,
  head: Position | undefined,
  source: Source | undefined,
): number | undefined {
  if (snapshot === undefined || head === undefined || source === undefined) return undefined;
  if (source.covers(snapshot.position, head)) return 0;
  return Math.max(1, source.entriesBehind(snapshot.position, head) ?? 1);
}

async function within<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
