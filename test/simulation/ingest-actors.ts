import { Classifier } from '../../src/binlog/classify.ts';
import { CommandTable } from '../../src/binlog/command-table.ts';
import type { Snapshot } from '../../src/journal/journal.ts';
import { lanesWithGap } from '../../src/journal/mark.ts';
import {
  checkpointSeqs,
  controlState,
  controlWrites,
  type KnownPipeline,
} from '../../src/protocol/control-state.ts';
import { markBase, markReach, nextMark } from '../../src/protocol/next-mark.ts';
import {
  raised,
  raiseFence,
  raiseFrom,
  raiseWrites,
  type Standing,
  undrained,
} from '../../src/protocol/raise.ts';
import {
  beginning,
  endsBeforeApplied,
  holdsRole,
  rebuilt,
  startStep,
  stillStands,
  unchanged,
} from '../../src/protocol/start.ts';
import { Sequencer } from '../../src/sequencer/sequencer.ts';
import type { Entry } from '../../src/sources/source.ts';
import { type Identity, type Mark, parseMark } from '../../src/target/control.ts';
import { type Actor, loseReply } from './apply-actors.ts';
import type { Begun } from './sim-journal.ts';
import { CONTROL, type SimSession, Violation } from './sim-target.ts';
import { DATABASES, intBelow } from './source-log.ts';
import type { World } from './world.ts';

const table = CommandTable.shipped();
const classifier = new Classifier({
  table,
  splitMultiKey: true,
  publish: false,
  scriptKeys: 'all',
  pipeline: 'default',
});

type Started = Begun & { readonly identity: Identity };

/** processors/startup.ts and processors/ingest.ts */
export function* ingest(world: World, who: string): Actor {
  const session = world.open();
  const begun = yield* startIngest(world, session, who);
  if (!begun || (yield* mustBeginAnew(world, session, begun))) return;
  const { rng } = world;
  const small = rng() < 0.7;
  const sequencer = new Sequencer({
    table,
    classifier,
    generation: begun.generation,
    head: begun.head,
    tails: begun.tails,
    databases: DATABASES,
    limits: {
      roundBytesMax: small ? 20 + intBelow(rng, 300) : 100_000,
      segmentBytesMax: rng() < 0.5 ? intBelow(rng, 400) : 100_000,
      segmentGapMax: intBelow(rng, 8),
      segmentDenseMin: 1 + intBelow(rng, 4),
      transactionBytesMax: 100_000,
    },
    positionInside: (entry, taken) => {
      const { log, at } = world.place(entry.position);
      return `${log}/${at - 1}:${taken}`;
    },
    onPoison: () => ({ kind: 'drop', record: '' }),
  });
  let { head, position } = begun;
  const { log } = world.place(begun.position);
  let { at, taken } = world.place(begun.position);
  for (let looks = 0; looks < 40; looks++) {
    yield;
    const replacedAt = world.replacedAt(log);
    if (replacedAt !== undefined) {
      yield* replaceLog(world, session, begun, replacedAt, who);
      return;
    }
    if (world.isForgotten(log, at, taken)) {
      // Whoever has lost the role since it began must not stop its successor for what it cannot read any more.
      const known = controlState(session.read([CONTROL.identity, CONTROL.mark]));
      const role = { ...begun, journalId: begun.id, position };
      const holds = holdsRole(role, reaching(world, world.journal.inForce()), known);
      if (!holds && world.mutant !== 'stop-without-role') return;
      throw new Violation(
        'I5',
        `${who} reads from ${log}/${at}:${taken}, and the source forgot up to ${world.acknowledged}`,
      );
    }
    const end = Math.min(world.written, at + 1 + intBelow(rng, 6));
    const chunk: Entry[] = world.log.entries.slice(at, end).map((entry) => ({ ...entry, skip: 0 }));
    if (chunk[0] && taken > 0) chunk[0] = { ...chunk[0], skip: taken };
    for (const step of sequencer.rounds(chunk)) {
      if (step.kind !== 'round') throw new Violation('I7', 'poison that was to be dropped');
      yield;
      const outcome = world.journal.commit(begun.id, begun.epoch, head, step.round);
      world.trace?.(`${who} commit ${head}..${step.round.lastSeq} ${outcome}`);
      if (outcome === 'fenced' || outcome === 'missing') return;
      if (rng() < 0.05) world.journal.commit(begun.id, begun.epoch, head, step.round);
      head = step.round.lastSeq;
      position = step.round.position;
    }
    if (end > at) taken = 0;
    at = end;
    if (rng() < 0.2 && (yield* lookAround(world, session, begun))) return;
  }
}

/** processors/ingest-holder.ts: true when the role must begin anew. */
function* lookAround(world: World, session: SimSession, begun: Begun): Generator<void, boolean> {
  if (world.journal.inForce()?.id !== begun.id) return true;
  const known = controlState(session.read([CONTROL.identity, CONTROL.mark]));
  if (known.kind !== 'known' || known.identity.journal !== begun.id) return true;
  yield;
  const gaps = lookForGaps(world, session, known.identity);
  if (!gaps || gaps.length > 0) return true;
  if (world.relaneTo !== undefined) {
    yield* raise(world, session, known.identity);
    return true;
  }
  world.acknowledge(known.mark);
  return false;
}

/** processors/startup.ts */
function* startIngest(world: World, session: SimSession, who: string): Generator<void, Started | undefined> {
  const known = controlState(session.read([CONTROL.identity, CONTROL.mark]));
  if (known.kind === 'none') {
    if (!world.journal.inForce() && !world.begun) initialise(world, session);
    return undefined;
  }
  if (known.kind === 'foreign') throw new Violation('I5', `${who} finds control keys that do not match`);
  yield;
  const inForce = world.journal.inForce();
  yield;
  let step = startStep(known, reaching(world, inForce), undefined);
  if (step === 'look at the lanes') {
    const gaps = lookForGaps(world, session, known.identity);
    if (!gaps) return undefined;
    yield;
    step = startStep(known, reaching(world, inForce), gaps);
  }
  if (step === 'rebuild') return yield* rebuild(world, session, known, inForce, who);
  const begun = world.journal.begin(known.identity.journal);
  if (begun === 'fenced' || begun === 'missing') return undefined;
  world.trace?.(`${who} begins ${begun.id} epoch ${begun.epoch} head ${begun.head} at ${begun.position}`);
  yield;
  const now = session.read([CONTROL.identity, CONTROL.mark]);
  const head = reaching(world, begun)?.head ?? 0;
  return stillStands(known, now, parseMark(now[1] ?? ''), head)
    ? { ...begun, identity: known.identity }
    : undefined;
}

/** The mutant takes every journal for one that reaches the mark. */
function reaching<T extends { readonly head: number }>(world: World, journal: T | undefined): T | undefined {
  if (world.mutant !== 'journal-behind-mark') return journal;
  return journal && { ...journal, head: Number.POSITIVE_INFINITY };
}

/** True when the role must begin anew. A request for other lanes goes before reading, unless there is applied what the journal has not. */
function* mustBeginAnew(world: World, session: SimSession, begun: Begun): Generator<void, boolean> {
  if (world.relaneTo === undefined) return false;
  const known = controlState(session.read([CONTROL.identity, CONTROL.mark]));
  const checkpoints = known.kind === 'known' ? readCheckpoints(session, known.identity) : undefined;
  if (known.kind !== 'known' || !checkpoints || known.identity.journal !== begun.id) return true;
  const mutant = world.mutant === 'relane-before-reading' || world.mutant === 'raise-behind-checkpoints';
  if (endsBeforeApplied(begun.head, checkpoints) && !mutant) return false;
  yield* raise(world, session, known.identity);
  return true;
}

function initialise(world: World, session: SimSession): void {
  const begun = beginning({
    pipeline: 'sim',
    source: 'sim',
    from: 'beginning',
    lanes: world.lanesFirst,
    routing: '',
    generation: world.newGeneration(undefined),
    journal: world.newJournalId(),
    commands: '',
    graceMs: 0,
    position: '0/0:0',
    timeMs: 0,
  });
  const values = session.fence(CONTROL.all(begun.identity.lanes));
  if (values.some((value) => value !== null)) return;
  world.raised(begun.mark, undefined);
  session.commit([], controlWrites(CONTROL, begun, 0), 'initialise', 'control');
  world.begun = true;
}

function* rebuild(
  world: World,
  session: SimSession,
  known: KnownPipeline,
  inForce: { id: string; epoch: number } | undefined,
  who: string,
): Generator<void, Started | undefined> {
  const next = rebuilt(known, world.newJournalId());
  const values = session.fence([CONTROL.identity, CONTROL.mark]);
  yield;
  if (!unchanged(known, values)) return undefined;
  const sets: [string, string][] = [[CONTROL.identity, JSON.stringify(next.identity)]];
  const outcome = session.commit([], sets, who, 'control');
  if (outcome.kind !== 'committed') return undefined;
  yield;
  const { id, generation, start } = next.journal;
  const made = world.journal.rebuild(inForce, next.journal);
  world.trace?.(`${who} rebuilds ${id} behind ${start.seq}: ${made === 'fenced' ? made : 'ok'}`);
  if (made === 'fenced') return undefined;
  world.rebuilds++;
  yield;
  const gaps = lookForGaps(world, session, next.identity);
  if (!gaps) return undefined;
  if (gaps.length > 0)
    throw new Violation('I5', `${who}: a journal made behind the mark does not meet the checkpoints`);
  const { seq: head, position, tails } = start;
  return { id, epoch: made.epoch, head, position, generation, tails, identity: next.identity };
}

/** Another number of lanes (raiseGeneration). */
function* raise(world: World, session: SimSession, identity: Identity): Generator<void, void> {
  const checkpoints = readCheckpoints(session, identity);
  const snapshot = checkpoints && world.journal.snapshot(checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) return;
  yield;
  // The mutant overlooks that a journal which was made anew may end before what is applied.
  const head = world.mutant === 'raise-behind-checkpoints' ? Number.POSITIVE_INFINITY : snapshot.head;
  if (undrained({ ...snapshot, head }, checkpoints).length > 0) return;
  const to = { lanes: world.relaneTo as number, head: snapshot.head, position: snapshot.position };
  if (yield* raiseTo(world, session, identity, to, checkpoints, 'relane')) world.relaneTo = undefined;
}

/** Another log begins (processors/ingest-holder.ts and replaceLog): nothing is drained, and the lanes go on meanwhile. */
function* replaceLog(
  world: World,
  session: SimSession,
  { id, epoch, identity }: Started,
  position: string,
  who: string,
): Generator<void, void> {
  for (let attempts = 0; attempts < 3; attempts++) {
    const inForce = world.journal.inForce();
    if (inForce?.id !== id || inForce.epoch !== epoch) return;
    yield;
    const to = { lanes: identity.lanes, head: inForce.head, position };
    if (yield* raiseTo(world, session, identity, to, 'moving', `${who} replaces the log`)) return;
    yield;
  }
}

/** processors/generation.ts: false when something else came first. */
function* raiseTo(
  world: World,
  session: SimSession,
  identity: Identity,
  to: { readonly lanes: number; readonly head: number; readonly position: string },
  standing: Standing,
  who: string,
): Generator<void, boolean> {
  const { mutant } = world;
  const replaces = standing === 'moving';
  const { watched, along } = raiseFence(CONTROL, Math.max(to.lanes, identity.lanes), standing);
  const unfenced = replaces && mutant === 'replace-without-fence';
  const values = [
    ...session.fence(unfenced ? [] : watched),
    ...session.read(unfenced ? watched : []),
    ...session.read(along),
  ];
  const stands = raiseFrom(values, identity, standing);
  const found = unfenced ? (stands ?? []) : stands;
  if (!found) return false;
  yield;
  const generation = world.newGeneration(identity.generation);
  const names = { lanes: to.lanes, routing: '', generation, journal: world.newJournalId() };
  const fromZero = replaces && (mutant === 'numbers-from-0' || mutant === 'no-generation-from-0');
  const at = { head: fromZero ? 0 : to.head, position: to.position, headTimeMs: 0 };
  const next = raised(identity, at, fromZero ? [] : found, names);
  const { parts, sets } = raiseWrites(CONTROL, identity, next);
  world.raised(next.mark, identity.generation);
  const outcome = session.commit(parts, sets, who, 'control');
  if (outcome.kind !== 'committed') return false;
  world.trace?.(`${who}: ${to.lanes} lanes, ${generation}, seq ${next.mark.seq} at ${next.mark.position}`);
  loseReply(world);
  return true;
}

/** processors/mark.ts, and the trimming of processors/watchdog.ts. */
export function* watchdog(world: World): Actor {
  const session = world.open();
  const inForce = world.journal.inForce();
  if (!inForce) return;
  yield;
  const values = session.fence([CONTROL.identity, CONTROL.mark]);
  const base = markBase(inForce, [...values, ...session.read(CONTROL.checkpoints(inForce.lanes))]);
  if (!base) return;
  yield;
  const snapshot = world.journal.snapshot(base.checkpoints);
  if (snapshot?.id !== inForce.id) return;
  yield;
  const reached =
    world.mutant === 'mark-ignores-gaps' ? reachOverGaps(snapshot, base.mark) : markReach(base, snapshot);
  const resume = reached === undefined ? undefined : world.journal.resumePoint(snapshot.id, reached);
  const next = reached === undefined ? undefined : nextMark(base, reached, resume, 0);
  if (next) {
    yield;
    const outcome = session.commit([], [[CONTROL.mark, JSON.stringify(next)]], 'watchdog', 'control');
    if (outcome.kind === 'committed') world.marked(next);
  }
  yield;
  if (world.rng() < 0.3) world.trim(snapshot.id, Math.floor(base.mark.seq * world.rng()));
}

/** The mutant. */
function reachOverGaps(snapshot: Pick<Snapshot, 'head' | 'views'>, mark: Mark): number | undefined {
  const ends = snapshot.views.map((view) => (view.next ? view.next.first - 1 : snapshot.head));
  const reached = Math.min(...ends);
  return reached > mark.mark ? reached : undefined;
}

/** Undefined when there is nothing to compare: control keys or journal have changed. */
function lookForGaps(world: World, session: SimSession, identity: Identity): number[] | undefined {
  const checkpoints = readCheckpoints(session, identity);
  const snapshot = checkpoints && world.journal.snapshot(checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) return undefined;
  return lanesWithGap(snapshot.views, checkpoints);
}

function readCheckpoints(session: SimSession, identity: Identity): number[] | undefined {
  const found = checkpointSeqs(session.read(CONTROL.checkpoints(identity.lanes)), identity.generation);
  return found.includes(undefined) ? undefined : (found as number[]);
}
