// A lane's job: reads the lane log behind the checkpoint and applies it, chunk by chunk.
//
//   read items -> plan a chunk -> fence -> commit -> (next)          one round trip a chunk
//                   | marker: the gate may be run from here, if all of its lanes have arrived; else the job ends
//                   | nothing left: wait a moment for more, then sleep
//
// The checkpoint in the target decides everything (I1, I2, I4). A job may run twice, late, or as a zombie that lost its
// lock: its EXEC is fenced on the checkpoint that it planned with. Nothing is ever sent again on doubt: the
// checkpoint is read anew. Transient refusals are retried here, in place; a thrown error would lose the lane's turn.

import type { LaneResult } from '../queues/jobs.ts';
import { laneQueue } from '../queues/names.ts';
import type { LaneItem } from '../src/journal/item.ts';
import type { Step } from '../src/journal/journal.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import { AbortedError } from '../src/runtime/errors.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { type Checkpoint, formatCheckpoint, parseCheckpoint, parseIdentity } from '../src/target/control.ts';
import { type ChunkPlan, planChunk } from '../src/target/plan.ts';
import { LOSSES_TOLD, refusalHint, refusalOf, troubleCode } from '../src/target/refusal.ts';
import type { FencedSession, FenceValues } from '../src/target/session.ts';
import { ConnectionLost } from '../src/wire/connection.ts';
import { type BatchOutcome, ReplyError } from '../src/wire/replies.ts';
import type { PipelineContext } from './context.ts';
import { settleFlush } from './flush-gate.ts';
import type { GateRunner } from './gate.ts';
import { LaneReader } from './lane-reader.ts';
import { checkpointGone, type LaneStop, LaneStopped, refuseStopped, stopLane } from './lane-stop.ts';
import { countLateDeadlines } from './late-deadlines.ts';
import { judge, leaveOut, nameOf, reasonOf, recordErrors } from './poison.ts';
import { accountOrSleep } from './unread.ts';

type Ended = LaneResult['ended'];
type Run = Extract<ChunkPlan, { kind: 'run' }>;

interface TurnOptions {
  readonly lane: number;
  readonly kind: 'apply' | 'barrier';
  readonly signal: AbortSignal;
  readonly journalId: string;
  readonly generation: string;
  readonly skips: Set<number>;
  readonly deadlineMs: number;
}

/** One job's work on one lane. */
export class LaneTurn {
  readonly #context: PipelineContext;
  readonly #gates: GateRunner;
  readonly #options: TurnOptions;
  readonly #key: string;
  readonly #reader: LaneReader;
  readonly #backoff = new Backoff({ minMs: 10, maxMs: 2_000 });
  /** For a right or a password that somebody has to give us. */
  readonly #slow = new Backoff({ minMs: 1_000, maxMs: 10_000 });
  #session: FencedSession | undefined;
  #fence: Promise<FenceValues> | undefined;
  /** The last fence that was set before its commands were there did not wait for a marker. */
  #fencesAhead = true;
  #progress: Promise<void> = Promise.resolve();
  /** Done in front of a marker: told with the arrival there, or at the latest at the end of the turn. */
  #untold: Step | undefined;
  /** Replies were read by this turn, or are known to be unread, through this seq. */
  #accounted = -1;
  /** The target refuses; the lane is tried in place for as long as that takes. */
  #waits = false;
  /** Connections that ended since anything was committed. */
  #losses = 0;
  /** Gate whose end woke this job where it waited. */
  #signalled = 0;
  checkpoint: Checkpoint;
  from = 0;
  commands = 0;
  bytes = 0;

  constructor(context: PipelineContext, gates: GateRunner, options: TurnOptions) {
    this.#context = context;
    this.#gates = gates;
    this.#options = options;
    this.#key = context.control.checkpoint(options.lane);
    this.#reader = new LaneReader(context, options.lane, options.signal);
    this.checkpoint = { generation: options.generation, seq: 0 };
  }

  async apply(): Promise<Ended> {
    const { lane, signal } = this.#options;
    for (let begun = false; ; ) {
      if (signal.aborted) throw new AbortedError();
      try {
        const session = await this.#opened();
        const found = await this.#readCheckpoint(session);
        if (found !== 'ready') return found;
        if (!begun) {
          this.from = this.checkpoint.seq + 1;
          await this.#context.journal.wake(lane);
          begun = true;
        }
        if (this.checkpoint.seq > this.#accounted && !(await this.#account())) return 'waiting';
        // Behind the account: whoever wrote that the replies are read had written the stop before.
        await refuseStopped(this.#context, this.#options);
        const ended = await this.#loop(session);
        if (ended !== 'again') return ended;
      } catch (error) {
        await this.#failed(error);
      }
    }
  }

  /** Another session where the target has ended the one before. */
  async #opened(): Promise<FencedSession> {
    const { sessions } = this.#context;
    const { lane, signal } = this.#options;
    if (this.#session?.closed) sessions.drop(this.#session);
    if (this.#session?.closed !== false) this.#session = await sessions.acquire(`lane:${lane}`, signal);
    return this.#session;
  }

  /** Waits until what this turn did is written down, and gives the session back. */
  async close(): Promise<void> {
    this.#reader.close();
    this.#tell();
    await this.#progress.catch(() => {});
    // Whoever works on the lane next says for itself whether it waits.
    if (this.#waits) await this.#context.waits.end(`lane:${this.#options.lane}`).catch(() => {});
    const session = this.#session;
    if (!session) return;
    try {
      await this.#fence;
      await session.abandon();
      this.#context.sessions.release(session);
    } catch {
      this.#context.sessions.drop(session);
    }
  }

  /** Works until there is a reason to look at the checkpoint anew ('again') or to end. */
  async #loop(session: FencedSession): Promise<Ended | 'again'> {
    const { lane, signal, skips } = this.#options;
    const { options, now, waits } = this.#context;
    for (;;) {
      if (signal.aborted) throw new AbortedError();
      // Only with something done: to read one huge item may take longer than a turn.
      const hasMoved = this.checkpoint.seq >= this.from;
      if (now() >= this.#options.deadlineMs && hasMoved && !this.#waits) return 'handed over';
      const plan = planChunk(this.#reader.items, this.checkpoint, session.db, {
        bytesMax: options.chunkBytesMax,
        skips,
      });
      if (plan.kind === 'none') {
        const more = await this.#more();
        if (more !== 'items') return more;
      } else if (plan.kind === 'applied') {
        this.#reader.drop(1);
      } else if (plan.kind === 'gap' || plan.kind === 'foreign') {
        return 'waiting';
      } else if (plan.kind === 'marker') {
        const passed = await this.#atMarker(session, plan.marker);
        if (typeof passed === 'string') return passed;
        // Taken for true without a look at the target: the next fence compares it.
        this.checkpoint = { generation: this.checkpoint.generation, seq: passed };
        this.#accounted = passed;
      } else {
        const outcome = await this.#commit(session, plan);
        if (outcome !== 'committed') return outcome;
        if (this.#waits && (await waits.end(`lane:${lane}`)))
          this.#context.log.info({ lane }, 'the lane goes on');
        this.#waits = false;
        this.#losses = 0;
        this.#backoff.reset();
        this.#slow.reset();
      }
    }
  }

  async #commit(session: FencedSession, plan: Run): Promise<'committed' | 'again'> {
    this.#fencesAhead = true;
    const values = await (this.#fence ?? session.fence([this.#key]));
    this.#fence = undefined;
    if (values[0] !== formatCheckpoint(this.checkpoint)) {
      await session.abandon();
      await this.#context.records.count('fenced');
      return 'again';
    }
    await failpoint('between-multi-and-exec');
    this.#reader.fetchAhead(plan.items, plan.last);
    const target = { generation: this.checkpoint.generation, seq: plan.last };
    // In front of a marker the next fence would only have to be taken down again.
    const fenceNext = this.#reader.items[plan.items]?.kind !== 'marker';
    const { outcome, next } = await session.commit(plan.batch, [[this.#key, formatCheckpoint(target)]], {
      next: fenceNext ? [this.#key] : undefined,
    });
    await failpoint('after-exec-before-reply');
    this.#fence = next;
    if (outcome.kind === 'committed') {
      await this.#committed(plan, outcome, target);
      return 'committed';
    }
    this.#fence = undefined;
    // What the server called a protocol error has ended the connection, and the next fence with it.
    if (!session.closed) {
      await next;
      await session.abandon();
    }
    if (outcome.kind === 'fenced') await this.#context.records.count('fenced');
    else await this.#aborted(plan, outcome);
    return 'again';
  }

  async #committed(
    plan: Run,
    outcome: Extract<BatchOutcome, { kind: 'committed' }>,
    reached: Checkpoint,
  ): Promise<void> {
    const { journal, records, options } = this.#context;
    const { journalId, lane, generation } = this.#options;
    this.checkpoint = reached;
    this.#accounted = reached.seq;
    this.#reader.drop(plan.items);
    this.commands += plan.batch.run;
    for (const part of plan.batch.parts) this.bytes += part.length;
    if (plan.batch.dropped > 0) await records.count('duplicatesDropped', plan.batch.dropped);
    const failed =
      outcome.errors.length > 0 &&
      (await recordErrors(this.#context, generation, [lane], plan.batch, outcome.errors));
    // Behind the records: a count that cannot be written must not keep them from being made.
    await countLateDeadlines(this.#context, plan.batch);
    const step = {
      where: lane,
      seq: plan.last,
      outBytes: plan.outBytes,
      applied: plan.batch.run,
      wakeBelowBytes: options.budgetBytes / 2,
    };
    await this.#progress;
    if (failed && options.onPoison === 'stop') {
      const hint = `lanegate lane resume ${lane}   (goes on; the failed command is recorded: lanegate errors)`;
      const stopped = await this.#stop({ ...failed, hint, behind: true });
      // Only now: whoever sees the replies as read must see the stop.
      await journal.progress(journalId, step);
      throw stopped;
    }
    this.#untold = step;
    if (this.#reader.items[0]?.kind !== 'marker') this.#tell();
    await failpoint('after-exec-before-finish');
  }

  #tell(): void {
    const step = this.#untold;
    if (step === undefined) return;
    this.#untold = undefined;
    this.#progress = this.#context.journal.progress(this.#options.journalId, step);
    this.#progress.catch(() => {});
  }

  /** Nothing was applied: wait and try again, or find the command that is to blame. */
  async #aborted(plan: Run, outcome: Extract<BatchOutcome, { kind: 'aborted' }>): Promise<void> {
    const { lane, generation, skips } = this.#options;
    const judged = judge(outcome);
    if (judged.refusal !== 'poison') throw judged.error;
    const blamed = judged.index === undefined ? undefined : plan.batch.commandAt(judged.index);
    // A refusal of EXEC itself that no command explains is not ours to skip: try again.
    if (!blamed) throw judged.error;
    const reason = reasonOf(judged.error, blamed.args);
    if (this.#context.options.onPoison === 'dead-letter') {
      const { journalId } = this.#options;
      const stop = `lane:${lane}` as const;
      const place = { stop, skip: stop, generation, journalId, at: blamed.seq };
      await leaveOut(this.#context, place, blamed, reason);
      skips.add(blamed.seq);
      return;
    }
    await this.#applyPrefix(blamed.seq);
    const hint = `lanegate lane resume ${lane}   (tries again), or: lanegate lane skip ${lane} --seq ${blamed.seq} --reason "..."`;
    const named = nameOf(this.#context, blamed.args);
    throw await this.#stop({ seq: blamed.seq, ...named, reason, hint, behind: false });
  }

  /** Applies what stands before the command that stops the lane. */
  async #applyPrefix(seq: number): Promise<void> {
    const session = await this.#opened();
    const limits = { bytesMax: this.#context.options.chunkBytesMax, skips: this.#options.skips, before: seq };
    const plan = planChunk(this.#reader.items, this.checkpoint, session.db, limits);
    if (plan.kind !== 'run' || plan.last <= this.checkpoint.seq) return;
    const outcome = await this.#commit(session, plan);
    if (outcome !== 'committed') throw new ConnectionLost('the prefix could not be applied', { sent: true });
  }

  #stop(stop: LaneStop): Promise<LaneStopped> {
    return stopLane(this.#context, this.#options, stop);
  }

  /**
   * The gate is tried from here; unless it is or becomes closed, the lane parks and the job ends. Returns the seq of the last
   * gate that the lane has passed.
   */
  async #atMarker(session: FencedSession, marker: LaneItem): Promise<number | 'at a gate' | 'again'> {
    const gate = { seq: marker.seq, lanes: marker.count };
    const { journal } = this.#context;
    const { journalId, lane } = this.#options;
    // Behind `progress` on the same connection; nothing here has to wait for the answers before it.
    if (this.#fence) this.#fencesAhead = false;
    const arriving = this.#gates.arrive(gate, this.#options, this.#untold);
    this.#untold = undefined;
    await Promise.allSettled([arriving, this.#unfence(session)]);
    const { end, through } = await arriving;
    await this.#progress;
    if (end === 'executed') return through;
    if (end === 'already executed' || end === 'failed') return 'again';
    if (end === 'void' && (await journal.reportHole(journalId, gate.seq)))
      this.#context.log.warn({ lane, gate: gate.seq }, 'the gate of a marker is missing in the journal');
    // Woken twice for one gate and still in front of it: the signal was left by another journal.
    const waits = end === 'waiting' && this.#options.kind === 'apply' && this.#signalled !== gate.seq;
    if (waits) {
      const closedBy = await this.#context.closedGates.wait(lane, gate.seq, this.#context.options.lingerMs);
      if (this.#options.signal.aborted) throw new AbortedError();
      if (closedBy) this.#signalled = gate.seq;
      // What closed it wrote down that its replies are read (gate-closed.lua).
      if (closedBy?.gate === gate.seq && closedBy.journalId === journalId) return gate.seq;
      if (closedBy) return 'again';
    }
    await journal.sleep(journalId, lane, this.checkpoint.seq, 'gate');
    // The gate may have closed between the look at it and the parking.
    if (!(await this.#hasPassed(session, gate.seq))) return 'at a gate';
    await journal.wake(lane);
    return 'again';
  }

  async #hasPassed(session: FencedSession, gate: number): Promise<boolean> {
    const [now] = await session.read([this.#key]);
    const reached = parseCheckpoint(now ?? '');
    return reached?.generation === this.checkpoint.generation && reached.seq >= gate;
  }

  /** More items, or why there are none. */
  async #more(): Promise<'items' | 'caught up' | 'waiting'> {
    const { journal } = this.#context;
    const { lane, journalId, kind } = this.#options;
    const { seq } = this.checkpoint;
    await this.#progress;
    if (kind === 'apply') this.#fenceAhead();
    if (await this.#reader.fill(seq, kind === 'apply')) return 'items';
    const known = await journal.seenThrough(journalId, lane);
    if (known === undefined) return 'waiting';
    // Behind the tail without an item: the log has a hole, which ingest repairs from the source.
    if (known.tail > seq) return (await this.#reader.fill(seq, false)) ? 'items' : 'waiting';
    return (await journal.sleep(journalId, lane, seq, 'idle')) ? 'caught up' : 'items';
  }

  /** What comes next finds its fence in place. */
  #fenceAhead(): void {
    if (this.#fence || !this.#fencesAhead || !this.#session) return;
    this.#fence = this.#session.fence([this.#key]);
    // Whoever uses it sees its refusal.
    this.#fence.catch(() => {});
  }

  /** False when this is not the moment to go on. */
  async #account(): Promise<boolean> {
    const { journalId, generation, lane } = this.#options;
    const { seq } = this.checkpoint;
    this.#tell();
    await this.#progress.catch(() => {});
    if (!(await accountOrSleep(this.#context, { journalId, generation, lane, seq }))) return false;
    this.#accounted = seq;
    return true;
  }

  async #readCheckpoint(session: FencedSession): Promise<'ready' | Ended> {
    await this.#unfence(session);
    this.#reader.clear();
    const [value, identity] = await session.read([this.#key, this.#context.control.identity]);
    const found = parseCheckpoint(value ?? '');
    if (found && found.generation === this.#options.generation) {
      this.checkpoint = found;
      return 'ready';
    }
    // Another generation is being made: its ingest will announce it.
    const inForce = await this.#context.journal.inForce();
    const foreign = parseIdentity(identity ?? '');
    if (
      inForce?.id !== this.#options.journalId ||
      (foreign && foreign.generation !== this.#options.generation)
    )
      return 'waiting';
    // A gate's flush may have run, and the checkpoints not be back yet.
    if (!identity && (await settleFlush(this.#context, session, { finish: false })) === 'look again')
      return 'waiting';
    throw await this.#stop(checkpointGone(this.#options.lane, value));
  }

  async #unfence(session: FencedSession): Promise<void> {
    if (!this.#fence) return;
    const fence = this.#fence;
    this.#fence = undefined;
    await fence;
    await session.abandon();
  }

  async #failed(error: unknown): Promise<void> {
    const { lane, signal } = this.#options;
    const { records, waits, log, now, sessions } = this.#context;
    if (error instanceof AbortedError || error instanceof LaneStopped) throw error;
    const code = troubleCode(error);
    if (code === undefined) throw error;
    // One that ends is opened again, and nobody needs to know.
    if (error instanceof ReplyError || ++this.#losses >= LOSSES_TOLD) {
      const hint = refusalHint(code);
      this.#waits = true;
      if (await waits.begin(`lane:${lane}`, code, hint, now()))
        log.warn({ lane, queue: laneQueue(lane), code }, `the lane waits: ${hint}`);
    }
    if (error instanceof ConnectionLost && this.#session) {
      sessions.drop(this.#session);
      this.#session = undefined;
    }
    this.#fence = undefined;
    await records.count('retries');
    const denied = error instanceof ReplyError && refusalOf(error) === 'permission';
    await sleep((denied ? this.#slow : this.#backoff).next(), signal);
  }
}
