// How ingest finds its place: begins, continues, or rebuilds the journal.
//
//   no identity at the target       first start: one EXEC writes identity, mark and checkpoints (and flushes, if the
//                                   operator said replace); refused if anything else knows this pipeline already
//   journal of that identity, whole take it over under the next epoch
//   anything else                   the journal is made anew behind the low-water mark, and reading starts there;
//                                   what is applied beyond the mark is recognised by its seq (I1, I5)

import { createHash } from 'node:crypto';
import { encodeCommand } from '../src/binlog/resp.ts';
import { lanesWithGap } from '../src/journal/mark.ts';
import { controlState, controlWrites, type KnownPipeline } from '../src/protocol/control-state.ts';
import {
  beginning,
  endsBeforeApplied,
  rebuilt,
  startStep,
  stillStands,
  unchanged,
} from '../src/protocol/start.ts';
import { StopError } from '../src/runtime/errors.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { defaultFrom, type Source } from '../src/sources/source.ts';
import {
  FILE_GRACE_MS,
  type Identity,
  newJournalId,
  nextGeneration,
  parseMark,
} from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';
import { flushFor, flushIsUnderWay, settleFlush } from './flush-gate.ts';
import { GateUnderWay, Raced, raiseGeneration, readCheckpoints, type Started } from './generation.ts';
import { dataOf, otherPipeline } from './target-data.ts';

export interface IngestOptions {
  readonly from: string | undefined;
  readonly lanes: number | undefined;
  readonly targetData: 'refuse' | 'keep' | 'replace';
  /** Deadlines of a replication link are held back by it, ms; 0: nor are those of a file. Counts at the first start. */
  readonly expiryGraceMs: number;
  /** Everything besides the lanes and the command table that decides which lanes a command needs. */
  readonly policy: Readonly<Record<string, unknown>>;
}

export const LANES_DEFAULT = 8;
const GATE_MS = 600_000;

export function routingOf(
  lanes: number,
  tableFingerprint: string,
  policy: Readonly<Record<string, unknown>>,
): string {
  return createHash('sha256')
    .update(JSON.stringify({ lanes, tableFingerprint, policy }))
    .digest('hex')
    .slice(0, 16);
}

/** What every process may be told to check before it takes part. @throws StopError */
export function checkIdentity(
  identity: Identity,
  source: Source | undefined,
  options: { readonly from?: string | undefined; readonly lanes?: number | undefined },
): void {
  const name = identity.pipeline;
  if (options.lanes !== undefined && options.lanes !== identity.lanes) {
    throw new StopError(
      'LANES_DIFFER',
      `pipeline "${name}" has ${identity.lanes} lanes, and --lanes says ${options.lanes}`,
      {
        hint: `leave --lanes out, or change the number of lanes: lanegate relane ${options.lanes}`,
      },
    );
  }
  if (options.from !== undefined && options.from !== identity.from) {
    throw new StopError(
      'FROM_DIFFERS',
      `pipeline "${name}" has begun (from ${identity.from}); --from ${options.from} counts at the first start only`,
      {
        hint: 'leave --from out to go on, or start over: lanegate reset',
      },
    );
  }
  if (source && source.identity !== identity.source) {
    throw new StopError(
      'SOURCE_DIFFERS',
      `pipeline "${name}" reads ${identity.source}, and --source is ${source.identity}`,
      {
        hint: 'give the pipeline another --name, or start over: lanegate reset',
      },
    );
  }
}

/** @throws StopError when an operator must decide; Raced; anything else is trouble with a connection */
export async function startIngest(
  context: PipelineContext,
  session: FencedSession,
  source: Source,
  options: IngestOptions,
  tableFingerprint: (identity: Identity | undefined) => Promise<{ fingerprint: string; additions: string }>,
): Promise<Started> {
  const { control, journal } = context;
  const known = controlState(await session.read([control.identity, control.mark]));
  if (known.kind === 'none') {
    await awaitFlush(context, session);
    await initialise(context, session, source, options, await tableFingerprint(undefined));
    throw new Raced('initialised: take over as anyone else would');
  }
  if (known.kind === 'foreign') throw foreignControlKeys(context);
  const { identity } = known;
  checkIdentity(identity, source, {});

  const inForce = await journal.inForce();
  let step = startStep(known, inForce, undefined);
  if (step === 'look at the lanes') {
    const checkpoints = await readCheckpoints(context, session, identity);
    step = startStep(known, inForce, await gaps(context, session, identity, checkpoints));
  }
  if (step === 'rebuild') return await rebuild(context, session, known, inForce);
  const start = await journal.begin(identity.journal, context.workerId);
  if (start === 'fenced' || start === 'missing') throw new Raced('the journal was changed');
  await failpoint('after-begin');

  const now = await session.read([control.identity, control.mark]);
  if (!stillStands(known, now, parseMark(now[1] ?? ''), start.head))
    throw new Raced('identity or journal changed while the journal was taken over');

  const { fingerprint } = await tableFingerprint(identity);
  const routing = routingOf(identity.lanes, fingerprint, options.policy);
  const started = { ...start, journalId: identity.journal, identity };
  if (routing === identity.routing) return started;
  const checkpoints = await readCheckpoints(context, session, identity);
  if (endsBeforeApplied(start.head, checkpoints)) {
    throw new StopError(
      'ROUTING_CHANGED',
      'the options that route commands (or the command table) changed while the journal was lost',
      {
        hint: 'start once with the previous options and --until caught-up, then change them',
      },
    );
  }
  await raiseGeneration(context, session, started, { lanes: identity.lanes, routing });
  throw new Raced('the routing changed');
}

/** Lanes that the journal cannot bring up to their tails; all of them when a gate is missing. @throws StopError when checkpoints are missing */
export async function gaps(
  context: PipelineContext,
  session: FencedSession,
  identity: Identity,
  checkpoints: readonly (number | undefined)[],
): Promise<number[]> {
  if (checkpoints.includes(undefined)) {
    await awaitFlush(context, session);
    throw foreignControlKeys(context);
  }
  const { journal } = context;
  const [snapshot, hasHole] = await Promise.all([
    journal.snapshot(identity.lanes, checkpoints),
    journal.hasHole(),
  ]);
  if (!snapshot || snapshot.id !== identity.journal) throw new Raced('the journal was changed');
  if (hasHole) return snapshot.views.map((view) => view.lane);
  return lanesWithGap(snapshot.views, checkpoints as number[]);
}

/** A target without control keys while a gate's flush is under way is no emptied one. @throws Raced */
async function awaitFlush(context: PipelineContext, session: FencedSession): Promise<void> {
  if ((await settleFlush(context, session, { finish: true })) === 'look again')
    throw new GateUnderWay('a gate is under way');
}

async function initialise(
  context: PipelineContext,
  session: FencedSession,
  source: Source,
  options: IngestOptions,
  table: { fingerprint: string; additions: string },
): Promise<void> {
  const { control, journal, name, log } = context;
  const known = [
    ...((await journal.inForce()) ? ["the queue's journal"] : []),
    ...(await source.forget(false)),
  ];
  if (known.length > 0) {
    const [again] = await session.read([control.identity]);
    if (again !== null) throw new Raced('another process initialised the target');
    throw emptiedTarget(name, known);
  }
  const replaced = await admitTarget(context, session, options.targetData);

  const lanes = options.lanes ?? LANES_DEFAULT;
  const from = options.from ?? defaultFrom(source, options.targetData === 'keep');
  const { position } = await source.resolve(from);
  // Their logs say what has expired.
  const imports = source.replication && session.importMode === 'on';
  const begun = beginning({
    pipeline: name,
    source: source.identity,
    from,
    lanes,
    routing: routingOf(lanes, table.fingerprint, options.policy),
    generation: nextGeneration(undefined),
    journal: newJournalId(),
    commands: table.additions,
    graceMs: imports ? 0 : graceFor(source, session, options.expiryGraceMs),
    ...(imports ? { importMode: true } : {}),
    position,
    timeMs: context.now(),
  });
  const flush = encodeCommand([flushFor(session, 'FLUSHALL')]);
  const fence = async () => {
    const values = await session.fence(control.all(lanes));
    if (values.every((value) => value === null)) return;
    await session.abandon();
    throw new Raced('another process initialised the target');
  };
  await fence();
  const alone = replaced && session.traits.flushAlone;
  if (alone) {
    // Whoever dies in between begins again, with a target that is empty.
    const flushed = await session.commit({ parts: [flush], count: 1, dbLast: session.db }, []);
    if (flushed.outcome.kind !== 'committed') throw new Raced('another process initialised the target');
    await fence();
  }
  const batch =
    replaced && !alone
      ? { parts: [flush], count: 1, dbLast: session.db }
      : { parts: [], count: 0, dbLast: session.db };
  const sets = controlWrites(control, begun, 0);
  const { outcome } = await session.commit(batch, sets, { timeoutMs: GATE_MS });
  if (outcome.kind === 'aborted') throw outcome.error;
  if (outcome.kind === 'fenced') throw new Raced('another process initialised the target');
  await failpoint('after-initialise');
  log.info({ lanes, from, position, source: source.display }, 'the pipeline begins');
}

/** By how much deadlines are held back at a target that expires keys by its own clock. */
function graceFor({ replication, finite }: Source, { traits }: FencedSession, graceMs: number): number {
  if (!replication) return 0;
  if (!finite) return graceMs;
  // A Pika may count deadlines in 32 bits.
  return graceMs === 0 || traits.pika !== undefined ? 0 : FILE_GRACE_MS;
}

/** True when the target's data is to be flushed. @throws StopError when the target may not be taken; Raced */
export async function admitTarget(
  context: PipelineContext,
  session: FencedSession,
  policy: IngestOptions['targetData'],
): Promise<boolean> {
  const found = await dataOf(session);
  if (found.keys === 0) return false;
  const { display } = context.sessions.endpoint;
  const other = await otherPipeline(session, context.control.prefix);
  const whose = other === undefined ? "is not this pipeline's" : `belongs to the pipeline "${other}"`;
  const what = `the target ${display} holds ${found.keys} keys (${found.text}) and ${whose}`;
  if (policy === 'replace') {
    context.log.warn({ keys: found.keys }, `${what}: all of them are removed (--target-data replace)`);
    return true;
  }
  // They may be those by which another process has begun this very pipeline since the caller looked.
  const [identity] = await session.read([context.control.identity]);
  if (identity !== null) throw new Raced('another process initialised the target');
  if (other !== undefined) {
    throw new StopError('TARGET_TAKEN', what, {
      hint: `end that one first: lanegate reset --name ${other}; --target-data replace would remove it with its data`,
    });
  }
  if (policy === 'refuse') {
    throw new StopError('TARGET_HAS_DATA', what, {
      hint: '--target-data keep applies on top of them, --target-data replace removes them all first',
    });
  }
  return false;
}

async function rebuild(
  context: PipelineContext,
  session: FencedSession,
  known: KnownPipeline,
  inForce: { id: string; epoch: number; lanes: number } | undefined,
): Promise<Started> {
  const { control, journal, log } = context;
  const { identity, mark } = known;
  const next = rebuilt(known, newJournalId());
  const values = await session.fence([control.identity, control.mark], [control.sentinel]);
  if (!unchanged(known, values) || (await flushIsUnderWay(context, values[2]))) {
    await session.abandon();
    throw new Raced('identity or mark moved');
  }
  const { outcome } = await session.commit({ parts: [], count: 0, dbLast: session.db }, [
    [control.identity, JSON.stringify(next.identity)],
  ]);
  if (outcome.kind === 'aborted') throw outcome.error;
  if (outcome.kind === 'fenced') throw new Raced('another ingest was faster');
  await failpoint('during-rebuild');
  const made = await journal.rebuild({
    ...next.journal,
    replaces: inForce && { id: inForce.id, epoch: inForce.epoch },
    lanesBefore: inForce?.lanes ?? 0,
    holder: context.workerId,
  });
  if (made === 'fenced') throw new Raced('another ingest was faster');
  if (mark.seq > 0 || inForce)
    log.warn(
      { seq: mark.seq, position: mark.position },
      'the journal was made anew behind the low-water mark',
    );
  const checkpoints = await readCheckpoints(context, session, next.identity);
  if ((await gaps(context, session, next.identity, checkpoints)).length > 0) {
    const now = await journal.inForce();
    if (now?.id !== next.journal.id || now.epoch !== made.epoch) throw new Raced('another ingest took over');
    throw new StopError(
      'JOURNAL_HOLES',
      'the new journal does not meet the checkpoints of the target: they were changed by hand',
      {
        hint: 'start over: lanegate reset',
      },
    );
  }
  return {
    epoch: made.epoch,
    head: mark.seq,
    position: mark.position,
    lanes: identity.lanes,
    generation: identity.generation,
    headTimeMs: mark.timeMs,
    tails: mark.tails,
    journalId: next.identity.journal,
    identity: next.identity,
  };
}

export function emptiedTarget(name: string, known: readonly string[]): StopError {
  return new StopError(
    'TARGET_EMPTIED',
    `the target knows nothing of pipeline "${name}", but ${known.join(' and ')} does: the target was emptied, or --target is another server`,
    {
      hint: 'point --target at the right server; or start over: lanegate reset',
    },
  );
}

function foreignControlKeys(context: PipelineContext): StopError {
  return new StopError(
    'CONTROL_KEYS',
    `the control keys ${context.control.prefix}* at the target are missing in part or not readable: they were changed by hand, or by another version`,
    {
      hint: 'restore the target from its replica or backup; or start over: lanegate reset',
    },
  );
}
