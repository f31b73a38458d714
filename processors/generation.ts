// A generation is one mapping from commands to seqs and lanes. Another number of lanes or another routing begins the next
// one when all lanes are drained; a log that replaces everything (a full sync) begins it at once. One EXEC either way, over
// everything that the target keeps of the pipeline.

import type { JournalStart } from '../src/journal/journal.ts';
import { checkpointSeqs } from '../src/protocol/control-state.ts';
import {
  type RaiseAt,
  raised,
  raiseFence,
  raiseFrom,
  raiseWrites,
  type Standing,
  undrained,
} from '../src/protocol/raise.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { type Identity, newJournalId, nextGeneration } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';
import { flushIsUnderWay } from './flush-gate.ts';

export interface Started extends JournalStart {
  readonly journalId: string;
  readonly identity: Identity;
}

/** Another process changed the same thing first: look again. */
export class Raced extends Error {}

/** The control keys are not at the target for a moment. */
export class GateUnderWay extends Raced {}

/** Checkpoints of all lanes; undefined where one is missing or of another generation. */
export async function readCheckpoints(
  context: PipelineContext,
  session: FencedSession,
  identity: Pick<Identity, 'lanes' | 'generation'>,
): Promise<(number | undefined)[]> {
  const values = await session.read(context.control.checkpoints(identity.lanes));
  return checkpointSeqs(values, identity.generation);
}

/**
 * Begins another mapping from commands to lanes. The lanes must be drained; numbers go on above everything used.
 * @throws StopError when they are not, naming the lanes that stand still
 */
export async function raiseGeneration(
  context: PipelineContext,
  session: FencedSession,
  started: Started,
  to: { readonly lanes: number; readonly routing: string },
): Promise<void> {
  const { journal } = context;
  const { identity } = started;
  const checkpoints = await readCheckpoints(context, session, identity);
  const snapshot = await journal.snapshot(identity.lanes, checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) throw new Raced('the journal was changed');
  const behind = undrained(snapshot, checkpoints);
  if (behind.length > 0) throw new NotDrained(behind);

  await raise(context, session, started, { at: snapshot, standing: checkpoints, to });
  await failpoint('during-relane');
}

/**
 * Begins a log that replaces the one so far, with all that the target holds. Nothing is waited for: whatever lanes, gates
 * and zombies still have of the old generation is void once their checkpoints are of the new one.
 */
export async function replaceLog(
  context: PipelineContext,
  session: FencedSession,
  started: Started,
  position: string,
): Promise<void> {
  const { journal, now } = context;
  const { identity } = started;
  const inForce = await journal.inForce();
  if (inForce?.id !== identity.journal || inForce.epoch !== started.epoch)
    throw new Raced('the journal was changed');
  const at = { head: inForce.head, position, headTimeMs: now() };
  const { lanes, routing } = identity;
  await raise(context, session, started, { at, standing: 'moving', to: { lanes, routing } });
  await failpoint('after-replacing-the-log');
}

interface Raise {
  readonly at: RaiseAt;
  readonly standing: Standing;
  readonly to: { readonly lanes: number; readonly routing: string };
}

async function raise(
  context: PipelineContext,
  session: FencedSession,
  { identity }: Started,
  { at, standing, to }: Raise,
): Promise<void> {
  const { control, log } = context;
  const generation = nextGeneration(identity.generation);
  const { watched, along } = raiseFence(control, Math.max(to.lanes, identity.lanes), standing);
  const values = await session.fence(watched, [...along, control.sentinel]);
  const found = raiseFrom(values, identity, standing);
  if (!found || (await flushIsUnderWay(context, values.at(-1)))) {
    await session.abandon();
    throw new Raced('the checkpoints moved');
  }
  await failpoint('before-raise');
  const next = raised(identity, at, found, { ...to, generation, journal: newJournalId() });
  const { parts, sets } = raiseWrites(control, identity, next);
  const { outcome } = await session.commit({ parts, count: parts.length, dbLast: session.db }, sets);
  if (outcome.kind === 'aborted') throw outcome.error;
  if (outcome.kind === 'fenced') throw new Raced('the checkpoints moved');
  log.info({ generation, lanes: to.lanes, seq: next.mark.seq }, 'a new generation begins');
}

/** Lanes that are not drained yet. */
export class NotDrained extends Error {
  readonly lanes: readonly number[];
  constructor(lanes: readonly number[]) {
    super(`lanes ${lanes.join(', ')} are not drained`);
    this.lanes = lanes;
  }
}
