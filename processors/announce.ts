import { frontGates } from '../src/journal/front.ts';
import type { Snapshot } from '../src/journal/journal.ts';
import type { PipelineContext } from './context.ts';

const GATES_AHEAD = 64;

/**
 * Wakes what has work: a flow for each gate at the front of its lanes, an apply job for each other lane that is
 * behind its tail. Called by ingest, by a gate at its end, and by the watchdog: whatever job or wake-up was lost,
 * the next call replaces it (I8). `everyLane` adds apply jobs also where a flow should do (the watchdog).
 */
export async function announce(
  context: PipelineContext,
  checkpoints: readonly number[],
  options: {
    readonly everyLane?: boolean;
    readonly except?: number | undefined;
    readonly unpark?: readonly number[];
  } = {},
): Promise<Snapshot | undefined> {
  const { journal, queues } = context;
  if (options.unpark && options.unpark.length > 0) {
    const inForce = await journal.inForce();
    if (!inForce) return undefined;
    await journal.unpark(inForce.id, options.unpark);
  }
  const snapshot = await journal.snapshot(checkpoints.length, checkpoints);
  if (!snapshot) return undefined;
  const behind = snapshot.views.filter((view) => (checkpoints[view.lane] ?? 0) < view.tail);
  if (behind.length === 0) return snapshot;
  const from = Math.min(...behind.map((view) => checkpoints[view.lane] ?? 0));
  const gates = await journal.gatesBehind(from, GATES_AHEAD);
  const front = frontGates(gates, checkpoints);
  const served = new Set(front.flatMap((gate) => gate.lanes));
  await Promise.all([
    ...front.map((gate) => queues.addGate(snapshot.id, gate)),
    ...behind
      .filter((view) => options.everyLane || (!served.has(view.lane) && view.next?.kind !== 'marker'))
      .filter((view) => view.lane !== options.except)
      .map((view) => queues.addApply(view.lane, (checkpoints[view.lane] ?? 0) + 1, view.tail)),
  ]);
  return snapshot;
}
