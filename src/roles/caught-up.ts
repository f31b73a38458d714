// When is "all that was in the source when the command began" applied?
//
// With the source at hand: its head is asked for once, and reached when the resume point of the low-water mark covers
// it. Ignored commands at the log's tail move that point as well. Without it the head is the one that the ingest's
// holder reports, once that report was certainly made after the beginning.

import { sleep } from '../runtime/backoff.ts';
import { positionRules } from '../sources/positions.ts';
import type { Position, Source } from '../sources/source.ts';
import type { PipelineStatus, Stopped } from '../status.ts';
import type { Observation, Observer } from './observe.ts';
import type { Registration } from './registration.ts';

const POLL_MS = 100;
/** A holder looks at the source's head once a second and reports once a second. */
const REPORTS_MIN = 3;

export interface CaughtUpOptions {
  readonly observer: Observer;
  readonly source: Source | undefined;
  /** Without it, for ever. */
  readonly timeoutMs?: number | undefined;
  readonly signal: AbortSignal;
  /** Monotonic ms. */
  readonly elapsed?: () => number;
  /** Sees every status on the way. */
  readonly onStatus?: (status: PipelineStatus) => void;
}

export type CaughtUpEnd =
  | { readonly kind: 'caught up'; readonly status: PipelineStatus }
  | {
      readonly kind: 'stopped';
      readonly place: string;
      readonly stop: Stopped;
      readonly status: PipelineStatus;
    }
  | { readonly kind: 'timeout'; readonly waitingFor: string; readonly status: PipelineStatus };

/** @throws AbortedError when `signal` is aborted first */
export async function waitUntilCaughtUp(options: CaughtUpOptions): Promise<CaughtUpEnd> {
  const { observer, source, timeoutMs = Number.POSITIVE_INFINITY, signal, onStatus } = options;
  const elapsed = options.elapsed ?? (() => performance.now());
  const beganMs = elapsed();
  const reports = new HolderReports();
  let goal = await headOf(source);
  for (;;) {
    const observation = await observer.observe();
    const { status } = observation;
    onStatus?.(status);
    if (goal !== undefined && !isComparable(observation, goal, source)) goal = undefined;
    goal ??= source === undefined ? reports.head(observation.holder) : await headOf(source);
    const stop = firstStop(status);
    if (stop !== undefined) return { kind: 'stopped', ...stop, status };
    if (goal !== undefined && reached(observation, goal, source)) return { kind: 'caught up', status };
    if (elapsed() - beganMs >= timeoutMs) {
      return { kind: 'timeout', waitingFor: whatIsMissing(status, goal, source), status };
    }
    await sleep(POLL_MS, signal);
  }
}

/** What stands still, if anything does: ingest before a gate before a lane. */
export function firstStop(status: PipelineStatus): { place: string; stop: Stopped } | undefined {
  if (status.ingest.stopped) return { place: 'ingest', stop: status.ingest.stopped };
  if (status.gate.stopped) return { place: 'the gate', stop: status.gate.stopped };
  const lane = status.lanes.find(({ stopped }) => stopped !== null);
  return lane?.stopped ? { place: `lane ${lane.lane}`, stop: lane.stopped } : undefined;
}

/** Undefined while the source does not answer, or may not be asked: it is asked again at the next look. */
async function headOf(source: Source | undefined): Promise<Position | undefined> {
  try {
    const head = await source?.head();
    return head?.unknown ? undefined : head?.position;
  } catch {
    return undefined;
  }
}

/** The head that a holder reports, once it must have looked after we began. */
class HolderReports {
  #seen = new Set<number>();
  #holder: string | undefined;

  head(holder: Registration | undefined): Position | undefined {
    if (holder?.ingest?.connected !== true) return undefined;
    if (holder.id !== this.#holder) this.#seen.clear();
    this.#holder = holder.id;
    this.#seen.add(holder.atMs);
    // The first one that we saw counts as made before we began.
    return this.#seen.size > REPORTS_MIN ? (holder.ingest.headPosition ?? undefined) : undefined;
  }
}

function isComparable({ applied, status }: Observation, goal: Position, source: Source | undefined): boolean {
  const rules = source ?? positionRules(status.source.kind ?? undefined);
  return applied === undefined || (rules?.comparable?.(applied.position, goal) ?? true);
}

function reached(
  { applied, accounted, status }: Observation,
  goal: Position,
  source: Source | undefined,
): boolean {
  if (status.queue.waiting !== null || status.target.waiting !== null || applied === undefined) return false;
  // An error reply is applied before it is told: not before it would be seen here is anything done.
  if (!accounted) return false;
  const rules = source ?? positionRules(status.source.kind ?? undefined);
  return rules?.covers(applied.position, goal) ?? false;
}

function whatIsMissing(
  status: PipelineStatus,
  goal: Position | undefined,
  source: Source | undefined,
): string {
  const { queue, target, ingest, gate, lanes } = status;
  const waits = [status.source.waiting, queue.waiting, target.waiting, ...lanes.map((lane) => lane.waiting)];
  const wait = waits.find((one) => one !== null);
  if (wait) return `${wait.code}: ${wait.hint}`;
  const paused = lanes.filter((lane) => lane.paused && lane.appliedThrough < lane.tail);
  if (paused.length > 0 && !gate.open) return `paused lanes: ${paused.map(({ lane }) => lane).join(', ')}`;
  if (ingest.paused) return 'ingest, which is paused: lanegate lane resume ingest';
  if (ingest.holder === null)
    return 'an ingest: no process reads the source (lanegate run, or lanegate worker)';
  if (goal === undefined && source === undefined) return 'the head of the source: give --source';
  if (goal === undefined) return 'the head of the source, which does not tell it: give its user +info';
  if (gate.open) {
    const lanesOfGate =
      gate.waitingFor.length === 0 ? '' : `, which waits for lanes ${gate.waitingFor.join(', ')}`;
    return `the gate for ${gate.command} at seq ${gate.seq}${lanesOfGate}`;
  }
  const behind = lanes.filter((lane) => lane.appliedThrough < lane.tail).map(({ lane }) => lane);
  if (behind.length > 0) return `lanes ${behind.join(', ')}`;
  return `${status.lagEntries} entries of the source`;
}
