import { frontGates } from '../src/journal/front.ts';
import type { Snapshot } from '../src/journal/journal.ts';
import type { LaneView } from '../src/journal/mark.ts';
import { parseCheckpoint } from '../src/target/control.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';

/** The watchdog looks further: closed gates behind a lane that stands still must not hide the open ones. */
const GATES_AHEAD = 64;
const GATES_AHEAD_OF_WATCHDOG = 4_096;

/**
 * Wakes what has work: a flow for a gate at the front of its lanes, an apply job for each lane that is behind its
 * tail and has none. Where gates come densely only some of them get a flow (QueueSet.flowIsDue): the lanes that are
 * awake meet at the markers by themselves. The watchdog (`everyLane`) leaves nothing out: whatever job or wake-up was
 * lost, its next call replaces it (I8).
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
  const behind = snapshot.views.filter((view) => (checkpoints[view.lane] ?? 0) < view.tail);
  if (options.everyLane) {
    // Applied by somebody who died before the replies were read: a job accounts for that.
    const unread = snapshot.views.filter((view) => (view.seen ?? -1) < (checkpoints[view.lane] ?? 0));
    await Promise.all(unread.map(({ lane, tail }) => queues.addApply(lane, tail, tail)));
  }
  if (behind.length === 0) return snapshot;
  const from = Math.min(...behind.map((view) => checkpoints[view.lane] ?? 0));
  const gates = await journal.gatesBehind(from, options.everyLane ? GATES_AHEAD_OF_WATCHDOG : GATES_AHEAD);
  const front = frontGates(gates, checkpoints);
  const flows = options.everyLane || queues.flowIsDue() ? front : [];
  const served = new Set(flows.flatMap((gate) => gate.lanes));
  const needsJob = (view: LaneView) =>
    options.everyLane || (view.awake === '' && !served.has(view.lane) && view.lane !== options.except);
  await Promise.all([
    ...flows.map((gate) => queues.addGate(snapshot.id, gate)),
    ...behind
      .filter(needsJob)
      .map((view) => queues.addApply(view.lane, (checkpoints[view.lane] ?? 0) + 1, view.tail)),
  ]);
  return snapshot;
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
