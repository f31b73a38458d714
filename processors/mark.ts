import type { Snapshot } from '../src/journal/journal.ts';
import { lowWaterMark } from '../src/journal/mark.ts';
import { type Mark, parseCheckpoint, parseIdentity, parseMark } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';

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
  const values = await session.fence([control.identity, control.mark], control.checkpoints(inForce.lanes));
  const identity = parseIdentity(values[0] ?? '');
  const mark = parseMark(values[1] ?? '');
  const found = values.slice(2).map((value) => parseCheckpoint(value ?? ''));
  const foreign = found.some((checkpoint) => checkpoint?.generation !== inForce.generation);
  if (
    !identity ||
    !mark ||
    foreign ||
    identity.journal !== inForce.id ||
    mark.generation !== inForce.generation
  ) {
    await session.abandon();
    return undefined;
  }
  const checkpoints = found.map((checkpoint) => checkpoint?.seq ?? 0);
  const snapshot = await journal.snapshot(inForce.lanes, checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) {
    await session.abandon();
    return undefined;
  }
  const reached = lowWaterMark(snapshot.head, snapshot.views, checkpoints);
  const resume =
    reached === undefined || reached <= mark.mark
      ? undefined
      : await journal.resumePoint(snapshot.id, reached);
  // A journal that fell back between the two looks (its Redis lost a second) knows older positions only.
  if (reached === undefined || resume === undefined || resume.seq < mark.seq) {
    await session.abandon();
    return { mark, checkpoints, snapshot };
  }
  const next: Mark = {
    generation: mark.generation,
    mark: reached,
    position: resume.position,
    seq: resume.seq,
    tails: [...resume.tails],
    timeMs: snapshot.headTimeMs,
  };
  const batch = { parts: [], count: 0, dbLast: session.db };
  const { outcome } = await session.commit(batch, [[control.mark, JSON.stringify(next)]]);
  return { mark: outcome.kind === 'committed' ? next : mark, checkpoints, snapshot };
}
