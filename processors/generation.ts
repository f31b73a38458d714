// A generation is one mapping from commands to seqs and lanes. Another number of lanes or another routing begins the next
// one: when all lanes are drained, in one EXEC over everything that the target keeps of the pipeline.

import type { JournalStart } from '../src/journal/journal.ts';
import { failpoint } from '../src/runtime/failpoints.ts';
import {
  type Checkpoint,
  formatCheckpoint,
  type Identity,
  type Mark,
  newJournalId,
  nextGeneration,
  parseCheckpoint,
  parseIdentity,
} from '../src/target/control.ts';
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
  return values.map((value) => {
    const checkpoint = parseCheckpoint(value ?? '');
    return checkpoint?.generation === identity.generation ? checkpoint.seq : undefined;
  });
}

/** Everything that the target keeps of a pipeline, all checkpoints at one seq. */
export function controlSets(
  context: PipelineContext,
  identity: Identity,
  mark: Mark,
  seq: number,
): [string, string][] {
  const { control } = context;
  const checkpoint: Checkpoint = { generation: identity.generation, seq };
  return [
    [control.identity, JSON.stringify(identity)],
    [control.mark, JSON.stringify(mark)],
    ...control
      .checkpoints(identity.lanes)
      .map((key): [string, string] => [key, formatCheckpoint(checkpoint)]),
  ];
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
  const behind = snapshot.views
    // Above the head: applied, and not read again yet since the journal was made anew. Its position is not where that ends.
    .filter(({ lane, tail }) => (checkpoints[lane] ?? -1) < tail || (checkpoints[lane] ?? 0) > snapshot.head)
    .map((view) => view.lane);
  if (behind.length > 0) throw new NotDrained(behind);

  const seq = Math.max(snapshot.head, ...checkpoints.map((checkpoint) => checkpoint ?? 0));
  const generation = nextGeneration(identity.generation);
  const next: Identity = {
    ...identity,
    lanes: to.lanes,
    routing: to.routing,
    generation,
    journal: newJournalId(),
  };
  const tails = Array.from({ length: to.lanes }, () => seq);
  const mark: Mark = {
    generation,
    mark: seq,
    position: snapshot.position,
    seq,
    tails,
    timeMs: snapshot.headTimeMs,
  };
  const lanesMax = Math.max(to.lanes, identity.lanes);
  const values = await session.fence(control.all(lanesMax));
  const stillThere = parseIdentity(values[0] ?? '')?.journal === identity.journal;
  const cks = values.slice(2, 2 + identity.lanes).map((value) => parseCheckpoint(value ?? '')?.seq);
  if (!stillThere || cks.some((value, lane) => value !== checkpoints[lane])) {
    await session.abandon();
    throw new Raced('the checkpoints moved');
  }
  const gone = control.checkpoints(identity.lanes).slice(to.lanes);
  const parts = gone.length === 0 ? [] : [encodeDel(gone)];
  const { outcome } = await session.commit(
    { parts, count: parts.length, dbLast: session.db },
    controlSets(context, next, mark, seq),
  );
  if (outcome.kind === 'aborted') throw outcome.error;
  if (outcome.kind === 'fenced') throw new Raced('the checkpoints moved');
  await failpoint('during-relane');
  log.info({ generation, lanes: to.lanes, seq }, 'a new generation begins');
}

/** Lanes that are not drained yet. */
export class NotDrained extends Error {
  readonly lanes: readonly number[];
  constructor(lanes: readonly number[]) {
    super(`lanes ${lanes.join(', ')} are not drained`);
    this.lanes = lanes;
  }
}

function encodeDel(keys: readonly string[]): Buffer {
  const words = ['DEL', ...keys].map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`);
  return Buffer.from(`*${words.length}\r\n${words.join('')}`);
}
