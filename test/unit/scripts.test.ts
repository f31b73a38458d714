import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Arrivals } from '../../processors/arrivals.ts';
import { queueLink } from '../../queues/connection.ts';
import { QueueSet } from '../../queues/queue-set.ts';
import { ClosedGates } from '../../src/journal/closed-gates.ts';
import { IndexWriter, itemBytes, laneHeader } from '../../src/journal/item.ts';
import { type CommitOutcome, Journal, type Round, type RoundItem } from '../../src/journal/journal.ts';
import { Records } from '../../src/journal/records.ts';
import { RoundWriter } from '../../src/journal/round-writer.ts';
import { runScript } from '../../src/journal/scripts.ts';
import { Operator } from '../../src/roles/operator.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { createLogger } from '../../src/runtime/log.ts';
import { ConnectionLost } from '../../src/wire/connection.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';
import { entry, GENERATION, LANES, run, sequencer } from './sequencer-log.ts';

// The atomic steps of the journal on a real server. With 4 lanes the keys b, f are in lane 0; c, g in 1; d, h in 2; a, e in 3.

let server: RedisServer;
let redis: Redis;
let names = 0;

beforeAll(async () => {
  server = await RedisServer.start();
  redis = new Redis(server.port, { maxRetriesPerRequest: null });
});

afterAll(async () => {
  redis.disconnect();
  await server[Symbol.asyncDispose]();
});

function writerOf(journal: Journal, port = server.port): RoundWriter {
  const endpoint = parseEndpoint('--queue', `redis://127.0.0.1:${port}`);
  return new RoundWriter(journal, queueLink(endpoint, 'test'), LANES);
}

async function commit(journal: Journal, ...step: Parameters<RoundWriter['commit']>): Promise<CommitOutcome> {
  const writer = writerOf(journal);
  try {
    return await writer.commit(...step);
  } finally {
    writer.close();
  }
}

const START = { seq: 0, position: '0', tails: [0, 0, 0, 0] };

async function fresh(): Promise<{ journal: Journal; epoch: number; name: string }> {
  const name = `s${++names}`;
  const journal = new Journal(name, redis);
  const made = await rebuilt(journal, undefined);
  if (made === 'fenced') throw new Error('fenced');
  return { journal, epoch: made.epoch, name };
}

function rebuilt(
  journal: Journal,
  replaces: { id: string; epoch: number } | undefined,
  id = 'j1',
  start = START,
) {
  const fixed = { generation: GENERATION, lanes: LANES, lanesBefore: LANES, timeMs: 5, holder: 'w1' };
  return journal.rebuild({ ...fixed, replaces, id, start });
}

function roundOf(...lines: string[]): Round {
  return run(sequencer(), [entry(1, lines)]).rounds[0] as Round;
}

/** Everything that the journal's keys hold. */
async function contents(journal: Journal): Promise<unknown> {
  const { keys } = journal;
  const streams = [keys.positions, keys.gates, keys.gateCommands, keys.deadLetters, ...keys.logs(LANES)];
  return {
    state: await redis.hgetall(keys.state),
    counters: await redis.hgetall(keys.counters),
    streams: await Promise.all(streams.map((stream) => redis.xrange(stream, '-', '+'))),
  };
}

describe('commit', () => {
  const round = roundOf('SET b 1', 'RENAME b c', 'PING', 'SET d 4');

  test('appends the whole round and moves the head', async () => {
    const { journal, epoch } = await fresh();
    const outcome = await commit(journal, 'j1', epoch, 0, round);
    expect(outcome).toMatchObject({ kind: 'ok', asleep: [0, 1, 2] });
    expect(await journal.inForce()).toMatchObject({ id: 'j1', head: 4 });
    const [first, marker] = await journal.readLane(0, 0, 10);
    expect(first).toMatchObject({ kind: 'batch', seq: 1, previous: 0, bytesBefore: 0 });
    expect(marker).toMatchObject({ kind: 'marker', seq: 2, previous: 1 });
    expect(marker?.bytesBefore).toBe(128 + (first?.commands.length ?? 0) + (first?.index.length ?? 0));
    expect(await journal.readGate(2)).toMatchObject({ lanes: [0, 1], previous: [1, 0], title: 'RENAME' });
    expect(await journal.resumePoint('j1', 4)).toEqual({ seq: 4, position: '1', tails: [2, 2, 4, 0] });
    expect(await redis.hget(journal.keys.counters, 'ignored')).toBe('1');
  });

  test('sent a second time changes nothing and says so', async () => {
    const { journal, epoch } = await fresh();
    const withLetter: Round = {
      ...round,
      items: [
        ...round.items,
        { where: 'd', seq: 3, header: 'r', index: Buffer.alloc(0), commands: Buffer.from('x') },
      ],
    };
    const first = await commit(journal, 'j1', epoch, 0, withLetter);
    const before = await contents(journal);
    expect(await commit(journal, 'j1', epoch, 0, withLetter)).toEqual({ ...first, kind: 'repeated' });
    expect(await contents(journal)).toEqual(before);
  });

  test('of another epoch, journal or head is refused without a trace', async () => {
    const { journal, epoch } = await fresh();
    await commit(journal, 'j1', epoch, 0, round);
    const before = await contents(journal);
    const next = { ...round, lastSeq: 9 };
    expect(await commit(journal, 'j1', epoch + 1, 4, next)).toMatchObject({ kind: 'fenced' });
    expect(await commit(journal, 'j2', epoch, 4, next)).toMatchObject({ kind: 'fenced' });
    expect(await commit(journal, 'j1', epoch, 3, next)).toMatchObject({ kind: 'fenced' });
    expect(await contents(journal)).toEqual(before);
  });

  test('without a journal is an error, never a fresh start', async () => {
    const { journal, epoch } = await fresh();
    await redis.hdel(journal.keys.state, 'epoch');
    expect(await commit(journal, 'j1', epoch, 0, round)).toEqual({ kind: 'missing' });
    await redis.del(journal.keys.state);
    expect(await commit(journal, 'j1', epoch, 0, round)).toEqual({ kind: 'missing' });
    expect(await redis.exists(journal.keys.state, journal.keys.log(0), journal.keys.positions)).toBe(0);
  });

  test('names as asleep only lanes that it touched and that have no job awake', async () => {
    const { journal, epoch } = await fresh();
    await journal.wake(0);
    await journal.sleep('j1', 1, 0, 'gate');
    expect(await commit(journal, 'j1', epoch, 0, round)).toMatchObject({ asleep: [2] });
  });
});

describe('a commit whose fence was in hand', () => {
  const first = roundOf('SET b 1', 'RENAME b c', 'PING', 'SET d 4');
  const second: Round = {
    ...run(sequencer({ head: 4, tails: [2, 2, 4, 0] }), [entry(2, ['SET a 5'])]).rounds[0],
  } as Round;

  /** One that has committed a round, and with that looked at the journal for the next. */
  async function scene(port = server.port) {
    const { journal, epoch } = await fresh();
    const writer = writerOf(journal, port);
    expect(await writer.commit('j1', epoch, 0, first)).toMatchObject({ kind: 'ok' });
    const next = () => writer.commit('j1', epoch, 4, second);
    return { journal, epoch, next, [Symbol.dispose]: () => writer.close() };
  }

  test('goes on where nobody was faster', async () => {
    using at = await scene();
    expect(await at.next()).toMatchObject({ kind: 'ok', asleep: [3] });
    expect(await at.journal.resumePoint('j1', 9)).toMatchObject({ seq: 5, tails: [2, 2, 4, 5] });
  });

  test('does nothing behind a successor, a new journal, an emptied server', async () => {
    const faster: readonly [
      (at: Awaited<ReturnType<typeof scene>>) => Promise<unknown>,
      CommitOutcome['kind'],
    ][] = [
      [({ journal }) => journal.begin('j1', 'w2'), 'fenced'],
      [({ journal, epoch }) => rebuilt(journal, { id: 'j1', epoch }, 'j2'), 'fenced'],
      [({ journal }) => commit(journal, 'j1', 1, 4, { ...roundOf('PING'), lastSeq: 7 }), 'fenced'],
      [({ journal }) => redis.del(journal.keys.state, journal.keys.fence), 'missing'],
    ];
    for (const [act, kind] of faster) {
      using at = await scene();
      await act(at);
      const before = await contents(at.journal);
      expect(await at.next()).toMatchObject({ kind });
      expect(await contents(at.journal)).toEqual(before);
    }
  });

  test('does not call itself done where the journal went away in silence', async () => {
    using at = await scene();
    await redis.del(at.journal.keys.state);
    expect(await at.next()).toEqual({ kind: 'missing' });
  });

  test('reports a log that is ahead of the head', async () => {
    using at = await scene();
    await redis.xadd(at.journal.keys.log(3), '6-0', 'h', 'left over');
    const damaged = {
      kind: 'damaged',
      why: expect.stringMatching(/^XADD \S+:log:3: ERR .*equal or smaller/),
    };
    expect(await at.next()).toEqual(damaged);
    expect(await at.journal.hasHole()).toBe(true);
    // Where that could not be written down: what is sent again is not taken for a round that is in.
    await redis.hdel(at.journal.keys.state, 'hole');
    expect(await at.next()).toEqual(damaged);
    expect(await at.journal.hasHole()).toBe(true);
  });

  test('is whole or not at all on a server without room, and goes on when there is', async () => {
    using at = await scene();
    const before = await contents(at.journal);
    await redis.config('SET', 'maxmemory', '1');
    try {
      await expect(at.next()).rejects.toThrow(/^OOM/);
      expect(await contents(at.journal)).toEqual(before);
    } finally {
      await redis.config('SET', 'maxmemory', '0');
    }
    expect(await at.next()).toMatchObject({ kind: 'ok' });
  });

  test('without a reply is known when it is sent again', async () => {
    await using proxy = await FaultyProxy.start(server.port);
    using at = await scene(proxy.port);
    proxy.cutAfter('EXEC', 'request', 'after-execution');
    await expect(at.next()).rejects.toThrow(ConnectionLost);
    const before = await contents(at.journal);
    expect(await at.next()).toMatchObject({ kind: 'repeated', asleep: [3] });
    expect(await contents(at.journal)).toEqual(before);
  });
});

describe('begin', () => {
  test('raises the epoch, which fences the ingest before it, and tells the place to go on', async () => {
    const { journal, epoch } = await fresh();
    await commit(journal, 'j1', epoch, 0, roundOf('SET b 1', 'SET d 2'));
    const begun = await journal.begin('j1', 'w2');
    expect(begun).toEqual({
      epoch: epoch + 1,
      head: 2,
      position: '1',
      lanes: LANES,
      generation: GENERATION,
      headTimeMs: 1_000,
      tails: [1, 0, 2, 0],
    });
    expect(await commit(journal, 'j1', epoch, 2, { ...roundOf('PING'), lastSeq: 3 })).toMatchObject({
      kind: 'fenced',
    });
    expect(await commit(journal, 'j1', epoch + 1, 2, { ...roundOf('PING'), lastSeq: 3 })).toMatchObject({
      kind: 'ok',
    });
  });

  test('works on a server that has lost its scripts', async () => {
    const { journal, epoch } = await fresh();
    await redis.script('FLUSH');
    expect(await journal.begin('j1', 'w2')).toMatchObject({ epoch: epoch + 1 });
  });

  test('is refused for another journal, and says when there is none', async () => {
    const { journal } = await fresh();
    expect(await journal.begin('j2', 'w2')).toBe('fenced');
    await redis.del(journal.keys.state);
    expect(await journal.begin('j1', 'w2')).toBe('missing');
    expect(await redis.exists(journal.keys.state)).toBe(0);
  });
});

describe('rebuild', () => {
  test('wipes the journal, fences its ingest, and starts where it is told', async () => {
    const { journal, epoch } = await fresh();
    await commit(journal, 'j1', epoch, 0, roundOf('SET b 1', 'RENAME b c'));
    const start = { seq: 40, position: 'p', tails: [38, 40, 12, 0] };
    const made = await rebuilt(journal, { id: 'j1', epoch }, 'j2', start);
    expect(made).toEqual({ epoch: epoch + 1 });
    expect(await journal.readLane(0, 0, 10)).toEqual([]);
    expect(await journal.readGate(2)).toBeUndefined();
    expect(await journal.resumePoint('j2', 99)).toEqual(start);
    expect(await journal.begin('j2', 'w')).toMatchObject({ head: 40, position: 'p', tails: start.tails });
    expect(await commit(journal, 'j1', epoch, 2, roundOf('SET b 1'))).toMatchObject({
      kind: 'fenced',
    });
  });

  test('replaces only the journal and epoch that it names', async () => {
    const { journal, epoch } = await fresh();
    const before = await contents(journal);
    expect(await rebuilt(journal, undefined, 'j2')).toBe('fenced');
    expect(await rebuilt(journal, { id: 'j0', epoch }, 'j2')).toBe('fenced');
    expect(await rebuilt(journal, { id: 'j1', epoch: epoch - 1 }, 'j2')).toBe('fenced');
    expect(await contents(journal)).toEqual(before);
  });

  test('counters, dead letters and pauses survive it', async () => {
    const { journal, epoch } = await fresh();
    await redis.hset(journal.keys.counters, 'applied', 7);
    await redis.hset(journal.keys.pauses, 'lane-0|operator', 1);
    await rebuilt(journal, { id: 'j1', epoch }, 'j2');
    expect(await redis.hget(journal.keys.counters, 'applied')).toBe('7');
    expect(await redis.hlen(journal.keys.pauses)).toBe(1);
  });
});

describe('snapshot', () => {
  test('shows each lane from its checkpoint: the first item behind it, none at the tail', async () => {
    const { journal, epoch } = await fresh();
    await commit(journal, 'j1', epoch, 0, roundOf('SET b 1', 'RENAME b c', 'SET d 3'));
    const snapshot = await journal.snapshot(LANES, [1, 0, 3, 0]);
    expect(snapshot).toMatchObject({
      id: 'j1',
      generation: GENERATION,
      lanes: LANES,
      head: 3,
      position: '1',
    });
    expect(snapshot?.views.map(({ tail, next }) => [tail, next?.kind, next?.seq, next?.previous])).toEqual([
      [2, 'marker', 2, 1],
      [2, 'marker', 2, 0],
      [3, undefined, undefined, undefined],
      [0, undefined, undefined, undefined],
    ]);
    expect(snapshot?.views[0]?.seen).toBe(0);
  });

  test('of no journal is none', async () => {
    expect(await new Journal(`s${++names}`, redis).snapshot(LANES, [0, 0, 0, 0])).toBeUndefined();
  });
});

/** Rounds 1..n, each one SET into lane 0. */
async function filled(n: number): Promise<{ journal: Journal; epoch: number }> {
  const { journal, epoch } = await fresh();
  const made = run(sequencer(), ...Array.from({ length: n }, (_, i) => [entry(i + 1, [`SET b ${i}`])]));
  let head = 0;
  for (const round of made.rounds) {
    await commit(journal, 'j1', epoch, head, round);
    head = round.lastSeq;
  }
  return { journal, epoch };
}

describe('resume point and trim', () => {
  test('the resume point is the last round at or below the seq, and none of another journal', async () => {
    const { journal } = await filled(5);
    expect(await journal.resumePoint('j1', 3)).toMatchObject({ seq: 3, position: '3', tails: [3, 0, 0, 0] });
    expect(await journal.resumePoint('j1', 0)).toEqual(START);
    expect(await journal.resumePoint('j2', 3)).toBeUndefined();
  });

  test('trim drops what is at or below the seq and keeps a resume point for it', async () => {
    const { journal } = await filled(5);
    expect(await journal.trim('j1', LANES, 3, false)).toBeGreaterThan(0);
    expect((await journal.readLane(0, 0, 10)).map(({ seq }) => seq)).toEqual([4, 5]);
    expect(await journal.resumePoint('j1', 3)).toMatchObject({ seq: 3 });
    expect(await journal.resumePoint('j1', 2)).toBeUndefined();
    // The head goes on counting although the lane log may be empty.
    await journal.trim('j1', LANES, 5, false);
    expect(await journal.inForce()).toMatchObject({ head: 5 });
  });

  test('trim of another journal, or before the first round, does nothing', async () => {
    const { journal } = await filled(2);
    expect(await journal.trim('j2', LANES, 2, false)).toBe(0);
    expect(await journal.trim('j1', LANES, 0, false)).toBe(0);
    expect(await journal.readLane(0, 0, 10)).toHaveLength(2);
    expect(await journal.resumePoint('j1', 1)).toMatchObject({ seq: 1 });
  });

  test('trim keeps a large item that begins before the seq and ends behind it', async () => {
    const { journal, epoch } = await fresh();
    const entries = [entry(1, ['SET b 1', 'SET c 2', 'SET b 3'])];
    await commit(journal, 'j1', epoch, 0, run(sequencer(), entries).rounds[0] as Round);
    await journal.trim('j1', LANES, 2, false);
    expect(await journal.readLane(0, 0, 10)).toMatchObject([{ first: 1, seq: 3 }]);
  });
});

describe('progress and room', () => {
  const step = { seq: 3, applied: 2, wakeBelowBytes: 1_000 };

  test('progress only goes up, and not in another journal', async () => {
    const { journal } = await filled(3);
    await journal.progress('j1', { ...step, where: 0, outBytes: 300 });
    await journal.progress('j1', { ...step, where: 0, outBytes: 200, seq: 2 });
    await journal.progress('j2', { ...step, where: 0, outBytes: 900 });
    expect(await journal.seenThrough('j1', 0)).toEqual({ seen: 3, tail: 3 });
    const snapshot = await journal.snapshot(LANES, [3, 0, 0, 0]);
    expect(snapshot?.views[0]?.outBytes).toBe(300);
    expect(await redis.hget(journal.keys.counters, 'applied')).toBe('4');
  });

  test('an ingest that waits for room is woken when there is room, once', async () => {
    const { journal } = await filled(3);
    const [item] = (await journal.readLane(0, 2, 1)) as { bytesBefore: number }[];
    const unapplied = await journal.room('j1', LANES, 1);
    expect(unapplied).toBeGreaterThan(300);
    const outBytes = item?.bytesBefore ?? 0;
    await journal.progress('j1', { ...step, where: 0, outBytes, wakeBelowBytes: 10 });
    expect(await redis.llen(journal.keys.room)).toBe(0);
    await journal.progress('j1', { ...step, where: 0, outBytes });
    await journal.progress('j1', { ...step, where: 0, outBytes });
    expect(await redis.llen(journal.keys.room)).toBe(1);
    expect(await journal.room('j1', LANES, 1_000)).toBeLessThan(1_000);
    expect(await redis.exists(journal.keys.room)).toBe(0);
  });

  test('of another journal there is no room to speak of', async () => {
    const { journal } = await filled(1);
    expect(await journal.room('j2', LANES, 1)).toBeUndefined();
  });
});

describe('sleep', () => {
  test('a lane sleeps only if nothing was appended behind what it saw', async () => {
    const { journal } = await filled(3);
    await journal.wake(0);
    expect(await journal.sleep('j1', 0, 2, 'idle')).toBe(false);
    expect(await redis.hget(journal.keys.state, 'awake:0')).toBe('1');
    expect(await journal.sleep('j1', 0, 3, 'idle')).toBe(true);
    expect(await redis.hexists(journal.keys.state, 'awake:0')).toBe(0);
  });

  test("a lane that a gate parked is woken by the gate's end, one that runs is left alone", async () => {
    const { journal } = await filled(3);
    await journal.sleep('j1', 0, 0, 'gate');
    await journal.wake(1);
    const step = { outBytes: 0, applied: 1, wakeBelowBytes: 0, stopped: false };
    expect(await journal.gateClosed('j1', { seq: 2, lanes: [0, 1] }, step)).toEqual([0]);
    expect(await redis.hexists(journal.keys.state, 'awake:0')).toBe(0);
    expect(await redis.hget(journal.keys.state, 'awake:1')).toBe('1');
    expect(await journal.gateClosed('j2', { seq: 2, lanes: [0] }, step)).toBeUndefined();
  });
});

describe('arrive', () => {
  const gate = { seq: 5, lanes: 3 };
  const claim = { by: 'worker', ms: 5_000 };
  const step = { where: 0, seq: 3, outBytes: 10, applied: 2, wakeBelowBytes: 0 };

  test('the last to arrive tries the gate, and nobody beside it; what the lanes have done is told', async () => {
    const { journal } = await filled(3);
    const steps = [step, { ...step, where: 1, applied: 5 }];
    expect(await journal.arrive('j1', gate, { lanes: [0, 1], steps }, claim)).toBe('wait');
    expect((await journal.seenThrough('j1', 1))?.seen).toBe(3);
    expect(await redis.hget(journal.keys.counters, 'applied')).toBe('7');
    expect(await journal.arrive('j1', gate, { lanes: [2], steps: [] }, claim)).toBe('try');
    expect(await journal.arrive('j1', gate, { lanes: [1], steps: [] }, claim)).toBe('wait');
    expect(await journal.arrive('j2', gate, { lanes: [1], steps: [step] }, claim)).toBe('void');
    expect(await redis.hget(journal.keys.counters, 'applied')).toBe('7');
  });

  test('lanes that arrive in one turn are told in one step, and one of them tries the gate', async () => {
    const { journal } = await filled(3);
    const arrivals = new Arrivals(journal, claim);
    const before = await calls('evalsha');
    const tell = (lane: number) => arrivals.tell('j1', gate, lane, { ...step, where: lane });
    const elsewhere = arrivals.tell('j1', { seq: 9, lanes: 2 }, 3, undefined);
    expect(await Promise.all([tell(0), tell(1), tell(2)])).toEqual(['wait', 'wait', 'try']);
    expect(await elsewhere).toBe('wait');
    expect((await calls('evalsha')) - before).toBeLessThanOrEqual(2);
    expect(await arrivals.tell('j2', gate, 0, undefined)).toBe('void');
    expect((await journal.seenThrough('j1', 2))?.seen).toBe(3);
  });
});

async function calls(command: string): Promise<number> {
  const stats = await redis.info('commandstats');
  return Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(stats)?.[1] ?? 0);
}

describe('closed gates', () => {
  const step = { outBytes: 0, applied: 1, wakeBelowBytes: 0, stopped: false };
  const PATIENT_MS = 20_000;

  function listener(journal: Journal, port = server.port): ClosedGates {
    const endpoint = parseEndpoint('--queue', `redis://127.0.0.1:${port}`);
    return new ClosedGates(
      () => queueLink(endpoint, 'test'),
      journal.keys,
      createLogger({ level: 'silent', format: 'json' }),
    );
  }

  test('the word reaches every lane that waits, also when it came first, and once', async () => {
    const { journal } = await filled(3);
    const gates = listener(journal);
    try {
      const waiting = [0, 1].map((lane) => gates.wait(lane, 2, PATIENT_MS));
      await journal.gateClosed('j1', { seq: 2, lanes: [0, 1, 2] }, step);
      expect(await Promise.all(waiting)).toEqual([
        { gate: 2, journalId: 'j1' },
        { gate: 2, journalId: 'j1' },
      ]);
      expect(await gates.wait(2, 2, PATIENT_MS)).toEqual({ gate: 2, journalId: 'j1' });
      expect(await gates.wait(2, 2, 50)).toBeUndefined();
      // Not for one in front of it, and told apart where its lanes were stopped.
      const later = gates.wait(0, 7, PATIENT_MS);
      await journal.gateClosed('j1', { seq: 6, lanes: [0] }, step);
      await journal.gateClosed('j1', { seq: 8, lanes: [0] }, { ...step, stopped: true });
      expect(await later).toEqual({ gate: 8, journalId: '' });
    } finally {
      gates.close();
    }
  });

  test('who begins to listen late, or whose connection breaks, hears what was closed meanwhile', async () => {
    const { journal } = await filled(3);
    await using proxy = await FaultyProxy.start(server.port);
    await journal.gateClosed('j1', { seq: 2, lanes: [0] }, step);
    const gates = listener(journal, proxy.port);
    try {
      expect(await gates.wait(0, 2, PATIENT_MS)).toEqual({ gate: 2, journalId: 'j1' });
      const waiting = gates.wait(0, 3, PATIENT_MS);
      proxy.cutAll();
      await journal.gateClosed('j1', { seq: 3, lanes: [0] }, step);
      expect(await waiting).toEqual({ gate: 3, journalId: 'j1' });
      const cut = gates.wait(0, 4, PATIENT_MS);
      gates.close();
      expect(await cut).toBeUndefined();
    } finally {
      gates.close();
    }
  });
});

describe('a pause for the eye, on real BullMQ queues', () => {
  async function withQueues(
    body: (queues: QueueSet, journal: Journal, worked: (n: number) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const journal = new Journal(`s${++names}`, redis);
    const queues = new QueueSet(redis, journal.keys);
    let count = 0;
    let wake = () => {};
    const connection = new Redis(server.port, { maxRetriesPerRequest: null });
    const worker = new Worker(
      'lane-0',
      async () => {
        count++;
        wake();
      },
      { connection, prefix: journal.keys.prefix, drainDelay: 1 },
    );
    const worked = async (n: number) => {
      while (count < n) await new Promise<void>((resolve) => (wake = resolve));
    };
    try {
      await worker.waitUntilReady();
      await body(queues, journal, worked);
    } finally {
      await worker.close(true);
      connection.disconnect();
      await queues.close();
    }
  }

  test('stops the lane and lets it run again; what was added meanwhile runs', async () => {
    await withQueues(async (queues, journal, worked) => {
      await queues.addApply(0, 1, 1);
      await worked(1);
      expect((await queues.gatePause('pause', 'gate:j1:5', [0, 1], 9)).changed).toBe(2);
      expect(await queues.lane(0).isPaused()).toBe(true);
      expect(await redis.hgetall(journal.keys.pauses)).toEqual({
        'lane-0|gate:j1:5': '9',
        'lane-1|gate:j1:5': '9',
      });
      await queues.lane(0).add('apply', {});
      expect((await queues.lane(0).getJobCounts()).completed).toBe(1);
      expect((await queues.gatePause('resume', 'gate:j1:5', [0, 1], 9)).changed).toBe(2);
      expect(await queues.lane(0).isPaused()).toBe(false);
      await worked(2);
      expect(await redis.exists(journal.keys.pauses)).toBe(0);
    });
  });

  test('twice is once, and the resume of a stranger changes nothing', async () => {
    await withQueues(async (queues, journal) => {
      expect((await queues.gatePause('pause', 'gate:j1:5', [0], 9)).changed).toBe(1);
      expect((await queues.gatePause('pause', 'gate:j1:5', [0], 10)).changed).toBe(0);
      expect((await queues.gatePause('pause', 'gate:j1:7', [0], 11)).changed).toBe(0);
      expect((await queues.gatePause('resume', 'gate:j1:7', [0], 12)).changed).toBe(0);
      expect(await queues.lane(0).isPaused()).toBe(true);
      expect(await redis.hkeys(journal.keys.pauses)).toEqual(['lane-0|gate:j1:5']);
      expect((await queues.gatePause('resume', 'gate:j1:5', [0], 13)).changed).toBe(1);
      expect((await queues.gatePause('resume', 'gate:j1:5', [0], 13)).changed).toBe(0);
    });
  });

  test("an operator's pause before a gate's stays, and the gate is told and pauses nothing", async () => {
    await withQueues(async (queues, journal) => {
      await queues.lane(0).pause();
      expect(await queues.gatePause('pause', 'gate:j1:5', [1, 0], 9)).toEqual({ changed: 0, held: true });
      expect(await redis.exists(journal.keys.pauses)).toBe(0);
      expect(await queues.lane(1).isPaused()).toBe(false);
      expect((await queues.gatePause('resume', 'gate:j1:5', [0], 9)).changed).toBe(0);
      expect(await queues.lane(0).isPaused()).toBe(true);
    });
  });

  test("an operator's pause during a gate's survives the gate's end", async () => {
    await withQueues(async (queues, journal, worked) => {
      await queues.gatePause('pause', 'gate:j1:5', [0], 9);
      await queues.lane(0).pause();
      await queues.gatePause('resume', 'gate:j1:5', [0], 9);
      expect(await queues.lane(0).isPaused()).toBe(true);
      expect(await redis.exists(journal.keys.pauses)).toBe(0);
      await queues.lane(0).add('apply', {});
      await queues.lane(0).resume();
      await worked(1);
    });
  });

  test('is brought in line with the records that own it, and with nothing that was decided meanwhile', async () => {
    await withQueues(async (queues, journal, worked) => {
      const records = new Records(redis, journal.keys);
      const operator = new Operator({ redis, journal, records, queues, by: 'test', now: Date.now });
      const lane = { kind: 'lane', lane: 0 } as const;
      // The pause that its maker did not live to carry out.
      await redis.hset(journal.keys.pauses, 'lane-0|operator', '{}');
      expect(await queues.settlePause('lane-0')).toBe(true);
      expect(await queues.settlePause('lane-0')).toBe(false);
      expect(await queues.lane(0).isPaused()).toBe(true);
      // Resumed while whoever settles it is half way: it is far from the server.
      await using far = await FaultyProxy.start(server.port);
      const redisOfFar = new Redis(far.port, { maxRetriesPerRequest: null });
      const queuesOfFar = new QueueSet(redisOfFar, journal.keys);
      await queuesOfFar.settlePause('lane-0');
      far.latency(10);
      for (const afterMs of [5, 15, 25, 35, 45]) {
        await operator.pause(lane, undefined);
        const settled = queuesOfFar.settlePause('lane-0');
        await delay(afterMs);
        await operator.resume(lane);
        await settled;
        expect(await queues.lane(0).isPaused()).toBe(false);
      }
      await queuesOfFar.close();
      redisOfFar.disconnect();
      await redis.hset(journal.keys.pauses, 'lane-0|stop', 1);
      await queues.lane(0).pause();
      await queues.lane(0).add('apply', {});
      expect(await queues.settlePause('lane-0')).toBe(true);
      await worked(1);
      // Bull Board's own button leaves no record.
      await queues.lane(0).pause();
      expect(await queues.settlePause('lane-0')).toBe(false);
      expect(await queues.lane(0).isPaused()).toBe(true);
    });
  });

  test('without its record is taken away, as is an id of a job that is nowhere; other lanes keep theirs', async () => {
    await withQueues(async (queues, journal) => {
      const ofLane = (lane: number, key: string) => `${journal.keys.prefix}:lane-${lane}:${key}`;
      for (const lane of [1, 2, 3]) await queues.addApply(lane, 1, 1);
      await queues.gatePause('pause', 'gate:j1:5', [1, 2], 9);
      await redis.hdel(journal.keys.pauses, 'lane-2|gate:j1:5');
      await redis.del(ofLane(2, 'marker'), ofLane(3, 'wait'));
      expect(await queues.freeLanes(4)).toBe(2);
      expect(await queues.freeLanes(4)).toBe(0);
      expect(await queues.pausedByOperator([0, 1, 2, 3])).toEqual(new Set());
      expect(await Promise.all([1, 2, 3].map((lane) => queues.lane(lane).isPaused()))).toEqual([
        true,
        false,
        false,
      ]);
      const blocked = await redis.exists([1, 2, 3].map((lane) => ofLane(lane, 'de:apply')));
      expect(blocked).toBe(2);
      expect(await redis.exists(ofLane(2, 'marker'))).toBe(1);
      await queues.addApply(3, 1, 1);
      expect(await queues.lane(3).getWaitingCount()).toBe(1);
    });
  });

  test("an operator's resume during a gate's pause holds, and the gate's end changes nothing", async () => {
    await withQueues(async (queues, _journal, worked) => {
      await queues.gatePause('pause', 'gate:j1:5', [0], 9);
      await queues.lane(0).resume();
      expect((await queues.gatePause('resume', 'gate:j1:5', [0], 9)).changed).toBe(0);
      await queues.lane(0).add('apply', {});
      await worked(1);
    });
  });
});

test('a marker weighs nothing: when its gate is behind, no byte is unapplied', async () => {
  const { journal, epoch } = await fresh();
  await commit(journal, 'j1', epoch, 0, roundOf('FLUSHDB'));
  const gate = await journal.readGate(1);
  const outBytes =
    (gate?.bytesBefore ?? 0) + itemBytes(gate ?? { commands: Buffer.alloc(0), index: Buffer.alloc(0) });
  await journal.gateClosed(
    'j1',
    { seq: 1, lanes: [] },
    { outBytes, applied: 1, wakeBelowBytes: 1, stopped: false },
  );
  expect(await journal.room('j1', LANES, 1)).toBe(0);
});

test('unapplied bytes are those that no lane and no gate has behind it', async () => {
  const { journal, epoch } = await fresh();
  const writer = new IndexWriter();
  writer.begin(1);
  writer.add(1, false, false);
  const shape = {
    generation: GENERATION,
    count: 1,
    db: 0,
    dbLast: 0,
    dbMax: 0,
    timeMs: 0,
    deadlineMs: Infinity,
  };
  const header = laneHeader({ ...shape, kind: 'batch', seq: 1, previous: 0, first: 1 });
  const item: RoundItem = { where: 2, seq: 1, header, index: writer.take(), commands: Buffer.alloc(871) };
  const round: Round = { lastSeq: 1, position: '1', timeMs: 0, ignored: 0, undetermined: 0, items: [item] };
  const outcome = await commit(journal, 'j1', epoch, 0, round);
  expect(outcome).toMatchObject({ unappliedBytes: 1_000 });
  const reply = await runScript(redis, 'room', [journal.keys.state, journal.keys.room], ['j1', LANES, 1_000]);
  expect(reply).toBe(1_000);
  expect(await redis.hget(journal.keys.state, 'backpressure')).toBe('1');
});
