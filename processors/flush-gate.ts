// Sends what src/protocol/flush-gate.ts decides. Any process may do any step, any number of times.

import { encodeCommand } from '../src/binlog/resp.ts';
import type { FlushIntent } from '../src/journal/flush-intent.ts';
import type { GateItem } from '../src/journal/item.ts';
import { flushFence, flushIntent, flushStep, lanesOf, restoreWrites } from '../src/protocol/flush-gate.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { BatchOutcome } from '../src/wire/replies.ts';
import type { PipelineContext } from './context.ts';

export interface FlushGate {
  readonly item: GateItem;
  readonly journalId: string;
  readonly command: FlushIntent['command'];
}

export type FlushEnd =
  | { readonly kind: 'flushed' }
  /** Somebody else was here: look at the checkpoints again. */
  | { readonly kind: 'look again' }
  /** The target has not done it, or has refused. */
  | { readonly kind: 'not flushed'; readonly outcome: BatchOutcome };

/** What the flush of a gate may still have to do, by whoever meets the target without its control keys. */
export async function settleFlush(
  context: PipelineContext,
  session: FencedSession,
): Promise<'nothing recorded' | 'under way'> {
  const intent = await context.journal.flushIntent();
  if (!intent) return 'nothing recorded';
  const values = await session.fence(flushFence(context.control, lanesOf(intent)));
  const step = flushStep(intent, values);
  if (step === 'restore') await restore(context, session, intent);
  else await session.abandon();
  if (step === 'done') await context.journal.flushSettled(intent);
  return step === 'done' || step === 'foreign' ? 'nothing recorded' : 'under way';
}

/** Whether identity and mark must be left alone. `sentinel`: what the fence has read. */
export async function flushIsUnderWay(
  { journal }: PipelineContext,
  sentinel: string | null | undefined,
): Promise<boolean> {
  if (typeof sentinel !== 'string') return false;
  return (await journal.flushIntent())?.sentinel === sentinel;
}

/** From wherever the gate stands to its end. @throws ReplyError, ConnectionLost */
export async function runFlush(
  context: PipelineContext,
  session: FencedSession,
  gate: FlushGate,
): Promise<FlushEnd> {
  const { control, journal } = context;
  const lanes = gate.item.lanes.length;
  let intent = await journal.flushIntent();
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
      if (!next || !(await journal.recordFlush(gate.journalId, next, intent?.sentinel ?? '')))
        return { kind: 'look again' };
      intent = next;
      await failpoint('flush-recorded');
    } else if (step === 'place') {
      const { outcome } = await session.commit(nothing(session), [[control.sentinel, intent.sentinel]]);
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
    } else {
      return (await restore(context, session, intent)) ? { kind: 'flushed' } : { kind: 'look again' };
    }
  }
}

function nothing(session: FencedSession) {
  return { parts: [], count: 0, dbLast: session.db };
}

function ended(outcome: BatchOutcome): FlushEnd {
  return outcome.kind === 'fenced' ? { kind: 'look again' } : { kind: 'not flushed', outcome };
}

async function flush(
  { options }: PipelineContext,
  session: FencedSession,
  { command }: FlushIntent,
): Promise<BatchOutcome> {
  const batch = { parts: [encodeCommand([command])], count: 1, dbLast: session.db };
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
  if (intent.command === 'FLUSHALL') {
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
