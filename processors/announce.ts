import { GATE_QUEUE } from '../queues/names.ts';
import { frontGates, gateIsOpen } from '../src/journal/front.ts';
import type { GateItem } from '../src/journal/item.ts';
import type { Snapshot } from '../src/journal/journal.ts';
import type { LaneView } from '../src/journal/mark.ts';
import type { StopPlace } from '../src/journal/records.ts';
import { parseCheckpoint } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';

const NOBODY: ReadonlySet<number> = new Set();

/** The watchdog looks further: closed gates behind a lane that stands still must not hide the open ones. */
const GATES_AHEAD = 64;
const GATES_AHEAD_OF_WATCHDOG = 4_096;

/**
 * Wakes what has work: a flow for a gate at the front of its lanes, an apply job for each lane that is behind its
 * tail and has none. Where gates come densely only some of them get a flow (QueueSet.flowIsDue): the lanes that are
 * awake meet at the markers by themselves. The watchdog (`everyLane`) leaves nothing out: whatever job or wake-up was
 * lost, its next call replaces it (I8); all but a lane that could only look at a closed gate again (`atClosedDoors`).
 */
export async function announce(
  context: PipelineContext,
  checkpoints: readonly number[],
  options: {
    readonly everyLane?: boolean;
    readonly except?: number | undefined;
  } = {},
): Promise<Snapshot | undefined> {
  const { journal, queues } = context;
  const snapshot = await journal.snapshot(checkpoints.length, checkpoints);
  if (!snapshot) return undefined;
  const behind = snapshot.views.filter((view) => isBehind(view, checkpoints));
  if (options.everyLane) {
    const unread = snapshot.views.filter((view) => isUnread(view, checkpoints));
    await Promise.all(unread.map(({ lane, tail }) => queues.addApply(lane, tail, tail)));
  }
  if (behind.length === 0) return snapshot;
  const from = Math.min(...behind.map((view) => checkpoints[view.lane] ?? 0));
  const gates = await journal.gatesBehind(from, options.everyLane ? GATES_AHEAD_OF_WATCHDOG : GATES_AHEAD);
  const front = frontGates(gates, checkpoints);
  const flows = options.everyLane || queues.flowIsDue() ? front : [];
  const served = new Set(flows.flatMap((gate) => gate.lanes));
  const resting = options.everyLane ? await atClosedDoors(context, snapshot, gates, checkpoints) : NOBODY;
  const needsJob = (view: LaneView) =>
    options.everyLane
      ? !resting.has(view.lane)
      : view.awake === '' && !served.has(view.lane) && view.lane !== options.except;
  await Promise.all([
    ...flows.map((gate) => queues.addGate(snapshot.id, gate)),
    ...behind
      .filter(needsJob)
      .map((view) => queues.addApply(view.lane, (checkpoints[view.lane] ?? 0) + 1, view.tail)),
  ]);
  return snapshot;
}

/** False when the watchdog would find nothing to announce. */
export function needsAnnouncing({ views }: Snapshot, checkpoints: readonly number[]): boolean {
  return views.some((view) => isBehind(view, checkpoints) || isUnread(view, checkpoints));
}

function isBehind(view: LaneView, checkpoints: readonly number[]): boolean {
  return (checkpoints[view.lane] ?? 0) < view.tail;
}

/** Applied by somebody who died before the replies were read: a job accounts for that. */
function isUnread(view: LaneView, checkpoints: readonly number[]): boolean {
  return (view.seen ?? -1) < (checkpoints[view.lane] ?? 0);
}

/** Reads all checkpoints on `session` and announces. */
export async function announceAll(
  context: PipelineContext,
  session: FencedSession,
  options: { readonly everyLane?: boolean; readonly except?: number | undefined },
): Promise<void> {
  const inForce = await context.journal.inForce();
  if (!inForce) return;
  const values = await session.read(context.control.checkpoints(inForce.lanes));
  const checkpoints = values.map((value) => parseCheckpoint(value ?? ''));
  if (checkpoints.some((checkpoint) => checkpoint?.generation !== inForce.generation)) return;
  await announce(
    context,
    checkpoints.map((checkpoint) => checkpoint?.seq ?? 0),
    options,
  );
}

/**
 * Lanes that stand at the marker of a gate which cannot pass now, whatever they do: another lane has not arrived, somebody
 * works on it, or it is held by a stop or an operator. Decided by what is true at this look and by nothing that is
 * remembered: as soon as the reason is gone they are announced again, whoever should have woken them. Of the gates that
 * wait for a lane, the first one's missing lane stands at no marker, so that whoever must move always is announced.
 */
async function atClosedDoors(
  context: PipelineContext,
  snapshot: Snapshot,
  gates: readonly GateItem[],
  checkpoints: readonly number[],
): Promise<ReadonlySet<number>> {
  const resting = new Set<number>();
  const open = gates.filter(
    (gate) => gate.generation === snapshot.generation && gateIsOpen(gate, checkpoints),
  );
  for (const gate of open) {
    const arrived = gate.lanes.filter((lane, at) => hasArrived(gate, at, checkpoints[lane] ?? 0));
    if (arrived.length === 0) continue;
    // Closed for some of its lanes and open for others: nothing of ours does that; let everybody look.
    if (gate.lanes.some((lane) => (checkpoints[lane] ?? 0) >= gate.seq)) continue;
    const isHeld = arrived.length < gate.lanes.length || (await gateIsHeld(context, snapshot, gate));
    if (isHeld) for (const lane of arrived) resting.add(lane);
  }
  return resting;
}

function hasArrived(gate: GateItem, at: number, checkpoint: number): boolean {
  return checkpoint >= (gate.previous[at] ?? Number.POSITIVE_INFINITY) && checkpoint < gate.seq;
}

/** The reasons for which a gate whose lanes are all there ends a try with 'stopped', 'claimed' or 'waiting' (gate.ts). */
async function gateIsHeld(
  { journal, records, redis, queues }: PipelineContext,
  { id, generation }: Snapshot,
  gate: GateItem,
): Promise<boolean> {
  const [claimed, paused, stops, lanesPaused] = await Promise.all([
    redis.exists(journal.keys.gateClaim(id, gate.seq)),
    redis.hexists(journal.keys.pauses, `${GATE_QUEUE}|operator`),
    records.stops(),
    queues.pausedByOperator(gate.lanes),
  ]);
  const isStopped = (place: StopPlace) => stops.get(place)?.generation === generation;
  return (
    claimed === 1 ||
    paused === 1 ||
    lanesPaused.size > 0 ||
    isStopped(`gate:${gate.seq}`) ||
    gate.lanes.some((lane) => isStopped(`lane:${lane}`))
  );
}
