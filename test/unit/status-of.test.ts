import { describe, expect, test } from 'vitest';
import { parseGateHeader } from '../../src/journal/item.ts';
import type { LaneView } from '../../src/journal/mark.ts';
import type { StopRecord } from '../../src/journal/records.ts';
import type { Registration } from '../../src/roles/registration.ts';
import { type Facts, type JournalFacts, type QueueFacts, statusOf } from '../../src/roles/status-of.ts';

const NOW = 1_000_000;
const GENERATION = '1.ab12cd34';

function view(
  lane: number,
  tail: number,
  next?: { seq: number; previous: number; timeMs: number },
): LaneView {
  const item = next && {
    kind: 'batch' as const,
    generation: GENERATION,
    first: next.seq,
    bytesBefore: 300,
    ...next,
  };
  return { lane, tail, inBytes: 1_000, outBytes: 300, seen: undefined, awake: '', next: item };
}

function journal(
  views: readonly LaneView[],
  checkpoints: readonly number[],
  gates: string[] = [],
): JournalFacts {
  const snapshot = {
    id: 'j1',
    epoch: 3,
    generation: GENERATION,
    lanes: views.length,
    head: 20,
    position: '5-0@5',
    headTimeMs: NOW - 400,
    holder: 'w1',
    backpressure: false,
    rebuiltAtEpoch: 0,
    gateOutBytes: 0,
    gateInBytes: 0,
    views,
  };
  return {
    snapshot,
    checkpoints,
    gates: gates.map((header) => parseGateHeader('15-0', header)),
    applied: undefined,
  };
}

const worker: Registration = { id: 'w1', host: 'h', pid: 7, roles: ['lanes'], lanes: [], atMs: NOW };

function facts(queue: Partial<QueueFacts>, source: Partial<Facts['source']> = {}): Facts {
  const nothing = {
    journal: undefined,
    stops: new Map(),
    waits: new Map(),
    workers: [worker],
    counters: {},
    paused: new Set<string>(),
    guarantee: null,
  };
  return {
    name: 'default',
    version: '0.0.0',
    nowMs: NOW,
    queue: { ...nothing, ...queue },
    target: { waiting: null, answered: true, identity: undefined, mark: undefined, checkpoints: [] },
    source: { kind: 'redis-stream', unread: 0, unreadSinceMs: undefined, unapplied: 0, ...source },
  };
}

const stop: StopRecord = {
  generation: GENERATION,
  seq: 12,
  position: '4-0',
  command: 'LPUSH',
  key: 'w',
  reason: 'WRONGTYPE',
  hint: 'lanegate lane resume 1',
  behind: true,
  atMs: NOW,
};

describe('the status', () => {
  test('has no lag when everything is applied and the source is at its head', () => {
    const status = statusOf(facts({ journal: journal([view(0, 20), view(1, 18)], [20, 18]) }));
    expect([status.lagEntries, status.lagMs, status.state]).toEqual([0, 0, 'running']);
    expect(status.lanes[1]).toMatchObject({ appliedThrough: 18, tail: 18, backlogBytes: 0 });
  });

  test('never shows a lag of 0 while nobody knows where the source ends', () => {
    const caughtUp = { journal: journal([view(0, 20)], [20]) };
    expect(statusOf(facts(caughtUp, { unread: undefined })).lagEntries).toBe(1);
  });

  test('counts read and unread entries, and the age of the oldest command', () => {
    const behind = journal(
      [view(0, 20, { seq: 16, previous: 10, timeMs: NOW - 900 }), view(1, 18)],
      [10, 18],
    );
    const status = statusOf(facts({ journal: behind }, { unapplied: 4, unread: 7 }));
    expect([status.lagEntries, status.lagMs]).toEqual([11, 900]);
    expect(status.lanes[0]).toMatchObject({ backlogBytes: 700 });
    expect(statusOf(facts({ journal: behind }, { unapplied: 0 })).lagEntries).toBe(1);
    // Positions of a live source or a file cannot be counted: the commands are.
    const { head, position } = behind.snapshot;
    const counted = { ...behind, applied: { seq: head - 12, position } };
    expect(statusOf(facts({ journal: counted }, { unapplied: undefined })).lagEntries).toBe(12);
    const unread = facts({ journal: journal([view(0, 20)], [20]) }, { unread: 2, unreadSinceMs: NOW - 400 });
    expect(statusOf(unread)).toMatchObject({ lagEntries: 2, lagMs: 400 });
  });

  test('waits while nobody works', () => {
    const caughtUp = journal([view(0, 20)], [20]);
    expect(statusOf(facts({ journal: caughtUp, workers: [] })).state).toBe('waiting');
    const stops = new Map([['lane:0', stop]] as const);
    expect(statusOf(facts({ journal: caughtUp, workers: [], stops })).state).toBe('stopped');
  });

  test('shows what is applied now, or the stored mark where that is further', () => {
    const applied = { seq: 20, position: '5-0@5' };
    const look = facts({ journal: { ...journal([view(0, 20)], [20]), applied } });
    const stored = (mark: number) => {
      const own = { generation: GENERATION, mark, position: 'stored', seq: mark, tails: [mark], timeMs: NOW };
      return statusOf({ ...look, target: { ...look.target, mark: own } }).lowWaterMark;
    };
    expect(stored(12)).toEqual(applied);
    expect(stored(25)).toEqual({ seq: 25, position: 'stored' });
    expect(statusOf(facts({})).lowWaterMark).toEqual({ seq: 0, position: null });
  });

  test('names the open gate and the lanes that have not reached it', () => {
    const header = `g ${GENERATION} 15 1 0 0 0 ${NOW} 1 0,1 10,12 - FLUSHDB 0`;
    const views = [
      view(0, 20, { seq: 15, previous: 10, timeMs: NOW }),
      view(1, 18, { seq: 11, previous: 9, timeMs: NOW }),
    ];
    const status = statusOf(facts({ journal: journal(views, [10, 9], [header]) }));
    expect(status.gate).toEqual({ open: true, seq: 15, command: 'FLUSHDB', waitingFor: [1], stopped: null });
  });

  test('shows stops of the generation in force only, but any of ingest', () => {
    const stops = new Map([
      ['lane:0', { ...stop, generation: '0.other' }],
      ['lane:1', stop],
      ['ingest', { ...stop, generation: 'none' }],
    ] as const);
    const status = statusOf(facts({ journal: journal([view(0, 20), view(1, 18)], [20, 18]), stops }));
    expect([status.state, status.lanes[0]?.stopped, status.lanes[1]?.stopped?.seq]).toEqual([
      'stopped',
      null,
      12,
    ]);
    expect(status.ingest.stopped).toEqual({
      seq: 12,
      position: '4-0',
      command: 'LPUSH',
      key: 'w',
      reason: 'WRONGTYPE',
      hint: 'lanegate lane resume 1',
    });
  });

  test('a holder that is not alive holds nothing', () => {
    const alive: Registration = { id: 'w1', host: 'here', pid: 1, roles: ['ingest'], lanes: [], atMs: NOW };
    const begun = journal([view(0, 20)], [20]);
    expect(statusOf(facts({ journal: begun, workers: [] })).ingest.holder).toBeNull();
    expect(statusOf(facts({ journal: begun, workers: [alive] })).ingest.holder).toBe('w1');
  });

  test('says why the queue cannot be asked, and nothing else', () => {
    const waiting = { sinceMs: NOW - 5, code: 'CONNECTION', hint: 'gone' };
    const status = statusOf({ ...facts({}), queue: waiting });
    expect(status).toMatchObject({
      state: 'waiting',
      queue: { waiting },
      lanes: [],
      ingest: { holder: null },
    });
  });
});
