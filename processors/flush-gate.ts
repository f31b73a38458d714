// Sends what src/protocol/flush-gate.ts decides. Any process may do any step, any number of times.

import { upperText } from '../src/binlog/ascii.ts';
import { encodeCommand } from '../src/binlog/resp.ts';
import type { FlushIntent } from '../src/journal/flush-intent.ts';
import type { GateItem } from '../src/journal/item.ts';
import { checkpointSeqs, controlState } from '../src/protocol/control-state.ts';
import {
  flushFence,
  flushIntent,
  flushStep,
  lanesOf,
  placeWrites,
  restoreWrites,
} from '../src/protocol/flush-gate.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { parseIdentity } from '../src/target/control.ts';
import type { Batch } from '../src/target/plan.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { BatchOutcome } from '../src/wire/replies.ts';
import type { PipelineContext } from './context.ts';

export interface FlushGate {
  readonly item: GateItem;
  readonly journalId: string;
  readonly command: FlushIntent['command'];
  /** The flush was sent from here, and the target has done it. */
  sent: boolean;
}

export type FlushEnd =
  | { readonly kind: 'flushed' }
  /** Somebody else was here: look at the checkpoints again. */
  | { readonly kind: 'look again' }
  /** The target has not done it, or has refused. */
  | { readonly kind: 'not flushed'; readonly outcome: BatchOutcome };

/**
 * For whoever met the target without its control keys: whether that is a gate's doing, so that he is to look again. With
 * `finish` what such a gate has left to do is done here.
 */
export async function settleFlush(
  context: PipelineContext,
  session: FencedSession,
  options: { readonly finish: boolean },
): Promise<'no flush' | 'look again'> {
  const { journal, control } = context;
  for (;;) {
    const { newest, intent } = await journal.flushRecord();
    if (intent) {
      const values = await session.fence(flushFence(control, lanesOf(intent)));
      const step = flushStep(intent, values);
      if (step === 'restore' && options.finish) await restore(context, session, intent);
      else await session.abandon();
      if (step === 'done') await journal.flushSettled(intent);
      return step === 'foreign' ? 'no flush' : 'look again';
    }
    if (await isWhole(context, session)) return 'look again';
    // Unless a whole flush went by between the looks.
    const now = await journal.flushRecord();
    if (now.newest === newest && !now.intent) return 'no flush';
  }
}

async function isWhole({ control }: PipelineContext, session: FencedSession): Promise<boolean> {
  const [identityText] = await session.read([control.identity]);
  const identity = parseIdentity(identityText ?? '');
  if (!identity) return false;
  const values = await session.read(control.all(identity.lanes));
  const seqs = checkpointSeqs(values.slice(2), identity.generation);
  return controlState(values).kind === 'known' && !seqs.includes(undefined);
}

/** Whether identity and mark must be left alone. `sentinel`: what the fence has read. */
export async function flushIsUnderWay(
  { journal }: PipelineContext,
  sentinel: string | null | undefined,
): Promise<boolean> {
  if (typeof sentinel !== 'string') return false;
  return (await journal.flushRecord()).intent?.sentinel === sentinel;
}

/** From wherever the gate stands to its end. @throws ReplyError, ConnectionLost */
export async function runFlush(
  context: PipelineContext,
  session: FencedSession,
  gate: FlushGate,
): Promise<FlushEnd> {
  const { control, journal } = context;
  const lanes = gate.item.lanes.length;
  let { newest, intent } = await journal.flushRecord();
  for (;;) {
    const values = await session.fence(flushFence(control, lanes));
    const isOwn = intent?.generation === gate.item.generation && intent.gate === gate.item.seq;
    const step = intent && isOwn ? flushStep(intent, values) : 'record';
    if (step === 'done' || step === 'foreign') {
      await session.abandon();
      if (intent && step === 'done') await journal.flushSettled(intent);
      return { kind: 'look again' };
    }
    if (intent === undefined || step === 'record') {
      await session.abandon();
      const next = flushIntent(gate.item, gate.command, values);
      if (!next || !(await journal.recordFlush(gate.journalId, next, newest))) return { kind: 'look again' };
      intent = next;
      newest = next.sentinel;
      await failpoint('flush-recorded');
    } else if (step === 'place') {
      const { outcome } = await session.commit(nothing(session), placeWrites(control, intent));
      if (outcome.kind !== 'committed') return ended(outcome);
      await failpoint('flush-placed');
    } else if (step === 'flush') {
      await failpoint('flush-fenced');
      const outcome = await flush(context, session, intent);
      await failpoint('flush-sent');
      if (outcome.kind !== 'committed' || outcome.errors.length > 0) return ended(outcome);
      // A Pika that saves in the background answers OK and flushes nothing: then the sentinel is still there.
      const [left] = await session.read([control.sentinel]);
      if (left !== null) return { kind: 'not flushed', outcome };
      gate.sent = true;
    } else {
      return (await restore(context, session, intent)) ? { kind: 'flushed' } : { kind: 'look again' };
    }
  }
}

/** Undefined for a batch that is more than one flush. */
export function flushOf(batch: Batch): FlushIntent['command'] | undefined {
  const name = batch.count === 1 ? upperText(batch.commandAt(0)?.args[0] ?? Buffer.alloc(0)) : '';
  return name === 'FLUSHDB' || name === 'FLUSHALL' ? name : undefined;
}

function nothing(session: FencedSession) {
  return { parts: [], count: 0, dbLast: session.db };
}

function ended(outcome: BatchOutcome): FlushEnd {
  return outcome.kind === 'fenced' ? { kind: 'look again' } : { kind: 'not flushed', outcome };
}

/**
 * Of a target with one database that is the same, and others' databases stay as they are. A FLUSHALL inside EXEC makes
 * Pika 4.0.1 send a reply that has no end.
 */
export function flushFor({ traits }: FencedSession, command: FlushIntent['command']): FlushIntent['command'] {
  return traits.oneDatabase ? 'FLUSHDB' : command;
}

async function flush(
  { options }: PipelineContext,
  session: FencedSession,
  intent: FlushIntent,
): Promise<BatchOutcome> {
  const batch = { parts: [encodeCommand([flushFor(session, intent.command)])], count: 1, dbLast: session.db };
  const { outcome } = await session.commit(batch, [], { timeoutMs: options.gateTimeoutMs });
  return outcome;
}

/** Inside the fence that has found the flush done. */
async function restore(
  context: PipelineContext,
  session: FencedSession,
  intent: FlushIntent,
): Promise<boolean> {
  const { control, journal } = context;
  if (flushFor(session, intent.command) === 'FLUSHALL') {
    // It goes from database to database: one that was cut short has emptied the first, where the sentinel was.
    const outcome = await flush(context, session, intent);
    if (outcome.kind !== 'committed' || outcome.errors.length > 0) return false;
    const values = await session.fence(flushFence(control, lanesOf(intent)));
    if (flushStep(intent, values) !== 'restore') {
      await session.abandon();
      return false;
    }
  }
  const { outcome } = await session.commit(nothing(session), restoreWrites(control, intent));
  if (outcome.kind !== 'committed') return false;
  await failpoint('flush-restored');
  await journal.flushSettled(intent);
  return true;
}
