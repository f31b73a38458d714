// The gate: executes what spans lanes, in exactly its place.
//
//   verify   every lane of the gate has reached its marker (its checkpoint in the target says so)
//   pause    the lanes' queues, recorded; for people, and against waste. Never before the lanes have arrived: deadlock
//   execute  one EXEC fenced on all of the lanes' checkpoints, which it moves to the gate's seq
//   resume   what was paused here
//   announce the lanes: what stood behind the markers may now run
//
// Any worker may do it (the gate's own job, or the lane that arrives last), any number of times: a gate whose lanes
// have all passed it is closed, and the fence lets one execution through. The claim only saves work (I3, I4, I8).

import { GATE_QUEUE } from '../queues/names.ts';
import type { GateItem } from '../src/journal/item.ts';
import type { Step as LaneStep } from '../src/journal/journal.ts';
import { gateFence, gateWrites, planFenced } from '../src/protocol/gate-fence.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { type Batch, itemBytes } from '../src/target/plan.ts';
import { LOSSES_TOLD, refusalCode, refusalHint, refusalOf } from '../src/target/refusal.ts';
import type { FencedSession } from '../src/target/session.ts';
import { ConnectionLost } from '../src/wire/connection.ts';
import { type BatchOutcome, ReplyError } from '../src/wire/replies.ts';
import { announceAll } from './announce.ts';
import { Arrivals } from './arrivals.ts';
import type { PipelineContext } from './context.ts';
import { type FlushGate, flushOf, runFlush, settleFlush } from './flush-gate.ts';
import type { Attempt } from './gate-attempt.ts';
import {
  controlKeysGone,
  cutForAnotherTarget,
  passedByHand,
  stopGate,
  stopLanesBehind,
} from './gate-stop.ts';
import { countLateDeadlines } from './late-deadlines.ts';
import { judge, leaveOut, nameOf, reasonOf, recordErrors } from './poison.ts';

/** `failed`: it has executed, and its lanes are stopped behind it. */
export type GateEnd = 'executed' | 'failed' | 'already executed' | 'waiting' | 'claimed' | 'stopped' | 'void';

/**
 * Advisory: how long others leave a gate alone. While its EXEC runs the target answers nobody, so that a helper who comes
 * later finds it closed.
 */
const CLAIM_MS = 2_000;

const ALL_WELL = { kind: 'committed', errors: [], replies: 1 } as const;

/** A lane at its marker, as its job knows it. */
interface Arrival {
  readonly lane: number;
  readonly journalId: string;
  readonly generation: string;
  readonly signal: AbortSignal;
}

type Step = GateEnd | { readonly retryAfter: 'now' | 'backoff' | 'long' };

export class GateRunner {
  readonly #context: PipelineContext;
  readonly #arrivals: Arrivals;
  /** The gate that lanes here wait for, read while the last of them is on its way. */
  #ahead:
    | { readonly id: string; readonly seq: number; readonly item: Promise<GateItem | undefined> }
    | undefined;

  constructor(context: PipelineContext) {
    this.#context = context;
    this.#arrivals = new Arrivals(context.journal, { by: context.workerId, ms: CLAIM_MS });
  }

  /**
   * From the lane whose job has come to the marker: a try if it is the last to arrive. The lane goes on by itself and
   * needs no announcement. `done`: what it has not told yet.
   */
  async arrive(
    gate: { readonly seq: number; readonly lanes: number },
    at: Arrival,
    done: LaneStep | undefined,
  ): Promise<GateEnd> {
    const { journal, redis } = this.#context;
    const id = at.journalId;
    const hint = await this.#arrivals.tell(id, gate, at.lane, done);
    if (hint === 'void') return 'void';
    if (hint === 'wait') {
      if (this.#ahead?.seq !== gate.seq) this.#readAhead(id, gate.seq);
      return 'waiting';
    }
    try {
      return await this.#claimed(gate.seq, { id, generation: at.generation }, at.signal, at.lane);
    } finally {
      // Nobody waits for it: it leaves behind what the gate wrote, and without it the claim ends by itself.
      redis.del(journal.keys.gateClaim(id, gate.seq)).catch(() => {});
    }
  }

  /** From the gate's own job: claims the gate and tries it. */
  async run(seq: number, signal: AbortSignal): Promise<GateEnd> {
    const { journal, redis, workerId } = this.#context;
    const inForce = await journal.inForce();
    if (!inForce) return 'void';
    const claim = journal.keys.gateClaim(inForce.id, seq);
    if ((await redis.set(claim, workerId, 'PX', CLAIM_MS, 'NX')) !== 'OK') return 'claimed';
    try {
      return await this.#claimed(seq, inForce, signal, undefined);
    } finally {
      await redis.del(claim);
    }
  }

  #readAhead(id: string, seq: number): void {
    const item = this.#context.journal.readGate(seq);
    item.catch(() => {});
    this.#ahead = { id, seq, item };
  }

  #read(id: string, seq: number): Promise<GateItem | undefined> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead?.id === id && ahead.seq === seq ? ahead.item : this.#context.journal.readGate(seq);
  }

  async #claimed(
    seq: number,
    inForce: { readonly id: string; readonly generation: string },
    signal: AbortSignal,
    from: number | undefined,
  ): Promise<GateEnd> {
    const { journal, records, redis, queues, now } = this.#context;
    const { id, generation } = inForce;
    const [item, stops, skips, held] = await Promise.all([
      this.#read(id, seq),
      records.stops(),
      records.skips(generation, 'gate'),
      redis.hexists(journal.keys.pauses, `${GATE_QUEUE}|operator`),
    ]);
    if (stops.get(`gate:${seq}`)?.generation === generation) return 'stopped';
    // A paused queue holds back the gate's own job only; the lanes that help must hold as well.
    if (held === 1) return 'waiting';
    if (!item || item.generation !== generation) return 'void';
    // A lane that is stopped does not pass its marker either.
    if (item.lanes.some((lane) => stops.get(`lane:${lane}`)?.generation === generation)) return 'waiting';
    const attempt: Attempt = {
      item,
      journalId: id,
      generation,
      signal,
      skips: new Set(skips.keys()),
      owner: `gate:${id}:${seq}`,
      paused: false,
      fenced: false,
      flushed: undefined,
    };
    try {
      return await this.#untilDecided(attempt, journal.keys.gateClaim(id, seq), from);
    } finally {
      // Whatever happened, the lanes must be able to move: others may help from here on.
      if (attempt.paused) await queues.gatePause('resume', attempt.owner, item.lanes, now());
    }
  }

  async #untilDecided(attempt: Attempt, claim: string, except: number | undefined): Promise<GateEnd> {
    const { sessions, redis, waits, records } = this.#context;
    const backoff = new Backoff({ minMs: 20, maxMs: 2_000 });
    const slow = new Backoff({ minMs: 1_000, maxMs: 10_000 });
    let losses = 0;
    for (;;) {
      const session = await sessions.acquire('gate', attempt.signal);
      let step: Step;
      try {
        step = await this.#attempt(attempt, session, except);
        await session.abandon();
        sessions.release(session);
      } catch (error) {
        sessions.drop(session);
        if (!(error instanceof ConnectionLost)) throw error;
        await records.count('retries');
        if (++losses >= LOSSES_TOLD)
          await waits.begin('gate', 'CONNECTION', refusalHint('CONNECTION'), this.#context.now());
        step = { retryAfter: 'backoff' };
      }
      if (typeof step === 'string') {
        await waits.end('gate');
        return step;
      }
      // Not by a timer: a gate that waits for a reply which never comes must let others help.
      await redis.set(claim, this.#context.workerId, 'PX', CLAIM_MS);
      if (step.retryAfter === 'now') continue;
      await sleep((step.retryAfter === 'backoff' ? backoff : slow).next(), attempt.signal);
    }
  }

  async #attempt(attempt: Attempt, session: FencedSession, except: number | undefined): Promise<Step> {
    const { control } = this.#context;
    const { item } = attempt;
    let values: readonly (string | null)[];
    try {
      // A lane that comes last knows of the others' arrival; what is paused too early is resumed at once.
      const fence = session.fence(gateFence(control, item));
      const pause = except === undefined ? undefined : this.#pause(attempt);
      const [read, held] = await bothEnded(fence, pause);
      if (held) return 'waiting';
      values = read;
    } catch (error) {
      if (error instanceof ReplyError) return await this.#refused(error);
      throw error;
    }
    const plan = planFenced(item, values, session.db, { skips: attempt.skips });
    if (plan.kind === 'control keys gone') return await this.#controlKeysGone(attempt, session);
    if (plan.kind === 'closed') {
      if (attempt.flushed) {
        await session.abandon();
        return await this.#closed(attempt, session, attempt.flushed, ALL_WELL, except);
      }
      if (attempt.fenced) await this.#context.records.count('fenced');
      return 'already executed';
    }
    if (plan.kind === 'waiting') return 'waiting';
    if (plan.kind === 'foreign') return 'void';
    if (plan.kind === 'mixed') {
      await stopGate(this.#context, attempt, passedByHand(attempt.item, plan.seq));
      return 'stopped';
    }

    if (await this.#pause(attempt)) return 'waiting';
    await failpoint('gate-after-pause');
    if (item.erases && plan.batch.count > 0 && session.traits.flushAlone)
      return await this.#flushAlone(attempt, session, plan.batch, except);
    const outcome = await this.#execute(attempt, session, plan.batch, plan.through, values);
    await failpoint('gate-after-exec');
    if (outcome.kind === 'fenced') {
      // By a rival, if the gate is closed now; the low-water mark, which an erasing gate watches too, moves all the time.
      attempt.fenced = true;
      return { retryAfter: 'now' };
    }
    if (outcome.kind === 'aborted') return await this.#aborted(attempt, session, outcome, plan.batch);
    return await this.#closed(attempt, session, plan.batch, outcome, except);
  }

  /** True when an operator holds a lane: it does not pass its marker, and nothing is paused. */
  async #pause(attempt: Attempt): Promise<boolean> {
    if (attempt.paused) return false;
    attempt.paused = true;
    const { queues, now } = this.#context;
    const { held } = await queues.gatePause('pause', attempt.owner, attempt.item.lanes, now());
    attempt.paused = !held;
    return held;
  }

  /** Where a flush cannot stand beside the writes of the checkpoints. */
  async #flushAlone(
    attempt: Attempt,
    session: FencedSession,
    batch: Batch,
    except: number | undefined,
  ): Promise<Step> {
    const { waits, now } = this.#context;
    await session.abandon();
    const command = flushOf(batch);
    if (command === undefined) {
      await stopGate(this.#context, attempt, cutForAnotherTarget(attempt.item));
      return 'stopped';
    }
    const { item, journalId } = attempt;
    const gate = { item, journalId, command, sent: false } as FlushGate;
    const end = await runFlush(this.#context, session, gate);
    // Sent from here, and the rest done by somebody who came to help.
    if (gate.sent) attempt.flushed = batch;
    if (end.kind === 'look again') return { retryAfter: 'now' };
    if (end.kind === 'flushed') {
      return await this.#closed(attempt, session, batch, ALL_WELL, except);
    }
    if (end.outcome.kind === 'aborted') return await this.#refused(judge(end.outcome).error);
    await waits.begin(
      'gate',
      'NOT_FLUSHED',
      'the target does not flush: it is saving or scanning, or its read cache is on (CONFIG SET cache-model 0)',
      now(),
    );
    return { retryAfter: 'backoff' };
  }

  #execute(
    attempt: Attempt,
    session: FencedSession,
    batch: Batch,
    through: number,
    values: readonly (string | null)[],
  ): Promise<BatchOutcome> {
    const { control, options } = this.#context;
    const sets = gateWrites(control, attempt.item, values, batch, through);
    return session.commit(batch, sets, { timeoutMs: options.gateTimeoutMs }).then(({ outcome }) => outcome);
  }

  async #closed(
    attempt: Attempt,
    session: FencedSession,
    batch: Batch,
    outcome: Extract<BatchOutcome, { kind: 'committed' }>,
    except: number | undefined,
  ): Promise<'executed' | 'failed'> {
    const { journal, queues, records, now, options } = this.#context;
    const { item, journalId, generation } = attempt;
    await failpoint('gate-after-exec-before-resume');
    if (batch.dropped > 0) await records.count('duplicatesDropped', batch.dropped);
    const failed = await recordErrors(this.#context, generation, item.lanes, batch, outcome.errors);
    const stopped = failed !== undefined && options.onPoison === 'stop';
    if (stopped) await stopLanesBehind(this.#context, attempt, failed);
    await countLateDeadlines(this.#context, batch);
    const [asleep] = await Promise.all([
      journal.gateClosed(journalId, item, {
        outBytes: item.bytesBefore + itemBytes(item),
        applied: batch.run,
        wakeBelowBytes: options.budgetBytes / 2,
        stopped,
      }),
      queues.gatePause('resume', attempt.owner, item.lanes, now()),
    ]);
    attempt.paused = false;
    await failpoint('gate-after-resume');
    const others = (asleep ?? []).filter((lane) => lane !== except);
    await Promise.all(others.map((lane) => queues.addApply(lane, item.seq + 1, item.seq + 1)));
    if (queues.flowIsDue()) await announceAll(this.#context, session, { except });
    return stopped ? 'failed' : 'executed';
  }

  async #aborted(
    attempt: Attempt,
    session: FencedSession,
    outcome: Extract<BatchOutcome, { kind: 'aborted' }>,
    batch: Batch,
  ): Promise<Step> {
    const judged = judge(outcome);
    if (judged.refusal !== 'poison') return await this.#refused(judged.error);
    const blamed = judged.index === undefined ? undefined : batch.commandAt(judged.index);
    const seq = blamed?.seq ?? attempt.item.seq;
    const reason = reasonOf(judged.error, blamed?.args ?? []);
    if (this.#context.options.onPoison === 'dead-letter' && blamed) {
      const place = {
        stop: `gate:${attempt.item.seq}`,
        skip: 'gate',
        generation: attempt.generation,
        at: attempt.item.first,
        journalId: attempt.journalId,
      } as const;
      await leaveOut(this.#context, place, blamed, reason);
      attempt.skips.add(seq);
      return { retryAfter: 'now' };
    }
    await this.#applyPrefix(attempt, session, seq);
    await stopGate(this.#context, attempt, { seq, ...nameOf(this.#context, blamed?.args ?? []), reason });
    return 'stopped';
  }

  /** Applies the segment's commands before the one that stops it. */
  async #applyPrefix(attempt: Attempt, session: FencedSession, seq: number): Promise<void> {
    if (session.closed) {
      // What the server called a protocol error has ended the connection.
      const { sessions } = this.#context;
      const another = await sessions.acquire('gate', attempt.signal);
      return await this.#applyPrefix(attempt, another, seq).finally(() => sessions.drop(another));
    }
    const values = await session.fence(gateFence(this.#context.control, attempt.item));
    // Planned with what this fence read, not with what was read before: somebody else may have applied the prefix.
    const plan = planFenced(attempt.item, values, session.db, { skips: attempt.skips, before: seq });
    if (plan.kind !== 'run' || plan.batch.count === 0) return;
    const outcome = await this.#execute(attempt, session, plan.batch, plan.through, values);
    if (outcome.kind !== 'committed') return;
    await recordErrors(this.#context, attempt.generation, attempt.item.lanes, plan.batch, outcome.errors);
  }

  async #controlKeysGone(attempt: Attempt, session: FencedSession): Promise<Step> {
    await session.abandon();
    if ((await settleFlush(this.#context, session, { finish: true })) === 'look again')
      return { retryAfter: 'now' };
    const inForce = await this.#context.journal.inForce();
    if (inForce?.id !== attempt.journalId) return 'void';
    await stopGate(this.#context, attempt, controlKeysGone(attempt.item));
    return 'stopped';
  }

  async #refused(error: ReplyError): Promise<Step> {
    const { waits, records, log, now } = this.#context;
    const code = refusalCode(error);
    if (await waits.begin('gate', code, refusalHint(code), now()))
      log.warn({ code }, `the gate waits: ${refusalHint(code)}`);
    await records.count('retries');
    return { retryAfter: refusalOf(error) === 'permission' ? 'long' : 'backoff' };
  }
}

/** Both have ended, well or not, before anything goes on. */
async function bothEnded<T, U>(
  first: Promise<T>,
  second: Promise<U> | undefined,
): Promise<[T, U | undefined]> {
  const [one, two] = await Promise.allSettled([first, second]);
  if (one.status === 'rejected') throw one.reason;
  if (two.status === 'rejected') throw two.reason;
  return [one.value, two.value];
}
