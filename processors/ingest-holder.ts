// What a process does while it holds the ingest role: find the place (startup.ts), run the loop (ingest.ts), and look
// around once per interval: is the journal still mine and whole? has an operator paused ingest or asked for another
// number of lanes? has the low-water mark moved, so that the source may be told?

import { INGEST_QUEUE } from '../queues/names.ts';
import { CommandTable } from '../src/binlog/command-table.ts';
import { NO_GENERATION } from '../src/journal/records.ts';
import { checkpointSeqs, controlState } from '../src/protocol/control-state.ts';
import { endsBeforeApplied, holdsRole } from '../src/protocol/start.ts';
import { Backoff, sleep } from '../src/runtime/backoff.ts';
import { AbortedError, ConfigurationError, StopError } from '../src/runtime/errors.ts';
import { safeMessage } from '../src/runtime/log.ts';
import { LogReplaced, type Source } from '../src/sources/source.ts';
import { type Identity, parseIdentity, parseMark } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import { ConnectionLost } from '../src/wire/connection.ts';
import { ReplyError } from '../src/wire/replies.ts';
import type { PipelineContext } from './context.ts';
import { settleFlush } from './flush-gate.ts';
import {
  GateUnderWay,
  NotDrained,
  Raced,
  raiseGeneration,
  readCheckpoints,
  replaceLog,
  type Started,
} from './generation.ts';
import { type ClassifierPolicy, type IngestLimits, IngestLoop } from './ingest.ts';
import { asStop, keptFrom } from './ingest-stops.ts';
import { KeptMarks } from './kept-marks.ts';
import { moveMark } from './mark.ts';
import { stopIngest, stopPlace } from './poison.ts';
import { SnapshotMeter, type SnapshotView } from './snapshot-meter.ts';
import { gaps, type IngestOptions, routingOf, startIngest } from './startup.ts';
import { TallyCounter } from './tally-counter.ts';
import { databasesOf } from './target-data.ts';

/** How soon a source that waits for the low-water mark hears of it. */
const MARK_MS = 50;

export type HolderEnd = 'stopped' | 'superseded' | 'paused';

export interface HolderOptions extends IngestOptions {
  readonly classifier: ClassifierPolicy;
  readonly limits: IngestLimits;
  readonly retentionMs: number;
}

/** What the process reports of its source while it is the holder. */
export interface HolderView {
  readonly kind: string;
  readonly connected: boolean;
  readonly sourcePosition: string | null;
  readonly headPosition: string | null;
  readonly lagEntries: number | null;
  /** When the source ran the oldest entry that is not read, ms since 1970; null when there is none. */
  readonly unreadSinceMs: number | null;
  /** Of a source with a snapshot. */
  readonly snapshot: SnapshotView | null;
}

type Turn = 'restart' | 'relane' | 'paused';

export class IngestHolder {
  readonly #context: PipelineContext;
  readonly #source: Source;
  readonly #options: HolderOptions;
  #loop: IngestLoop | undefined;
  #started: Started | undefined;
  #lag: { head: string; entries: number | null; sinceMs: number | null } | undefined;
  #acknowledged = '';
  readonly #tally = new TallyCounter();
  readonly #meter = new SnapshotMeter();
  readonly #marks: KeptMarks;
  /** Lanes with a gap at the last look: twice in a row means that the journal is not whole. */
  #gaps: readonly number[] = [];

  constructor(context: PipelineContext, source: Source, options: HolderOptions) {
    this.#context = context;
    this.#source = source;
    this.#options = options;
    this.#marks = new KeptMarks(options.retentionMs);
  }

  /** Undefined while another process holds the role. */
  get view(): HolderView | undefined {
    if (!this.#loop) return undefined;
    const { connected, position } = this.#loop.view;
    return {
      kind: this.#source.kind,
      connected,
      sourcePosition: position,
      headPosition: this.#lag?.head ?? null,
      lagEntries: this.#lag?.entries ?? null,
      unreadSinceMs: this.#lag?.sinceMs ?? null,
      snapshot: this.#meter.look(this.#source.progress?.(), this.#context.now()),
    };
  }

  /** @throws AbortedError */
  async run(signal: AbortSignal): Promise<HolderEnd> {
    const { log, records, waits, now } = this.#context;
    const backoff = new Backoff({ minMs: 20, maxMs: 2_000 });
    for (;;) {
      if (signal.aborted) throw new AbortedError();
      const session = await this.#context.sessions.acquire('ingest', signal);
      try {
        const end = await this.#turn(session, signal);
        if (end === 'stopped' || end === 'superseded' || end === 'paused') return end;
        backoff.reset();
      } catch (error) {
        if (signal.aborted || error instanceof AbortedError) throw new AbortedError();
        if (error instanceof StopError) return await this.#stopped(session, error);
        if (error instanceof ConfigurationError) return await this.#stopped(session, asStop(error));
        if (error instanceof NotDrained) {
          const hint = `the lanes ${error.lanes.join(', ')} must be drained first: lanegate status`;
          if (await waits.begin('ingest', 'DRAINING', hint, now())) log.info(hint);
        } else if (error instanceof ReplyError) {
          if (await waits.begin('ingest', error.code, `the target refuses: ${error.message}`, now()))
            log.warn({ code: error.code }, 'ingest waits for the target');
        } else if (!(error instanceof Raced) && !(error instanceof ConnectionLost)) {
          if (await waits.begin('ingest', 'FAILED', safeMessage(error), now()))
            log.error({ err: error }, 'ingest failed and is tried again');
        }
        if (!(error instanceof Raced)) await records.count('retries');
        await sleep(error instanceof NotDrained ? 100 : backoff.next(), signal);
      } finally {
        this.#loop = undefined;
        this.#started = undefined;
        if (session.closed) this.#context.sessions.drop(session);
        else
          await session.abandon().then(
            () => this.#context.sessions.release(session),
            () => this.#context.sessions.drop(session),
          );
      }
    }
  }

  async #turn(session: FencedSession, signal: AbortSignal): Promise<HolderEnd | 'restart'> {
    const { records, waits, log } = this.#context;
    // What stops a start is not met in a role that this process once had.
    this.#started = undefined;
    const started = await startIngest(this.#context, session, this.#source, this.#options, (identity) =>
      this.#table(session, identity),
    );
    this.#started = started;
    this.#loop = undefined;
    await waits.end('ingest');
    const table = CommandTable.withAdditions(started.identity.commands);
    const wanted = await this.#context.redis.hget(this.#context.journal.keys.control, 'relane');
    const checkpoints = await readCheckpoints(this.#context, session, started.identity);
    const readAll = !endsBeforeApplied(started.head, checkpoints);
    if (wanted !== null && Number(wanted) !== started.lanes && readAll) {
      // Unless the journal ends before what is applied, nothing is read until the lanes are drained: else a busy source would put it off for ever.
      await this.#relane(session, started, table.fingerprint);
      return 'restart';
    }
    const loop = new IngestLoop(this.#context, this.#source, started, {
      table,
      policy: this.#options.classifier,
      limits: this.#options.limits,
      databases: await databasesOf(session),
      appliedTo: Math.max(...checkpoints.map((seq) => seq ?? 0)),
      skips: await records.skips(started.generation, 'ingest'),
    });
    this.#loop = loop;
    this.#gaps = [];
    log.info(
      { epoch: started.epoch, seq: started.head, position: started.position, source: this.#source.display },
      'ingest begins',
    );

    const turn = new AbortController();
    const stop = () => turn.abort('stopped');
    signal.addEventListener('abort', stop, { once: true });
    // Aborted while the start was under way: then there is no event any more.
    if (signal.aborted) stop();
    const looking = this.#lookAround(session, started, turn);
    try {
      const end = await loop.run(turn.signal);
      if (end === 'restart') return 'restart';
      return end;
    } catch (error) {
      if (error instanceof LogReplaced) {
        if (this.#options.targetData === 'keep') throw keptFrom(error);
        log.warn({ position: error.position }, `the target's data is replaced: ${error.message}`);
        // The look around reads in the same session, and nothing may be read between a fence and its EXEC.
        turn.abort('restart');
        await looking;
        await this.#replaceLog(session, started, error.position, signal);
        return 'restart';
      }
      if (!turn.signal.aborted || signal.aborted) throw error;
      const why = turn.signal.reason as Turn;
      if (why === 'paused') return 'paused';
      if (why === 'relane') await this.#relane(session, started, table.fingerprint);
      return 'restart';
    } finally {
      signal.removeEventListener('abort', stop);
      turn.abort('restart');
      await looking;
      if (signal.aborted) await this.#sayGoodbye(session);
    }
  }

  /** On a clean stop the mark and the source are brought up to date once more. */
  async #sayGoodbye(session: FencedSession): Promise<void> {
    try {
      const step = await moveMark(this.#context, session);
      if (step) await this.#tellSource(JSON.stringify(step.mark));
    } catch (error) {
      this.#context.log.debug({ err: error }, 'the low-water mark was not moved at the end');
    }
  }

  async #lookAround(session: FencedSession, started: Started, turn: AbortController): Promise<void> {
    const { options, log } = this.#context;
    while (!turn.signal.aborted) {
      try {
        // The first look comes at once: the source must know of the pipeline, lest an emptied target look like a new one.
        const why = await this.#look(session, started);
        if (why) turn.abort(why);
        await this.#untilNextLook(session, turn.signal);
      } catch (error) {
        if (turn.signal.aborted) return;
        if (error instanceof GateUnderWay) continue;
        if (error instanceof Raced || error instanceof ConnectionLost || error instanceof StopError)
          turn.abort('restart');
        else {
          log.debug({ err: error }, 'ingest could not look around');
          await sleep(options.watchdogMs, turn.signal).catch(() => {});
        }
      }
    }
  }

  /** Meanwhile a source that sends no more until it hears of the mark hears of it. */
  async #untilNextLook(session: FencedSession, signal: AbortSignal): Promise<void> {
    const { watchdogMs } = this.#context.options;
    const stepMs = this.#source.marked === undefined ? watchdogMs : Math.min(MARK_MS, watchdogMs);
    for (let waitedMs = 0; waitedMs < watchdogMs; waitedMs += stepMs) {
      await sleep(stepMs, signal);
      if (this.#source.wantsMark?.() !== true) continue;
      const step = await moveMark(this.#context, session);
      if (step) this.#source.marked?.(step.mark.position);
    }
  }

  async #look(session: FencedSession, started: Started): Promise<Turn | undefined> {
    const { journal, control, redis, log } = this.#context;
    const [inForce, lanesWanted, paused] = await Promise.all([
      journal.inForce(),
      redis.hget(journal.keys.control, 'relane'),
      redis.hexists(journal.keys.pauses, `${INGEST_QUEUE}|operator`),
    ]);
    if (inForce?.id !== started.journalId) return 'restart';
    if (paused === 1) return 'paused';
    const texts = await session.read(control.all(started.lanes));
    const [identityText, markText] = texts;
    const identity = parseIdentity(identityText ?? '');
    if (!identity && (await settleFlush(this.#context, session, { finish: false })) === 'look again')
      return undefined;
    if (identity?.journal !== started.journalId) return 'restart';
    const checkpoints = checkpointSeqs(texts.slice(2), identity.generation);
    const lanes = await gaps(this.#context, session, identity, checkpoints);
    if (lanes.length > 0 && this.#gaps.length > 0) {
      log.warn({ lanes }, 'the journal has holes');
      return 'restart';
    }
    this.#gaps = lanes;
    if (lanesWanted !== null) {
      if (Number(lanesWanted) !== identity.lanes) return 'relane';
      await redis.hdel(journal.keys.control, 'relane');
    }
    await this.#tellSource(markText ?? '');
    return undefined;
  }

  async #tellSource(markText: string): Promise<void> {
    const { log } = this.#context;
    try {
      const head = await this.#source.head();
      const at = this.#loop?.view.position;
      if (at !== undefined) {
        const isBehind = !this.#source.covers(at, head.position);
        const entries = isBehind ? Math.max(1, this.#source.entriesBehind(at, head.position) ?? 1) : 0;
        const sinceMs = isBehind ? ((await this.#source.timeBehind(at)) ?? null) : null;
        this.#lag = { head: head.position, entries, sinceMs };
      }
      await this.#tally.count(this.#context.records, this.#source);
      const mark = parseMark(markText);
      if (mark) this.#source.marked?.(mark.position);
      const { journal, now } = this.#context;
      const position = this.#marks.forgettable(mark, now(), await journal.isShort());
      if (position !== undefined && position !== this.#acknowledged) {
        await this.#source.acknowledge(position);
        this.#acknowledged = position;
      }
    } catch (error) {
      // Reading notices a broken source by itself; an acknowledgement is made good at the next look.
      log.debug({ err: error }, 'the source was not told');
    }
  }

  /** Tried again in place: at the source the next look would begin another full sync. */
  async #replaceLog(
    session: FencedSession,
    started: Started,
    position: string,
    signal: AbortSignal,
  ): Promise<void> {
    const backoff = new Backoff({ minMs: 5, maxMs: 500 });
    for (;;) {
      try {
        return await replaceLog(this.#context, session, started, position);
      } catch (error) {
        if (!(error instanceof Raced) || !(await this.#isInForce(session, started))) throw error;
        await sleep(backoff.next(), signal);
      }
    }
  }

  /** Journal and target alike: another process may have raised the generation and died before it made the journal. */
  async #isInForce(session: FencedSession, { journalId, epoch }: Started): Promise<boolean> {
    const { journal, control } = this.#context;
    const inForce = await journal.inForce();
    if (inForce?.id !== journalId || inForce.epoch !== epoch) return false;
    const [identityText] = await session.read([control.identity]);
    return parseIdentity(identityText ?? '')?.journal === journalId;
  }

  async #relane(session: FencedSession, started: Started, fingerprint: string): Promise<void> {
    const { journal, redis, log } = this.#context;
    const lanes = Number(await redis.hget(journal.keys.control, 'relane'));
    if (!Number.isInteger(lanes) || lanes < 1 || lanes > 256) {
      await redis.hdel(journal.keys.control, 'relane');
      log.error('relane: not a number of lanes from 1 to 256; ignored');
      return;
    }
    await raiseGeneration(this.#context, session, started, {
      lanes,
      routing: routingOf(lanes, fingerprint, this.#options.policy),
    });
    await redis.hdel(journal.keys.control, 'relane');
  }

  async #stopped(session: FencedSession, error: StopError): Promise<HolderEnd> {
    const { journal, control, redis, now } = this.#context;
    const inForce = await journal.inForce();
    const role = this.#started && {
      ...this.#started,
      position: this.#loop?.view.position ?? this.#started.position,
    };
    if (role) {
      // Whoever has lost the role meanwhile must not stop its successor, say for a range that only it still wanted.
      const known = controlState(await session.read([control.identity, control.mark]));
      const position = (await redis.hget(journal.keys.state, 'position')) ?? '';
      if (!holdsRole(role, inForce && { ...inForce, position }, known)) return this.#overtaken(error);
    }
    const record = {
      generation: inForce?.generation ?? NO_GENERATION,
      seq: inForce?.head ?? 0,
      position: this.#loop?.view.position ?? '',
      command: error.code,
      key: null,
      reason: error.message,
      hint: error.hint,
      behind: false,
      atMs: now(),
    };
    if (!role) await stopPlace(this.#context, 'ingest', record);
    else if ((await stopIngest(this.#context, record, role)) === 'superseded') return this.#overtaken(error);
    return 'stopped';
  }

  #overtaken({ code, message }: StopError): 'superseded' {
    this.#context.log.warn({ code }, `another ingest has taken over; what stopped this one: ${message}`);
    return 'superseded';
  }

  async #table(
    session: FencedSession,
    identity: Identity | undefined,
  ): Promise<{ fingerprint: string; additions: string }> {
    if (identity)
      return {
        fingerprint: CommandTable.withAdditions(identity.commands).fingerprint,
        additions: identity.commands,
      };
    // A Pika has no COMMAND: what it lacks of the shipped table was tried out (target/traits.ts).
    const reply = session.traits.pika === undefined ? await session.call(['COMMAND']) : [];
    const table = CommandTable.shipped().completedBy(reply as unknown[]);
    return { fingerprint: table.fingerprint, additions: table.additions() };
  }
}
