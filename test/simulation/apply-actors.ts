import type { GateItem, LaneItem } from '../../src/journal/item.ts';
import { gateFence, gateWrites, planFenced } from '../../src/protocol/gate-fence.ts';
import { type Checkpoint, formatCheckpoint, parseCheckpoint } from '../../src/target/control.ts';
import { type Batch, planChunk } from '../../src/target/plan.ts';
import { CONTROL, type ExecOutcome, SessionLost, type SimSession, Violation } from './sim-target.ts';
import { intBelow } from './source-log.ts';
import type { World } from './world.ts';

// What processors/ do, step by step: each `yield` is a place where the process may be killed, put to sleep for as long
// as the scheduler likes (a zombie), or overtaken by anybody else. Everything that is decided is decided by the real
// pure code. Claims, jobs and pauses are left out: they save work, and safety must not rest on them.

export type Actor = Generator<void, void>;

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
    if (!checkpoint || (checkpoint.generation !== generation && !blind(world))) return;
    yield;
    // What it has read before is not read again: items of another journal, or behind a chunk that failed, stay in hand.
    if (items.length === 0 || world.rng() < 0.5)
      items = world.journal.readLane(lane, checkpoint.seq, 1 + intBelow(world.rng, 4));
    else if (world.rng() < 0.3) items.shift();
    if (world.mutant === 'item-predecessor') items = withOnePredecessor(items);
    if (blind(world)) items = items.map((item) => ({ ...item, generation: checkpoint.generation }));
    const skips = world.skips(checkpoint.generation);
    const bytesMax = world.rng() < 0.5 ? 1 : 10_000;
    const plan = planChunk(items, checkpoint, session.db, { bytesMax, skips });
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
        if (!blamed || world.idOf(generation, blamed.seq) !== outcome.id)
          throw new Violation('I7', `${who} blames ${blamed?.seq} for the refusal of ${outcome.id}`);
        const prefix = planChunk(items, checkpoint, session.db, { bytesMax, skips, before: blamed.seq });
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

/** The mutants: items are not compared with the generation in force. */
function blind({ mutant }: World): boolean {
  return mutant === 'no-generation' || mutant === 'no-generation-from-0';
}

/** processors/gate.ts */
export function* gateRunner(world: World, seq: number, who: string): Actor {
  const inForce = world.journal.inForce();
  const found = world.journal.readGate(seq);
  if (!inForce || !found || found.generation !== inForce.generation) return;
  let item = found;
  yield;
  const session = world.open();
  const keys = gateFence(CONTROL, item);
  for (let attempts = 0; attempts < 3; attempts++) {
    const values = session.fence(keys);
    const generation = parseCheckpoint(values[0] ?? '')?.generation;
    if (blind(world) && generation !== undefined) item = { ...item, generation };
    const plan = gatePlan(world, item, values, undefined);
    yield;
    if (plan.kind === 'mixed')
      throw new Violation('I3', `${who}: some lanes of gate ${seq} have passed ${plan.seq}, some not`);
    if (plan.kind !== 'run') return;
    world.trace?.(
      `${who} gate ${item.first}..${seq} lanes ${item.lanes} at ${values.slice(0, item.lanes.length)}`,
    );
    const outcome = execGate(world, session, item, values, plan.batch, plan.through, who);
    loseReply(world);
    yield;
    if (outcome.kind === 'committed') return;
    if (outcome.kind === 'aborted') {
      const blamed = plan.batch.commandAt(outcome.index)?.seq;
      if (blamed === undefined || world.idOf(item.generation, blamed) !== outcome.id)
        throw new Violation('I7', `${who} blames ${blamed} for the refusal of ${outcome.id}`);
      yield;
      const fresh = session.fence(keys);
      // The mutant plans with what it saw before, and is fenced on what it sees now.
      const stale = world.mutant === 'prefix-of-old-plan' ? values : fresh;
      const prefix = gatePlan(world, item, stale, blamed);
      if (prefix.kind === 'run' && prefix.batch.count > 0)
        execGate(world, session, item, fresh, prefix.batch, prefix.through, `${who} prefix`);
      return;
    }
  }
}

function gatePlan(
  world: World,
  item: GateItem,
  values: readonly (string | null)[],
  before: number | undefined,
) {
  const zero = formatCheckpoint({ generation: item.generation, seq: 0 });
  const seen =
    world.mutant === 'missing-is-zero'
      ? values.map((value, at) => value ?? (at < item.lanes.length ? zero : null))
      : values;
  return planFenced(item, seen, 0, { skips: world.skips(item.generation), before });
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
  const sets = gateWrites(CONTROL, item, values, batch, through);
  if (item.erases && world.mutant === 'no-rewrite') sets.length = 0;
  return session.commit(batch.parts, sets, who);
}

function checkpointOf(
  world: World,
  text: string | null | undefined,
  generation: string,
): Checkpoint | undefined {
  const zero = world.mutant === 'missing-is-zero' ? { generation, seq: 0 } : undefined;
  return text === null || text === undefined ? zero : parseCheckpoint(text);
}

export function loseReply(world: World): void {
  if (!world.quiet && world.rng() < 0.03) throw new SessionLost();
}
