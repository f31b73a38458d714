import { Classifier } from '../../src/binlog/classify.ts';
import { CommandTable } from '../../src/binlog/command-table.ts';
import { encodeCommand } from '../../src/binlog/resp.ts';
import { lanesWithGap, lowWaterMark } from '../../src/journal/mark.ts';
import { Sequencer } from '../../src/sequencer/sequencer.ts';
import type { Entry } from '../../src/sources/source.ts';
import { type Checkpoint, formatCheckpoint, type Mark, parseCheckpoint } from '../../src/target/control.ts';
import type { Actor } from './apply-actors.ts';
import type { Begun } from './sim-journal.ts';
import { CONTROL, type SimSession, Violation } from './sim-target.ts';
import { DATABASES, intBelow } from './source-log.ts';
import type { World } from './world.ts';

export interface SimIdentity {
  readonly lanes: number;
  readonly generation: string;
  readonly journal: string;
}

const table = CommandTable.shipped();
const classifier = new Classifier({
  table,
  splitMultiKey: true,
  publish: false,
  scriptKeys: 'all',
  reservedPrefix: 'lanegate:',
});

/** processors/startup.ts and processors/ingest.ts */
export function* ingest(world: World, who: string): Actor {
  const session = world.open();
  const begun = yield* startIngest(world, session, who);
  if (!begun || (yield* mustBeginAnew(world, session, begun))) return;
  const { rng, log } = world;
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
      transactionBytesMax: 100_000,
    },
    positionInside: (entry, taken) => `${Number(entry.position) - 1}:${taken}`,
    onPoison: () => ({ kind: 'drop', record: '' }),
  });
  let head = begun.head;
  let { at, taken } = world.place(begun.position);
  for (let looks = 0; looks < 40; looks++) {
    yield;
    const end = Math.min(world.written, at + 1 + intBelow(rng, 6));
    const chunk: Entry[] = log.entries.slice(at, end).map((entry) => ({ ...entry, skip: 0 }));
    if (chunk[0] && taken > 0) chunk[0] = { ...chunk[0], skip: taken };
    for (const step of sequencer.rounds(chunk)) {
      if (step.kind !== 'round') throw new Violation('I7', 'poison that was to be dropped');
      yield;
      const outcome = world.journal.commit(begun.id, begun.epoch, head, step.round);
      world.trace?.(`${who} commit ${head}..${step.round.lastSeq} ${outcome}`);
      if (outcome === 'fenced' || outcome === 'missing') return;
      if (rng() < 0.05) world.journal.commit(begun.id, begun.epoch, head, step.round);
      head = step.round.lastSeq;
    }
    if (end > at) taken = 0;
    at = end;
    if (rng() < 0.2 && (yield* lookAround(world, session, begun))) return;
  }
}

/** processors/ingest-holder.ts: true when the role must begin anew. */
function* lookAround(world: World, session: SimSession, begun: Begun): Generator<void, boolean> {
  if (world.journal.inForce()?.id !== begun.id) return true;
  const [identityText, markText] = session.read([CONTROL.identity, CONTROL.mark]);
  const identity = parseJson<SimIdentity>(identityText);
  if (identity?.journal !== begun.id) return true;
  yield;
  const checkpoints = readCheckpoints(session, identity);
  const snapshot = checkpoints && world.journal.snapshot(checkpoints);
  if (!snapshot || snapshot.id !== begun.id) return true;
  if (lanesWithGap(snapshot.views, checkpoints).length > 0) return true;
  if (world.relaneTo !== undefined) {
    yield* raise(world, session, identity);
    return true;
  }
  const mark = parseJson<Mark>(markText);
  if (mark) world.acknowledge(mark);
  return false;
}

function* startIngest(world: World, session: SimSession, who: string): Generator<void, Begun | undefined> {
  const [identityText, markText] = session.read([CONTROL.identity, CONTROL.mark]);
  if (identityText === null) {
    if (world.journal.inForce() || world.acknowledged > 0 || world.begun) return undefined;
    initialise(world, session);
    return undefined;
  }
  const identity = parseJson<SimIdentity>(identityText) as SimIdentity;
  const mark = parseJson<Mark>(markText) as Mark;
  yield;
  const inForce = world.journal.inForce();
  const same = inForce?.id === identity.journal && inForce.generation === identity.generation;
  // A journal that came back older than the mark: the source may have forgotten what is between.
  const reaches = world.mutant === 'journal-behind-mark' || (inForce?.head ?? -1) >= mark.seq;
  yield;
  if (!same || !reaches) return yield* rebuild(world, session, identity, mark, inForce, who);
  const checkpoints = readCheckpoints(session, identity);
  if (!checkpoints) return undefined;
  const snapshot = world.journal.snapshot(checkpoints);
  if (snapshot?.id !== identity.journal) return undefined;
  yield;
  if (lanesWithGap(snapshot.views, checkpoints).length > 0)
    return yield* rebuild(world, session, identity, mark, inForce, who);
  const begun = world.journal.begin(identity.journal);
  if (begun === 'fenced' || begun === 'missing') return undefined;
  world.trace?.(`${who} begins ${begun.id} epoch ${begun.epoch} head ${begun.head} at ${begun.position}`);
  return begun;
}

/** True when the role must begin anew. A request for other lanes goes before reading, unless there is applied what the journal has not. */
function* mustBeginAnew(world: World, session: SimSession, begun: Begun): Generator<void, boolean> {
  const [identityText, markText] = session.read([CONTROL.identity, CONTROL.mark]);
  const identity = parseJson<SimIdentity>(identityText);
  const checkpoints = identity && readCheckpoints(session, identity);
  if (!checkpoints || identity.journal !== begun.id) return true;
  // What was read before the journal was taken over may be old by now.
  const reaches = begun.head >= (parseJson<Mark>(markText)?.seq ?? 0);
  if (!reaches && world.mutant !== 'journal-behind-mark') return true;
  if (world.relaneTo === undefined) return false;
  const readAll = begun.head >= Math.max(...checkpoints);
  const mutant = world.mutant === 'relane-before-reading' || world.mutant === 'raise-behind-checkpoints';
  if (!readAll && !mutant) return false;
  yield* raise(world, session, identity);
  return true;
}

function initialise(world: World, session: SimSession): void {
  const generation = world.newGeneration(undefined);
  const lanes = world.lanesFirst;
  const identity: SimIdentity = { lanes, generation, journal: world.newJournalId() };
  const tails = Array.from({ length: lanes }, () => 0);
  const mark: Mark = { generation, mark: 0, position: '0', seq: 0, tails, timeMs: 0 };
  const values = session.fence(CONTROL.all(lanes));
  if (values.some((value) => value !== null)) return;
  session.commit([], controlSets(identity, mark, 0), 'initialise', 'control');
  world.begun = true;
}

function* rebuild(
  world: World,
  session: SimSession,
  identity: SimIdentity,
  mark: Mark,
  inForce: { id: string; epoch: number } | undefined,
  who: string,
): Generator<void, Begun | undefined> {
  const id = world.newJournalId();
  const values = session.fence([CONTROL.identity, CONTROL.mark]);
  yield;
  if (values[0] !== JSON.stringify(identity) || values[1] !== JSON.stringify(mark)) return undefined;
  const next: SimIdentity = { ...identity, journal: id };
  const outcome = session.commit([], [[CONTROL.identity, JSON.stringify(next)]], who, 'control');
  if (outcome.kind !== 'committed') return undefined;
  yield;
  const start = { seq: mark.seq, position: mark.position, tails: mark.tails };
  const { generation, lanes } = identity;
  const made = world.journal.rebuild(inForce, { id, generation, lanes, start });
  world.trace?.(`${who} rebuilds ${id} behind ${mark.seq}: ${made === 'fenced' ? made : 'ok'}`);
  if (made === 'fenced') return undefined;
  world.rebuilds++;
  yield;
  const checkpoints = readCheckpoints(session, next);
  const snapshot = checkpoints && world.journal.snapshot(checkpoints);
  if (snapshot?.id !== id) return undefined;
  if (lanesWithGap(snapshot.views, checkpoints as number[]).length > 0)
    throw new Violation('I5', `${who}: a journal made behind the mark does not meet the checkpoints`);
  return { id, epoch: made.epoch, head: mark.seq, position: mark.position, generation, tails: mark.tails };
}

/** Another number of lanes (raiseGeneration). */
function* raise(world: World, session: SimSession, identity: SimIdentity): Generator<void, void> {
  const to = world.relaneTo as number;
  const checkpoints = readCheckpoints(session, identity);
  const snapshot = checkpoints && world.journal.snapshot(checkpoints);
  if (!snapshot || snapshot.id !== identity.journal) return;
  yield;
  if (snapshot.views.some((view) => (checkpoints[view.lane] as number) < view.tail)) return;
  const seq = Math.max(snapshot.head, ...checkpoints);
  // A journal that was made anew may end before what is applied: its position is not where `seq` stands.
  if (seq > snapshot.head && world.mutant !== 'raise-behind-checkpoints') return;
  const generation = world.newGeneration(identity.generation);
  const next: SimIdentity = { lanes: to, generation, journal: world.newJournalId() };
  const tails = Array.from({ length: to }, () => seq);
  const mark: Mark = { generation, mark: seq, position: snapshot.position, seq, tails, timeMs: 0 };
  const values = session.fence(CONTROL.all(Math.max(to, identity.lanes)));
  yield;
  const now = values.slice(2, 2 + identity.lanes).map((value) => parseCheckpoint(value ?? '')?.seq);
  if (values[0] !== JSON.stringify(identity) || now.some((value, lane) => value !== checkpoints[lane]))
    return;
  const gone = CONTROL.checkpoints(identity.lanes).slice(to);
  const parts = gone.length === 0 ? [] : [encodeCommand(['DEL', ...gone])];
  const outcome = session.commit(parts, controlSets(next, mark, seq), 'raise', 'control');
  if (outcome.kind !== 'committed') return;
  world.trace?.(`raise to ${to} lanes, generation ${generation}, seq ${seq} at ${mark.position}`);
  world.relaneTo = undefined;
}

/** processors/mark.ts, and the trimming of processors/watchdog.ts. */
export function* watchdog(world: World): Actor {
  const session = world.open();
  const inForce = world.journal.inForce();
  if (!inForce) return;
  yield;
  const values = session.fence([CONTROL.identity, CONTROL.mark]);
  const identity = parseJson<SimIdentity>(values[0] ?? null);
  const mark = parseJson<Mark>(values[1] ?? null);
  const found = session.read(CONTROL.checkpoints(inForce.lanes)).map((value) => parseCheckpoint(value ?? ''));
  if (found.some((checkpoint) => checkpoint?.generation !== inForce.generation)) return;
  if (!identity || !mark || identity.journal !== inForce.id || mark.generation !== inForce.generation) return;
  const checkpoints = found.map((checkpoint) => (checkpoint as Checkpoint).seq);
  yield;
  const snapshot = world.journal.snapshot(checkpoints);
  if (snapshot?.id !== identity.journal) return;
  yield;
  let reached = lowWaterMark(snapshot.head, snapshot.views, checkpoints);
  if (world.mutant === 'mark-ignores-gaps')
    reached = Math.min(...snapshot.views.map((view) => (view.next ? view.next.first - 1 : snapshot.head)));
  if (reached !== undefined && reached > mark.mark) {
    const resume = world.journal.resumePoint(snapshot.id, reached);
    // A journal that fell back between the two looks knows an older position only.
    if (resume && resume.seq >= mark.seq) {
      const { position, seq, tails } = resume;
      const next: Mark = { ...mark, mark: reached, position, seq, tails: [...tails] };
      yield;
      const outcome = session.commit([], [[CONTROL.mark, JSON.stringify(next)]], 'watchdog', 'control');
      if (outcome.kind === 'committed') world.marked(next);
    }
  }
  yield;
  if (world.rng() < 0.3) world.trim(snapshot.id, Math.floor(mark.seq * world.rng()));
}

function readCheckpoints(session: SimSession, identity: SimIdentity): number[] | undefined {
  const found = session
    .read(CONTROL.checkpoints(identity.lanes))
    .map((value) => parseCheckpoint(value ?? ''));
  if (found.some((checkpoint) => checkpoint?.generation !== identity.generation)) return undefined;
  return found.map((checkpoint) => (checkpoint as Checkpoint).seq);
}

function controlSets(identity: SimIdentity, mark: Mark, seq: number): [string, string][] {
  const text = formatCheckpoint({ generation: identity.generation, seq });
  return [
    [CONTROL.identity, JSON.stringify(identity)],
    [CONTROL.mark, JSON.stringify(mark)],
    ...CONTROL.checkpoints(identity.lanes).map((key): [string, string] => [key, text]),
  ];
}

function parseJson<T>(text: string | null | undefined): T | undefined {
  return text === null || text === undefined ? undefined : (JSON.parse(text) as T);
}
