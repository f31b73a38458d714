// From what queue, target and source say to the status that people read. Pure.
//
// lagEntries: entries of the source that are not applied yet: those that are read but not applied (counted by their
// positions, where these cannot be counted by commands; at least 1 while any lane is behind), plus those that are not
// read. It is 0 iff everything that ingest has seen is applied and ingest is known to be at the source's head; while
// nobody can tell (no ingest runs, and the observer has no source of its own) it is at least 1: a lag of 0 is what
// people cut over on.
// lagMs: the age of the oldest command that is not applied. Of entries that are not even read the time is not known:
// they are no older than the last one that was, which is the bound that counts then.

import { gateIsOpen } from '../journal/front.ts';
import type { GateItem } from '../journal/item.ts';
import type { Snapshot } from '../journal/journal.ts';
import type { LaneView } from '../journal/mark.ts';
import type { StopPlace, StopRecord } from '../journal/records.ts';
import type { Wait, WaitPlace } from '../journal/waits.ts';
import type { Position } from '../sources/source.ts';
import type { LaneStatus, PipelineStatus, Stopped, Waiting } from '../status.ts';
import type { Registration } from './registration.ts';
import type { TargetFacts } from './target-view.ts';

export interface JournalFacts {
  readonly snapshot: Snapshot;
  /** Applied through, per lane: the target's checkpoints, or what the journal has seen of them. */
  readonly checkpoints: readonly number[];
  /** Gates behind the smallest checkpoint, in log order, without their bytes. */
  readonly gates: readonly GateItem[];
  /** Everything up to here is applied, as far as this look can tell. */
  readonly applied: { readonly seq: number; readonly position: Position } | undefined;
}

/** What the queue's Redis says. */
export interface QueueFacts {
  readonly journal: JournalFacts | undefined;
  readonly stops: ReadonlyMap<StopPlace, StopRecord>;
  readonly waits: ReadonlyMap<string, Wait>;
  readonly workers: readonly Registration[];
  readonly counters: Readonly<Record<string, number>>;
  /** Queues that BullMQ holds back. */
  readonly paused: ReadonlySet<string>;
  readonly guarantee: string | null;
}

export interface Facts {
  readonly name: string;
  readonly version: string;
  readonly nowMs: number;
  readonly queue: QueueFacts | Waiting;
  readonly target: TargetFacts;
  readonly source: {
    readonly kind: string | null;
    /** Entries that are not read; undefined while nobody can tell. */
    readonly unread: number | undefined;
    /** When the source ran the oldest entry that is not read; undefined while nobody can tell. */
    readonly unreadSinceMs: number | undefined;
    /** Entries that are read but not applied; undefined where positions cannot be counted. */
    readonly unapplied: number | undefined;
  };
}

const NOTHING: QueueFacts = {
  journal: undefined,
  stops: new Map(),
  waits: new Map(),
  workers: [],
  counters: {},
  paused: new Set(),
  guarantee: null,
};

export function statusOf(facts: Facts): PipelineStatus {
  const { name, version, nowMs, target, source } = facts;
  const queueWaiting = 'code' in facts.queue ? facts.queue : null;
  const queue = 'code' in facts.queue ? NOTHING : facts.queue;
  const { journal, workers } = queue;
  const snapshot = journal?.snapshot;
  const waitAt = (place: WaitPlace): Waiting | null => waiting(queue.waits.get(place));
  const holder = holderOf(queue);
  const lanes = lanesOf(queue, waitAt);
  const status: Omit<PipelineStatus, 'state'> = {
    name,
    version,
    time: nowMs,
    source: {
      kind: source.kind,
      position: snapshot?.position ?? null,
      connected: holder?.ingest?.connected ?? false,
      waiting: waitAt('source') ?? waitAt('ingest'),
      snapshot: holder?.ingest?.snapshot ?? null,
    },
    queue: { waiting: queueWaiting },
    target: {
      waiting: earliest([target.waiting, waitAt('target'), waitAt('gate')]),
      guarantee: queue.guarantee,
    },
    ingest: {
      holder: holder?.id ?? null,
      epoch: snapshot?.epoch ?? 0,
      generation: snapshot?.generation ?? null,
      paused: queue.paused.has('ingest'),
      stopped: stopped(queue.stops.get('ingest')),
      backpressure: snapshot?.backpressure ?? false,
    },
    head: { seq: snapshot?.head ?? 0, position: snapshot?.position ?? null },
    lowWaterMark: markOf(target, journal),
    ...lagOf(facts, journal),
    lanes,
    gate: gateOf(queue),
    workers: workers.map(({ id, host, pid, roles, lanes: own }) => ({ id, host, pid, roles, lanes: own })),
    counters: countersOf(queue.counters),
  };
  return { ...status, state: stateOf(status) };
}

/** Who took the ingest last, if he is alive; without `ingest` in his registration he has not begun to read. */
export function holderOf({ journal, workers }: QueueFacts): Registration | undefined {
  return workers.find(({ id }) => id === journal?.snapshot.holder);
}

/** The stored mark is moved once in a while; what this look has found out by itself may be newer. */
function markOf(target: TargetFacts, journal: JournalFacts | undefined): PipelineStatus['lowWaterMark'] {
  const { mark } = target;
  const applied = journal?.applied;
  if (applied !== undefined && applied.seq >= (mark?.mark ?? 0)) return applied;
  return { seq: mark?.mark ?? 0, position: mark?.position ?? null };
}

function stateOf(status: Omit<PipelineStatus, 'state'>): PipelineStatus['state'] {
  const { lanes, gate, ingest, source, queue, target, workers } = status;
  if (ingest.stopped || gate.stopped || lanes.some((lane) => lane.stopped)) return 'stopped';
  if (workers.length === 0) return 'waiting';
  const waits = [source.waiting, queue.waiting, target.waiting, ...lanes.map((lane) => lane.waiting)];
  return waits.some((wait) => wait !== null) ? 'waiting' : 'running';
}

function lanesOf(queue: QueueFacts, waitAt: (place: WaitPlace) => Waiting | null): LaneStatus[] {
  const { journal, stops, paused } = queue;
  if (journal === undefined) return [];
  return journal.snapshot.views.map((view) => {
    const place = `lane:${view.lane}` as const;
    return {
      lane: view.lane,
      appliedThrough: journal.checkpoints[view.lane] ?? 0,
      tail: view.tail,
      backlogBytes: backlogBytes(view, journal),
      paused: paused.has(`lane-${view.lane}`),
      waiting: waitAt(place),
      stopped: stopped(inForce(stops.get(place), journal)),
    };
  });
}

function isBehind(view: LaneView, { checkpoints }: JournalFacts): boolean {
  return (checkpoints[view.lane] ?? 0) < view.tail;
}

function backlogBytes(view: LaneView, journal: JournalFacts): number {
  if (!isBehind(view, journal)) return 0;
  return Math.max(0, view.inBytes - (view.next?.bytesBefore ?? view.outBytes));
}

function lagOf(
  { source, nowMs }: Facts,
  journal: JournalFacts | undefined,
): { lagEntries: number; lagMs: number } {
  const behind = journal?.snapshot.views.filter((view) => isBehind(view, journal)) ?? [];
  const { applied, snapshot } = journal ?? {};
  const commands = behind.length > 0 && applied && snapshot ? snapshot.head - applied.seq : 0;
  const unapplied = Math.max(source.unapplied ?? commands, behind.length > 0 ? 1 : 0);
  const times = behind.flatMap(({ next }) => (next ? [next.timeMs] : []));
  if (times.length === 0 && source.unread !== 0 && source.unreadSinceMs !== undefined)
    times.push(source.unreadSinceMs);
  return {
    lagEntries: unapplied + (source.unread ?? (unapplied === 0 ? 1 : 0)),
    lagMs: times.length === 0 ? 0 : Math.max(1, nowMs - Math.min(...times)),
  };
}

function gateOf({ journal, stops }: QueueFacts): PipelineStatus['gate'] {
  const open = journal?.gates.filter((gate) => gateIsOpen(gate, journal.checkpoints)) ?? [];
  const stopAt = (gate: GateItem) => stopped(inForce(stops.get(`gate:${gate.seq}`), journal));
  const shown = open.find((gate) => stopAt(gate) !== null) ?? open[0];
  if (shown === undefined) return { open: false, seq: null, command: null, waitingFor: [], stopped: null };
  const waitingFor = shown.lanes.filter(
    (lane, at) => (journal?.checkpoints[lane] ?? 0) < (shown.previous[at] ?? 0),
  );
  return { open: true, seq: shown.seq, command: shown.title, waitingFor, stopped: stopAt(shown) };
}

function inForce(record: StopRecord | undefined, journal: JournalFacts | undefined): StopRecord | undefined {
  return record?.generation === journal?.snapshot.generation ? record : undefined;
}

function stopped(record: StopRecord | undefined): Stopped | null {
  if (record === undefined) return null;
  const { seq, position, command, key, reason, hint } = record;
  return { seq, position, command, key, reason, hint };
}

function waiting(wait: Wait | undefined): Waiting | null {
  return wait === undefined ? null : { sinceMs: wait.sinceMs, code: wait.code, hint: wait.hint };
}

function earliest(waits: readonly (Waiting | null)[]): Waiting | null {
  return waits.reduce((first, wait) => {
    if (first === null || wait === null) return first ?? wait;
    return wait.sinceMs < first.sinceMs ? wait : first;
  }, null);
}

function countersOf(counters: Readonly<Record<string, number>>): PipelineStatus['counters'] {
  const of = (name: keyof PipelineStatus['counters']) => counters[name] ?? 0;
  return {
    applied: of('applied'),
    gates: of('gates'),
    fenced: of('fenced'),
    duplicatesDropped: of('duplicatesDropped'),
    retries: of('retries'),
    divergences: of('divergences'),
    unverified: of('unverified'),
    deadLettered: of('deadLettered'),
    lateDeadlines: of('lateDeadlines'),
    repaired: of('repaired'),
    leftOut: of('leftOut'),
    undetermined: of('undetermined'),
    ignored: of('ignored'),
  };
}
