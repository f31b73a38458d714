// A generation is one mapping from commands to seqs and lanes. Another number of lanes or another routing begins the next
// one: when all lanes are drained, in one EXEC over everything that the target keeps of the pipeline.

import type { JournalStart } from '../src/journal/journal.ts';
import { checkpointSeqs } from '../src/protocol/control-state.ts';
import { raised, raiseWrites, stillUnraised, undrained } from '../src/protocol/raise.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import { type Identity, newJournalId, nextGeneration } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';

export interface Started extends JournalStart {
  readonly journalId: string;
  readonly identity: Identity;
}

/** Another process changed the same thing first: look again. */
export class Raced extends Error {}

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
  const { control, journal, log } = context;
  const { identity } = started;
  const checkpoints = await readCheckpoints(context, session, identity);
  const snapshot = await journal.snapshot(identity.lanes, checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) throw new Raced('the journal was changed');
  const behind = undrained(snapshot, checkpoints);
  if (behind.length > 0) throw new NotDrained(behind);

  const generation = nextGeneration(identity.generation);
  const next = raised(identity, snapshot, checkpoints, { ...to, generation, journal: newJournalId() });
  const values = await session.fence(control.all(Math.max(to.lanes, identity.lanes)));
  if (!stillUnraised(values, identity, checkpoints)) {
    await session.abandon();
    throw new Raced('the checkpoints moved');
  }
  const { parts, sets } = raiseWrites(control, identity, next);
  const { outcome } = await session.commit({ parts, count: parts.length, dbLast: session.db }, sets);
  if (outcome.kind === 'aborted') throw outcome.error;
  if (outcome.kind === 'fenced') throw new Raced('the checkpoints moved');
  await failpoint('during-relane');
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
