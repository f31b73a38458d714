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

import { itemBytes } from '../src/journal/item.ts';
import type { Step as LaneStep } from '../src/journal/journal.ts';
import { gateFence, gateWrites, planFenced } from '../src/protocol/gate-fence.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import type { Batch } from '../src/target/plan.ts';
import { LOSSES_TOLD, refusalHint, refusalOf } from '../src/target/refusal.ts';
import type { FencedSession } from '../src/target/session.ts';
import { ConnectionLost } from '../src/wire/connection.ts';
import { type BatchOutcome, ReplyError, refusalCode } from '../src/wire/replies.ts';
import { announceAll } from './announce.ts';
import { Arrivals } from './arrivals.ts';
import type { PipelineContext } from './context.ts';
import { type FlushGate, flushOf, runFlush, settleFlush } from './flush-gate.ts';
import type { Attempt, GateEnd } from './gate-attempt.ts';
import { CLAIM_MS, GateOpener, type InForce } from './gate-opener.ts';
import {
  controlKeysGone,
  cutForAnotherTarget,
  passedByHand,
  stopGate,
  stopLanesBehind,
} from './gate-stop.ts';
import { countLateDeadlines } from './late-deadlines.ts';
import { judge, leaveOut, nameOf, reasonOf, recordErrors } from './poison.ts';

const ALL_WELL = { kind: 'committed', errors: [], replies: 1 } as const;

/** A lane at its marker, as its job knows it. */
interface Arrival {
  readonly lane: number;
  readonly journalId: string;
  readonly generation: string;
  readonly signal: AbortSignal;
}

/** What a try came to, and the seq of the last gate that the lane has passed with it (0: none). */
export interface GatePass {
  readonly end: GateEnd;
  readonly through: number;
}

type Step =
  | GateEnd
  | { readonly retryAfter: 'now' | 'backoff' | 'long' }
  /** Executed, and the gate directly behind it is open. */
  | { readonly next: Attempt };

export class GateRunner {
  readonly #context: PipelineContext;
  readonly #arrivals: Arrivals;
  readonly #opener: GateOpener;

  constructor(context: PipelineContext) {
    this.#context = context;
    this.#arrivals = new Arrivals(context.journal, { by: context.workerId, ms: CLAIM_MS });
    this.#opener = new GateOpener(context);
  }

  /**
   * From the lane whose job has come to the marker: a try if it is the last to arrive, and at the gates that follow directly.
   * The lane goes on by itself and needs no announcement. `done`: what it has not told yet.
   */
  async arrive(
    gate: { readonly seq: number; readonly lanes: number },
    at: Arrival,
    done: LaneStep | undefined,
  ): Promise<GatePass> {
    const { journal, redis } = this.#context;
    const id = at.journalId;
    const hint = await this.#arrivals.tell(id, gate, at.lane, done);
    if (hint === 'void') return { end: 'void', through: 0 };
    if (hint === 'wait') {
      this.#opener.readAhead(id, gate.seq);
      return { end: 'waiting', through: 0 };
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
      return (await this.#claimed(seq, inForce, signal, undefined)).end;
    } finally {
      await redis.del(claim);
    }
  }

  async #claimed(
    seq: number,
    inForce: InForce,
    signal: AbortSignal,
    from: number | undefined,
  ): Promise<GatePass> {
    const opened = await this.#opener.open(seq, inForce, signal);
    if (typeof opened === 'string') return { end: opened, through: 0 };
    const passing = { attempt: opened, through: 0 };
    try {
      const end = await this.#untilDecided(passing, from);
      await passing.attempt.before;
      // What it has executed on the way counts, whatever became of the gate behind.
      const isDone = end === 'executed' || end === 'failed';
      if (isDone || passing.through === 0) return { end, through: isDone ? passing.attempt.item.seq : 0 };
      return { end: 'executed', through: passing.through };
    } finally {
      const { attempt } = passing;
      // Whoever comes next must find the account of what was executed.
      await attempt.before?.catch(() => {});
      if (attempt === opened) await this.#opener.resume(attempt);
      else await this.#opener.leave(attempt);
    }
  }

  async #untilDecided(
    passing: { attempt: Attempt; through: number },
    except: number | undefined,
  ): Promise<GateEnd> {
    const { sessions, redis, waits, records, queues } = this.#context;
    const backoff = new Backoff({ minMs: 20, maxMs: 2_000 });
    const slow = new Backoff({ minMs: 1_000, maxMs: 10_000 });
    let losses = 0;
    for (;;) {
      const session = await sessions.acquire('gate', passing.attempt.signal);
      let step: Step;
      try {
        step = await this.#attempt(passing.attempt, session, except);
        while (typeof step !== 'string' && 'next' in step) {
          passing.through = passing.attempt.item.seq;
          passing.attempt = step.next;
          step = await this.#attempt(passing.attempt, session, except);
        }
        await session.abandon();
        if ((step === 'executed' || step === 'failed') && queues.flowIsDue())
          await announceAll(this.#context, session, { except });
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
      const { claim, signal } = passing.attempt;
      await redis.set(claim, this.#context.workerId, 'PX', CLAIM_MS);
      if (step.retryAfter === 'now') continue;
      await sleep((step.retryAfter === 'backoff' ? backoff : slow).next(), signal);
    }
  }

  async #attempt(attempt: Attempt, session: FencedSession, except: number | undefined): Promise<Step> {
    const { control } = this.#context;
    const { item } = attempt;
    let values: readonly (string | null)[];
    try {
      // A lane that comes last knows of the others' arrival; what is paused too early is resumed at once.
      const fence = attempt.fence ?? session.fence(gateFence(control, item));
      attempt.fence = undefined;
      const pause = except === undefined ? undefined : this.#opener.pause(attempt);
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
        return await this.#closed(attempt, attempt.flushed, ALL_WELL, except);
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

    if (await this.#opener.pause(attempt)) return 'waiting';
    await failpoint('gate-after-pause');
    if (attempt.before !== undefined) await failpoint('gate-ahead');
    if (item.erases && plan.batch.count > 0 && session.traits.flushAlone)
      return await this.#flushAlone(attempt, session, plan.batch, except);
    const ahead = this.#opener.openAhead(attempt, session, except);
    let outcome: BatchOutcome;
    try {
      outcome = await this.#execute(attempt, session, plan.batch, plan.through, values);
    } catch (error) {
      await ahead.giveUp();
      throw error;
    }
    // Accounts are written in order. One that could not be written must not keep this one from being tried.
    await Promise.allSettled([attempt.before]);
    await failpoint('gate-after-exec');
    if (outcome.kind === 'committed' && outcome.errors.length === 0) {
      const closing = this.#closed(attempt, plan.batch, outcome, except);
      closing.catch(() => {});
      const next = await ahead.opened();
      if (next === undefined) return await closing;
      next.before = Promise.all([attempt.before, closing]).finally(() => this.#opener.leave(attempt));
      next.before.catch(() => {});
      return { next };
    }
    await ahead.giveUp();
    if (outcome.kind === 'fenced') {
      // By a rival, if the gate is closed now; the low-water mark, which an erasing gate watches too, moves all the time.
      attempt.fenced = true;
      return { retryAfter: 'now' };
    }
    if (outcome.kind === 'aborted') return await this.#aborted(attempt, session, outcome, plan.batch);
    return await this.#closed(attempt, plan.batch, outcome, except);
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
      return await this.#closed(attempt, batch, ALL_WELL, except);
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
    batch: Batch,
    outcome: Extract<BatchOutcome, { kind: 'committed' }>,
    except: number | undefined,
  ): Promise<'executed' | 'failed'> {
    const { journal, queues, records, options } = this.#context;
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
      this.#opener.resume(attempt),
    ]);
    await failpoint('gate-after-resume');
    const others = (asleep ?? []).filter((lane) => lane !== except);
    await Promise.all(others.map((lane) => queues.addApply(lane, item.seq + 1, item.seq + 1)));
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
