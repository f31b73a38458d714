import type { LaneStatus, PipelineStatus, Stopped } from '../../src/status.ts';

/** A lane that is applied through its tail unless a test says otherwise. */
export function laneStatus(lane: number, changes: Partial<LaneStatus> = {}): LaneStatus {
  return {
    lane,
    appliedThrough: 1_200,
    tail: 1_200,
    backlogBytes: 0,
    paused: false,
    waiting: null,
    stopped: null,
    ...changes,
  };
}

export function stopped(changes: Partial<Stopped> = {}): Stopped {
  return {
    seq: 1_287,
    position: '1712-4:2',
    command: 'LPUSH',
    key: 'cart:7',
    reason: 'WRONGTYPE Operation against a key holding the wrong kind of value',
    hint: 'lanegate lane resume 3',
    ...changes,
  };
}

/** A running, caught-up pipeline of two lanes unless a test says otherwise. */
export function pipelineStatus(changes: Partial<PipelineStatus> = {}): PipelineStatus {
  return {
    name: 'default',
    version: '0.1.0',
    time: 1_700_000_000_000,
    state: 'running',
    source: { kind: 'redis-stream', position: '1712-4', connected: true, waiting: null, snapshot: null },
    queue: { waiting: null },
    target: { waiting: null, guarantee: null },
    ingest: {
      holder: 'worker-1',
      epoch: 3,
      generation: '1-ab12',
      paused: false,
      stopped: null,
      backpressure: false,
    },
    head: { seq: 1_200, position: '1712-4' },
    lowWaterMark: { seq: 1_200, position: '1712-4' },
    lagEntries: 0,
    lagMs: 0,
    lanes: [laneStatus(0), laneStatus(1)],
    gate: { open: false, seq: null, command: null, waitingFor: [], stopped: null },
    workers: [{ id: 'worker-1', host: 'here', pid: 4242, roles: ['ingest', 'lanes', 'gate'], lanes: [0, 1] }],
    counters: {
      applied: 81_234,
      gates: 12,
      fenced: 0,
      duplicatesDropped: 0,
      retries: 0,
      divergences: 0,
      unverified: 0,
      deadLettered: 0,
      lateDeadlines: 0,
      repaired: 0,
      leftOut: 0,
      undetermined: 0,
      ignored: 0,
    },
    ...changes,
  };
}
