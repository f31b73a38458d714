import type { Snapshot } from '../src/journal/journal.ts';
import { markBase, markReach, nextMark } from '../src/protocol/next-mark.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import type { Mark } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';
import { flushIsUnderWay, settleFlush } from './flush-gate.ts';

export interface MarkStep {
  /** The mark in force after this step. */
  readonly mark: Mark;
  /** Checkpoints that it was computed from. */
  readonly checkpoints: readonly number[];
  readonly snapshot: Snapshot;
}

/**
 * Moves the low-water mark up to what is applied. Fenced on identity and mark only: the checkpoints move all the time.
 * Undefined when there is nothing to compute from (no identity, another journal, a gap, a rival).
 */
export async function moveMark(
  context: PipelineContext,
  session: FencedSession,
): Promise<MarkStep | undefined> {
  const { control, journal } = context;
  const inForce = await journal.inForce();
  if (!inForce) return undefined;
  const along = [...control.checkpoints(inForce.lanes), control.sentinel];
  const read = await session.fence([control.identity, control.mark], along);
  const values = read.slice(0, -1);
  const base = markBase(inForce, values);
  if (!base || (await flushIsUnderWay(context, read.at(-1)))) {
    await session.abandon();
    // Whoever sent a flush may be gone.
    if (read[0] === null) await settleFlush(context, session, { finish: true });
    return undefined;
  }
  const { mark, checkpoints } = base;
  const snapshot = await journal.snapshot(inForce.lanes, checkpoints);
  if (!snapshot || snapshot.id !== inForce.id) {
    await session.abandon();
    return undefined;
  }
  const reached = markReach(base, snapshot);
  const resume = reached === undefined ? undefined : await journal.resumePoint(snapshot.id, reached);
  const next = reached === undefined ? undefined : nextMark(base, reached, resume, snapshot.headTimeMs);
  if (!next) {
    await session.abandon();
    return { mark, checkpoints, snapshot };
  }
  await failpoint('mark-fenced');
  const batch = { parts: [], count: 0, dbLast: session.db };
  const { outcome } = await session.commit(batch, [[control.mark, JSON.stringify(next)]]);
  return { mark: outcome.kind === 'committed' ? next : mark, checkpoints, snapshot };
}
