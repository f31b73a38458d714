import { Classifier } from '../../src/binlog/classify.ts';
import { CommandTable } from '../../src/binlog/command-table.ts';
import { encodeCommand } from '../../src/binlog/resp.ts';
import type { GateItem, LaneItem } from '../../src/journal/item.ts';
import { lanesWithGap, lowWaterMark } from '../../src/journal/mark.ts';
import { selectCommand } from '../../src/sequencer/batch-builder.ts';
import { Sequencer } from '../../src/sequencer/sequencer.ts';
import type { Entry } from '../../src/sources/source.ts';
import { type Checkpoint, formatCheckpoint, type Mark, parseCheckpoint } from '../../src/target/control.ts';
import { type Batch, planChunk, planGate } from '../../src/target/plan.ts';
import type { Begun } from './sim-journal.ts';
import { type ExecOutcome, CONTROL, SessionLost, type SimSession, Violation } from './sim-target.ts';
import { DATABASES, intBelow } from './source-log.ts';
import type { World } from './world.ts';

// What processors/ do, step by step: each `yield` is a place where the process may be killed, put to sleep for as long
// as the scheduler likes (a zombie), or overtaken by anybody else. Everything that is decided is decided by the real
// pure code. Claims, jobs and pauses are left out: they save work, and safety must not rest on them.

export type Actor = Generator<void, void>;

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

/** processors/lane.ts */
export function* laneWorker(world: World, lane: number, who: string): Actor {
  const inForce = world.journal.inForce();
  if (!inForce || lane >= inForce.lanes) return;
  yield;
  const session = world.open();
  const key = CONTROL.checkpoint(lane);
  const { generation } = inForce;
  let items: LaneItem[] = [];
  for (let turns = 0; turns < 12; turns++) {
    const checkpoint = checkpointOf(world, session.read([key])[0], generation);
    if (checkpoint?.generation !== generation) return;
    yield;
    // What it has read before is not read again: items of another journal, or behind a chunk that failed, stay in hand.
    if (items.length === 0 || world.rng() < 0.5)
      items = world.journal.readLane(lane, checkpoint.seq, 1 + intBelow(world.rng, 4));
    else if (world.rng() < 0.3) items.shift();
    if (world.mutant === 'item-predecessor') items = withOnePredecessor(items);
    const bytesMax = world.rng() < 0.5 ? 1 : 10_000;
    const plan = planChunk(items, checkpoint, session.db, { bytesMax, skips: world.skips() });
    yield;
    if (plan.kind === 'none') return;
    if (plan.kind === 'applied') items.shift();
    else if (plan.kind === 'marker') {
      yield* gateRunner(world, plan.marker.seq, who);
      items = [];
    } else if (plan.kind === 'run') {
      const outcome = yield* execChunk(world, session, key, checkpoint, plan, who);
      if (outcome?.kind === 'committed') items.splice(0, plan.items);
      else if (outcome?.kind === 'aborted') {
        const blamed = plan.batch.commandAt(outcome.index);
        if (blamed?.seq !== outcome.id)
          throw new Violation('I7', `${who} blames ${blamed?.seq} for the refusal of ${outcome.id}`);
        const prefix = planChunk(items, checkpoint, session.db, {
          bytesMax,
          skips: world.skips(),
          before: blamed.seq,
        });
        if (prefix.kind === 'run' && prefix.last > checkpoint.seq)
          yield* execChunk(world, session, key, checkpoint, prefix, who);
        return;
      }
    } else items = [];
  }
}

function* execChunk(
  world: World,
  session: SimSession,
  key: string,
  checkpoint: Checkpoint,
  plan: { readonly batch: Batch; readonly last: number },
  who: string,
): Generator<void, ExecOutcome | undefined> {
  const [value] = session.fence([key]);
  if (value !== formatCheckpoint(checkpoint) && world.mutant !== 'no-fence') return undefined;
  yield;
  const set = formatCheckpoint({ generation: checkpoint.generation, seq: plan.last });
  world.trace?.(`${who} chunk ${checkpoint.seq}..${plan.last}`);
  const outcome = session.commit(plan.batch.parts, [[key, set]], who);
  loseReply(world);
  yield;
  return outcome;
}

/** The mutant: a chunk is let through by the predecessor of the first item in hand. */
function withOnePredecessor(items: readonly LaneItem[]): LaneItem[] {
  let lowest = Number.POSITIVE_INFINITY;
  return items.map((item) => {
    lowest = Math.min(lowest, item.previous);
    return { ...item, previous: lowest };
  });
}

/** processors/gate.ts */
export function* gateRunner(world: World, seq: number, who: string): Actor {
  const inForce = world.journal.inForce();
  const item = world.journal.readGate(seq);
  if (!inForce || !item || item.generation !== inForce.generation) return;
  yield;
  const session = world.open();
  const keys = item.lanes.map((lane) => CONTROL.checkpoint(lane));
  const held = item.erases ? [CONTROL.identity, CONTROL.mark] : [];
  for (let attempts = 0; attempts < 3; attempts++) {
    const values = session.fence([...keys, ...held]);
    const plan = gatePlan(world, item, values, undefined);
    yield;
    if (plan?.kind === 'mixed')
      throw new Violation('I3', `${who}: some lanes of gate ${seq} have passed ${plan.seq}, some not`);
    if (plan?.kind !== 'run') return;
    world.trace?.(`${who} gate ${item.first}..${seq} lanes ${item.lanes} at ${values.slice(0, keys.length)}`);
    const outcome = execGate(world, session, item, values, plan.batch, plan.through, who);
    loseReply(world);
    yield;
    if (outcome.kind === 'committed') return;
    if (outcome.kind === 'aborted') {
      const blamed = plan.batch.commandAt(outcome.index)?.seq;
      if (blamed !== outcome.id)
        throw new Violation('I7', `${who} blames ${blamed} for the refusal of ${outcome.id}`);
      yield;
      const fresh = session.fence([...keys, ...held]);
      // The mutant plans with what it saw before, and is fenced on what it sees now.
      const stale = world.mutant === 'prefix-of-old-plan' ? values : fresh;
      const prefix = gatePlan(world, item, stale, blamed);
      if (prefix?.kind === 'run' && prefix.batch.count > 0)
        execGate(world, session, item, fresh, prefix.batch, prefix.through, `${who} prefix`);
      return;
    }
  }
}

function gatePlan(world: World, item: GateItem, values: readonly (string | null)[], before: number | undefined) {
  const checkpoints = item.lanes.map((_, at) => checkpointOf(world, values[at], item.generation));
  if (checkpoints.includes(undefined) || values.slice(item.lanes.length).includes(null)) return undefined;
  return planGate(item, checkpoints as Checkpoint[], 0, { skips: world.skips(), before });
}

function execGate(
  world: World,
  session: SimSession,
  item: GateItem,
  values: readonly (string | null)[],
  batch: Batch,
  through: number,
  who: string,
): ExecOutcome {
  const { generation } = item;
  const sets = item.lanes.map((lane, at): [string, string] => {
    const before = parseCheckpoint(values[at] ?? '')?.seq ?? 0;
    return [CONTROL.checkpoint(lane), formatCheckpoint({ generation, seq: Math.max(before, through) })];
  });
  const parts = [...batch.parts];
  if (item.erases) {
    for (const db of item.swapped)
      parts.push(selectCommand(db), encodeCommand(['DEL', ...CONTROL.all(item.lanes.length)]));
    const [identity, mark] = values.slice(item.lanes.length);
    sets.push([CONTROL.identity, String(identity)], [CONTROL.mark, String(mark)]);
    if (world.mutant === 'no-rewrite') sets.length = 0;
  }
  return session.commit(parts, sets, who);
}

/** processors/startup.ts and processors/ingest.ts */
export function* ingest(world: World, who: string): Actor {
  const session = world.open();
  const begun = yield* startIngest(world, session, who);
  if (!begun || (yield* relaneFirst(world, session, begun))) return;
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

/** Nothing is read until the lanes are drained, unless the journal ends before what is applied. */
function* relaneFirst(world: World, session: SimSession, begun: Begun): Generator<void, boolean> {
  if (world.relaneTo === undefined) return false;
  const identity = parseJson<SimIdentity>(session.read([CONTROL.identity])[0]);
  const checkpoints = identity && readCheckpoints(session, identity);
  if (!checkpoints || identity.journal !== begun.id) return true;
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
  world.lanesChanged(identity);
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
  if (values[0] !== JSON.stringify(identity) || now.some((value, lane) => value !== checkpoints[lane])) return;
  const gone = CONTROL.checkpoints(identity.lanes).slice(to);
  const parts = gone.length === 0 ? [] : [encodeCommand(['DEL', ...gone])];
  const outcome = session.commit(parts, controlSets(next, mark, seq), 'raise', 'control');
  if (outcome.kind !== 'committed') return;
  world.trace?.(`raise to ${to} lanes, generation ${generation}, seq ${seq} at ${mark.position}`);
  world.lanesChanged(next);
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
    if (resume) {
      const { position, seq, tails } = resume;
      const next: Mark = { ...mark, mark: reached, position, seq, tails: [...tails] };
      yield;
      const outcome = session.commit([], [[CONTROL.mark, JSON.stringify(next)]], 'watchdog', 'control');
      if (outcome.kind === 'committed') world.marked(next);
    }
  }
  yield;
  if (world.rng() < 0.3) world.journal.trim(snapshot.id, Math.floor(mark.seq * world.rng()));
}

export function readCheckpoints(session: SimSession, identity: SimIdentity): number[] | undefined {
  const found = session.read(CONTROL.checkpoints(identity.lanes)).map((value) => parseCheckpoint(value ?? ''));
  if (found.some((checkpoint) => checkpoint?.generation !== identity.generation)) return undefined;
  return found.map((checkpoint) => (checkpoint as Checkpoint).seq);
}

function checkpointOf(world: World, text: string | null | undefined, generation: string): Checkpoint | undefined {
  const zero = world.mutant === 'missing-is-zero' ? { generation, seq: 0 } : undefined;
  return text === null || text === undefined ? zero : parseCheckpoint(text);
}

function controlSets(identity: SimIdentity, mark: Mark, seq: number): [string, string][] {
  const text = formatCheckpoint({ generation: identity.generation, seq });
  return [
    [CONTROL.identity, JSON.stringify(identity)],
    [CONTROL.mark, JSON.stringify(mark)],
    ...CONTROL.checkpoints(identity.lanes).map((key): [string, string] => [key, text]),
  ];
}

function loseReply(world: World): void {
  if (!world.quiet && world.rng() < 0.03) throw new SessionLost();
}

function parseJson<T>(text: string | null | undefined): T | undefined {
  return text === null || text === undefined ? undefined : (JSON.parse(text) as T);
}
