// Ingest: reads the source, numbers commands, commits rounds, wakes lanes. One role; any process may hold it.
//
// The holder is elected by BullMQ (one job, its lock, the stalled check) and fenced by the journal (id and epoch): an
// ingest that lost its lock may go on believing, but its commits are refused (I4). A round is durable in the journal
// before anything is announced, and nothing is acknowledged to the source but the low-water mark (I6).

import type { Redis } from 'ioredis';
import { Classifier } from '../src/binlog/classify.ts';
import type { CommandTable } from '../src/binlog/command-table.ts';
import type { RewriteRules } from '../src/binlog/rewrite.ts';
import type { Round } from '../src/journal/journal.ts';
import type { StopRecord } from '../src/journal/records.ts';
import { commitTrouble, RoundWriter } from '../src/journal/round-writer.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import { AbortedError, StopError } from '../src/runtime/errors.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { safeMessage } from '../src/runtime/log.ts';
import { Sequencer, type SequencerStep } from '../src/sequencer/sequencer.ts';
import type { Poison } from '../src/sequencer/unit.ts';
import { type Entry, LogReplaced, type Source } from '../src/sources/source.ts';
import type { Identity } from '../src/target/control.ts';
import { announceAll } from './announce.ts';
import type { PipelineContext } from './context.ts';
import type { Started } from './generation.ts';
import { stopIngest } from './poison.ts';

export interface IngestLimits {
  readonly roundBytesMax: number;
  readonly segmentBytesMax: number;
  readonly segmentGapMax: number;
  readonly transactionBytesMax: number;
  /** What one item of the journal takes of a single command. */
  readonly commandBytesMax: number;
}

export interface ClassifierPolicy {
  readonly splitMultiKey: boolean;
  readonly publish: boolean;
  readonly scriptKeys: 'all' | 'declared';
  readonly allow: readonly string[];
  readonly deny: readonly string[];
}

/** What status shows of the source, as this holder sees it. */
export interface IngestView {
  connected: boolean;
  position: string;
}

export type IngestEnd = 'stopped' | 'superseded' | 'restart';

const HUGE_BYTES = 16 * 1024 * 1024;
/** Before a journal is made anew that takes no round: what it met may be met again. */
const DAMAGED_MS = 1_000;

/** What came from the source could not be taken; the trouble is not the source's. */
class NotTaken extends Error {}

/** Numbers and commits from where `started` stands until aborted. One instance per turn as holder. */
export class IngestLoop {
  readonly #context: PipelineContext;
  readonly #source: Source;
  readonly #started: Started;
  readonly #sequencer: Sequencer;
  readonly #skips: ReadonlyMap<number, { by: string; reason: string }>;
  readonly #appliedTo: number;
  readonly view: IngestView;
  #position: string;
  #head: number;
  #pending: Promise<IngestEnd | undefined> = Promise.resolve(undefined);
  #announcing: Promise<void> | undefined;
  #announceAgain = false;
  readonly #rounds: RoundWriter;
  #blocking: Redis | undefined;

  constructor(
    context: PipelineContext,
    source: Source,
    started: Started,
    options: {
      readonly table: CommandTable;
      readonly policy: ClassifierPolicy;
      readonly limits: IngestLimits;
      readonly databases: number;
      /** The highest checkpoint. */
      readonly appliedTo: number;
      readonly skips: ReadonlyMap<number, { by: string; reason: string }>;
    },
  ) {
    this.#context = context;
    this.#source = source;
    this.#started = started;
    this.#skips = options.skips;
    this.#appliedTo = options.appliedTo;
    this.#rounds = new RoundWriter(context.journal, context.openLink(), started.lanes);
    this.#position = started.position;
    this.#head = started.head;
    this.view = { connected: false, position: started.position };
    const rewriteRules = rewriteRulesFor(source, started.identity);
    const { traits, endpoint } = context.sessions;
    const spelling = traits.pika === undefined ? undefined : traits;
    this.#sequencer = new Sequencer({
      rewriteRules,
      table: options.table,
      classifier: new Classifier({
        table: options.table,
        pipeline: context.name,
        rewriteRules,
        lacks: traits.lacks,
        respells: spelling !== undefined,
        ...options.policy,
        allow: [...options.policy.allow],
        deny: [...options.policy.deny],
      }),
      generation: started.generation,
      head: started.head,
      tails: started.tails,
      databases: options.databases,
      onlyDb: traits.oneDatabase ? endpoint.db : undefined,
      spelling,
      limits: { ...options.limits, flushAlone: traits.flushAlone },
      positionInside: (entry, taken) => source.positionInside(entry, taken),
      onPoison: (poison) => this.#onPoison(poison),
    });
  }

  /** @throws AbortedError; LogReplaced; StopError for what the source cannot cure by itself */
  async run(signal: AbortSignal): Promise<IngestEnd> {
    const { waits, log, now } = this.#context;
    const backoff = new Backoff({ minMs: 50, maxMs: 5_000 });
    try {
      for (;;) {
        try {
          const end = await this.#read(signal, backoff);
          if (end) return end;
          throw new AbortedError();
        } catch (error) {
          if (signal.aborted) throw new AbortedError();
          if (error instanceof StopError || error instanceof AbortedError || error instanceof LogReplaced)
            throw error;
          // The sequencer has numbered what was not committed: only a new turn numbers it the same again.
          if (error instanceof NotTaken) throw error.cause;
          this.view.connected = false;
          const hint = `the source ${this.#source.display} does not answer: ${safeMessage(error)}`;
          if (await waits.begin('source', 'CONNECTION', hint, now())) log.warn(hint);
          await this.#context.records.count('retries');
          await sleep(backoff.next(), signal);
        }
      }
    } finally {
      this.#blocking?.disconnect();
      await this.#pending.catch(() => {});
      await this.#announcing?.catch(() => {});
      this.#rounds.close();
    }
  }

  async #read(signal: AbortSignal, backoff: Backoff): Promise<IngestEnd | undefined> {
    const { waits, log } = this.#context;
    // An idle source yields nothing: that it answers at all is what ends the wait.
    await this.#source.head();
    this.view.connected = true;
    if (await waits.end('source')) log.info('the source answers again');
    for await (const entries of this.#source.read(this.#position, signal)) {
      backoff.reset();
      const end = await this.#take(entries, signal).catch((cause: unknown) => {
        throw new NotTaken('entries were read and not committed', { cause });
      });
      if (end) return end;
    }
    return undefined;
  }

  async #take(entries: readonly Entry[], signal: AbortSignal): Promise<IngestEnd | undefined> {
    // Huge ones go one after the other: the source's bytes, the round's and the lane's are enough at a time.
    if (entries.some(({ resp }) => resp.length > HUGE_BYTES)) {
      const end = await this.#pending;
      if (end) return end;
    }
    if (entries.some(({ beginsOrder }) => beginsOrder)) {
      const end = await this.#pending;
      if (end) return end;
      if (this.#appliedTo > this.#head) throw orderLost(this.#source, this.#head, this.#appliedTo);
    }
    for (const step of this.#sequencer.rounds(entries)) {
      // While one round is on its way to the journal, the next is being made.
      const end = await this.#pending;
      if (end) return end;
      if (step.kind === 'poison') return await this.#stopAt(step);
      // Nothing that waits for room holds the round.
      this.#pending = this.#commit(step.round, step.gates, signal).then((end) =>
        end === 'full' ? this.#waitForRoom(signal) : end,
      );
      this.#pending.catch(() => {});
      this.#position = step.round.position;
      this.view.position = step.round.position;
    }
    return undefined;
  }

  async #commit(
    round: Round,
    gates: readonly number[],
    signal: AbortSignal,
  ): Promise<IngestEnd | 'full' | undefined> {
    const { queues, log, options } = this.#context;
    const { journalId, epoch } = this.#started;
    await failpoint('before-commit');
    const outcome = await this.#untilAnswered(
      () => this.#rounds.commit(journalId, epoch, this.#head, round),
      signal,
    );
    if (outcome.kind === 'missing') return 'restart';
    if (outcome.kind === 'damaged') {
      log.warn(`a round did not get into the journal whole, which is made anew: ${outcome.why}`);
      await sleep(DAMAGED_MS, signal);
      return 'restart';
    }
    if (outcome.kind === 'fenced') {
      log.warn({ by: outcome.by, epoch }, 'another ingest has taken over');
      await this.#context.records.count('fenced');
      return 'superseded';
    }
    this.#sequencer.recycle(round);
    await failpoint('after-commit-before-announce');
    const before = this.#head;
    this.#head = round.lastSeq;
    if (gates.length > 0 && queues.flowIsDue()) this.#announceSoon();
    else {
      const woken = outcome.asleep.map((lane) => queues.addApply(lane, before + 1, round.lastSeq));
      // The round is in the journal: a wake-up that fails is made good by the watchdog.
      await Promise.all(woken).catch((error) => log.debug({ err: error }, 'announcing failed'));
    }
    return outcome.unappliedBytes >= options.budgetBytes ? 'full' : undefined;
  }

  /** Gates need the checkpoints to know which of them is at the front; one look at a time is enough. */
  #announceSoon(): void {
    this.#announceAgain = true;
    this.#announcing ??= this.#announceLoop().finally(() => {
      this.#announcing = undefined;
    });
  }

  async #announceLoop(): Promise<void> {
    const { sessions, log } = this.#context;
    while (this.#announceAgain) {
      this.#announceAgain = false;
      try {
        const session = await sessions.acquire('ingest', AbortSignal.timeout(5_000));
        await announceAll(this.#context, session, {});
        sessions.release(session);
      } catch (error) {
        // The watchdog announces again within its interval.
        log.debug({ err: error }, 'announcing failed');
      }
    }
  }

  /** The journal's Redis may be out of memory or away for a while: the round is kept and sent again; one that is in is known. */
  async #untilAnswered<T>(step: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const { waits, log, now, records } = this.#context;
    const backoff = new Backoff({ minMs: 20, maxMs: 2_000 });
    let said = false;
    for (;;) {
      try {
        const result = await step();
        if ((await waits.end('ingest')) || said) log.info("the queue's Redis takes rounds again");
        return result;
      } catch (error) {
        if (signal.aborted) throw new AbortedError();
        const code = commitTrouble(error);
        const hint = `the queue's Redis refuses a round: ${safeMessage(error)}`;
        // The record of it may be refused as well.
        await waits.begin('ingest', code, hint, now()).catch(() => {});
        if (!said) log.warn({ code }, hint);
        said = true;
        await records.count('retries').catch(() => {});
        await sleep(backoff.next(), signal);
      }
    }
  }

  async #waitForRoom(signal: AbortSignal): Promise<IngestEnd | undefined> {
    const { journal, options, openBlocking } = this.#context;
    const { journalId, lanes } = this.#started;
    this.#blocking ??= openBlocking();
    const blocking = this.#blocking;
    const stop = () => blocking.disconnect();
    signal.addEventListener('abort', stop, { once: true });
    try {
      for (;;) {
        if (signal.aborted) throw new AbortedError();
        const unapplied = await journal.room(journalId, lanes, options.budgetBytes / 2);
        if (unapplied === undefined) return 'restart';
        if (unapplied < options.budgetBytes / 2) return undefined;
        await blocking.blpop(journal.keys.room, 1);
      }
    } catch (error) {
      if (signal.aborted) throw new AbortedError();
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }

  #onPoison(poison: Poison): { kind: 'stop' } | { kind: 'drop'; record: string } {
    const skip = this.#skips.get(poison.seq);
    if (!skip && this.#context.options.onPoison === 'stop') return { kind: 'stop' };
    const { seq, position, command, key, code } = poison;
    const why = skip
      ? { reason: skip.reason, cause: poison.reason, by: skip.by }
      : { reason: poison.reason, by: 'on-poison' };
    const { generation } = this.#started;
    const what = { place: 'ingest', generation, seq, position, command, key, code };
    const record = { ...what, ...why, atMs: this.#context.now() };
    return { kind: 'drop', record: JSON.stringify(record) };
  }

  async #stopAt(step: Extract<SequencerStep, { kind: 'poison' }>): Promise<IngestEnd> {
    const { seq, command, key, reason } = step.poison;
    const record: StopRecord = {
      generation: this.#started.generation,
      seq,
      position: step.position,
      command,
      key,
      reason,
      hint: `lanegate lane resume ingest   (tries again), or: lanegate lane skip ingest --seq ${seq} --reason "..."`,
      behind: false,
      atMs: this.#context.now(),
    };
    return await stopIngest(this.#context, record, { ...this.#started, position: this.#position });
  }
}

/** To read on would give numbers that are applied to other commands (I1). */
function orderLost({ display }: Source, head: number, appliedTo: number): StopError {
  return new StopError(
    'ORDER_LOST',
    `the target has applied commands up to seq ${appliedTo}, and behind ${head} the order in which the databases of ${display} were read is lost: the target had gone back in time, and the journal was lost before it had caught up`,
    { hint: 'start over on a fresh copy of the data: lanegate reset' },
  );
}

/** What a master tells its replicas is applied as a replica would; deadlines are held back, for its DELs arrive. */
function rewriteRulesFor({ kind, replication }: Source, { graceMs, importMode }: Identity): RewriteRules {
  // An RDB file has no commands behind its keys that could miss them.
  const watchesDeadlines = graceMs === 0 && importMode !== true && kind !== 'rdb';
  return { masterDecided: replication, graceMs, watchesDeadlines };
}
