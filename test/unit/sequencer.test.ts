import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import type { Round } from '../../src/journal/journal.ts';
import type { Entry } from '../../src/sources/source.ts';
import { commandsOf, entry, LANES, type Read, read, run, sequencer } from './sequencer-log.ts';

// With 4 lanes the keys b, f are in lane 0; c, g in 1; d, h in 2; a, e in 3.

function lanesOf(found: Read): Record<number, string[][]> {
  return Object.fromEntries([...found.lanes].map(([lane, items]) => [lane, items.map(commandsOf)]));
}

function linked(found: Read, tails: readonly number[] = [0, 0, 0, 0]): void {
  for (const [lane, items] of found.lanes) {
    let tail = tails[lane] as number;
    for (const item of items) {
      expect(item.previous).toBe(tail);
      expect(item.first).toBeLessThanOrEqual(item.seq);
      if (item.kind === 'batch') expect(item.first).toBeGreaterThan(tail);
      tail = item.seq;
    }
  }
  for (const gate of found.gates) {
    gate.lanes.forEach((lane, at) => {
      const marker = found.lanes.get(lane)?.find((item) => item.seq === gate.seq);
      expect(marker).toMatchObject({ kind: 'marker', previous: gate.previous[at], first: gate.first });
    });
    const markers = [...found.lanes.values()].flat().filter((item) => item.seq === gate.seq);
    expect(markers.filter((item) => item.kind === 'marker').length).toBe(gate.lanes.length);
  }
}

describe('numbering', () => {
  test('every raw command takes one seq: SELECT, MULTI, EXEC, ignored and left-out ones too', () => {
    const made = run(sequencer({ onPoison: () => ({ kind: 'drop', record: 'r' }) }), [
      entry(1, ['SELECT 2', 'SET b 1', 'PING', 'SHUTDOWN', 'MULTI', 'SET b 2', 'EXEC', 'SET b 3']),
    ]);
    expect(made.seq).toBe(8);
    const found = read(made.rounds);
    expect(lanesOf(found)).toEqual({ 0: [['2 db2 SET b 1', '6 db2 SET b 2', '8 db2 SET b 3']] });
    expect(found.dead).toEqual([{ seq: 4, record: 'r', commands: '*1\r\n$8\r\nSHUTDOWN\r\n' }]);
    expect(made.rounds[0]).toMatchObject({ lastSeq: 8, ignored: 1, position: '1' });
  });

  test('a malformed entry takes exactly one, however many commands it begins with', () => {
    const half = Buffer.concat([encodeCommand(['SET', 'b', '1']), Buffer.from('*2\r\n$3\r\nSET')]);
    const bad = [
      entry(1, [], { resp: half }),
      entry(2, ['MULTI', 'SET b 1']),
      entry(3, ['SET b 1', 'EXEC']),
      entry(4, ['MULTI', 'MULTI', 'EXEC']),
      entry(5, []),
      entry(6, [], { resp: Buffer.from('x'), malformed: 'no field resp' }),
    ];
    const reasons: string[] = [];
    const onPoison = ({ reason }: { reason: string }) => {
      reasons.push(reason);
      return { kind: 'drop' as const, record: reason };
    };
    const made = run(sequencer({ onPoison }), [...bad, entry(7, ['SET b 9'])]);
    expect(made.seq).toBe(7);
    expect(lanesOf(read(made.rounds))).toEqual({ 0: [['7 db0 SET b 9']] });
    expect(read(made.rounds).dead.map(({ seq }) => seq)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(reasons.slice(1)).toEqual([
      'a MULTI that the entry does not close',
      expect.stringContaining('EXEC without MULTI'),
      expect.stringContaining('a MULTI inside a MULTI'),
      'the entry holds no command',
      'no field resp',
    ]);
  });

  test('an empty transaction and a discarded one leave nothing but their numbers', () => {
    const made = run(sequencer(), [entry(1, ['MULTI', 'EXEC', 'MULTI', 'SET b 1', 'DISCARD', 'SET b 2'])]);
    expect(lanesOf(read(made.rounds))).toEqual({ 0: [['6 db0 SET b 2']] });
    expect(made.rounds[0]).toMatchObject({ lastSeq: 6, ignored: 1 });
  });

  test('numbers go on behind the head that it is given, also when nothing is left to apply', () => {
    const made = run(sequencer({ head: 40, tails: [7, 8, 9, 40] }), [
      entry(1, ['PING']),
      entry(2, ['SET c 1']),
    ]);
    expect(made.rounds.map(({ lastSeq }) => lastSeq)).toEqual([42]);
    expect(read(made.rounds).lanes.get(1)).toMatchObject([{ seq: 42, first: 42, previous: 8 }]);
  });
});

describe('databases', () => {
  test('SELECT holds to the end of its entry and is put in once per item', () => {
    const made = run(sequencer(), [
      entry(1, ['SET b 1', 'SELECT 3', 'SET f 2', 'SET b 3']),
      entry(2, ['SET b 4'], { db: 1 }),
    ]);
    const [item] = read(made.rounds).lanes.get(0) ?? [];
    expect(item && commandsOf(item)).toEqual([
      '1 db0 SET b 1',
      '3 db3 SET f 2',
      '4 db3 SET b 3',
      '5 db1 SET b 4',
    ]);
    expect(item).toMatchObject({ db: 0, dbLast: 1, dbMax: 3, count: 6 });
  });

  test('a database that the target does not have is poison, also when SWAPDB, MOVE or COPY names it', () => {
    for (const line of ['SET b 1', 'SWAPDB 0 16', 'MOVE b 16', 'COPY b f DB 16', 'FLUSHALL']) {
      const db = line === 'SET b 1' || line === 'FLUSHALL' ? 16 : 0;
      const { steps } = run(sequencer(), [entry(1, [line], { db })]);
      expect(steps).toMatchObject([{ kind: 'poison', poison: { seq: 1, code: 'DB_OUT_OF_RANGE' } }]);
    }
  });
});

describe('transactions', () => {
  test('inside one lane it stays in the lane, tied together', () => {
    const made = run(sequencer(), [entry(1, ['MULTI', 'SET b 1', 'DEL f b', 'EXEC'])]);
    const found = read(made.rounds);
    expect(lanesOf(found)).toEqual({ 0: [['2 db0 SET b 1', '3 db0 DEL f b']] });
    expect(found.gates).toEqual([]);
  });

  test('across lanes it is a gate under the number of its EXEC, from that of its MULTI', () => {
    const made = run(sequencer(), [entry(1, ['SET b 0', 'MULTI', 'SET b 1', 'SET c 2', 'EXEC', 'SET c 3'])]);
    const found = read(made.rounds);
    expect(found.gates).toMatchObject([
      { seq: 5, first: 2, lanes: [0, 1], previous: [1, 0], title: 'MULTI' },
    ]);
    expect(found.gates.map(commandsOf)).toEqual([['3 db0 SET b 1 [0,1]', '4 db0 SET c 2 [0,1]']]);
    expect(lanesOf(found)).toEqual({ 0: [['1 db0 SET b 0'], []], 1: [[], ['6 db0 SET c 3']] });
    linked(found);
  });

  test('with FLUSHDB inside it needs all lanes and erases', () => {
    const found = read(run(sequencer(), [entry(1, ['MULTI', 'SET b 1', 'FLUSHDB', 'EXEC'])]).rounds);
    expect(found.gates).toMatchObject([{ seq: 4, lanes: [0, 1, 2, 3], erases: true }]);
    linked(found);
  });

  test('no round ends inside one, however small rounds are', () => {
    const limits = { roundBytesMax: 1, segmentBytesMax: 1, segmentGapMax: 0, transactionBytesMax: 1e6 };
    const lines = [
      'SET b 1',
      'MULTI',
      'SET b 2',
      'SET f 3',
      'EXEC',
      'MULTI',
      'SET c 4',
      'SET d 5',
      'EXEC',
      'PING',
    ];
    const made = run(sequencer({ limits }), [entry(1, lines)]);
    expect(made.rounds.map(({ position }) => position)).toEqual(['1:1', '1:5', '1:9', '1']);
  });

  test('one above the limit is refused as a whole', () => {
    const limits = { roundBytesMax: 1e6, segmentBytesMax: 1e6, segmentGapMax: 1, transactionBytesMax: 60 };
    const lines = ['SET b 0', 'MULTI', 'SET b 1', 'SET b 2', 'SET b 3', 'EXEC'];
    const { steps } = run(sequencer({ limits }), [entry(1, lines)]);
    expect(steps).toMatchObject([
      { kind: 'round', round: { lastSeq: 1, position: '1:1' } },
      { kind: 'poison', position: '1:1', poison: { seq: 2, code: 'TRANSACTION_TOO_LARGE' } },
    ]);
  });
});

describe('segments', () => {
  const limits = { roundBytesMax: 1e6, segmentBytesMax: 1e6, segmentGapMax: 2, transactionBytesMax: 1e6 };

  test('dense crossing commands and what stands between them share one gate', () => {
    const made = run(sequencer({ limits }), [
      entry(1, ['SET b 0', 'RENAME b c', 'SET d 1', 'SET a 2', 'RENAME c b']),
    ]);
    const found = read(made.rounds);
    expect(found.gates).toMatchObject([
      { seq: 5, first: 2, lanes: [0, 1, 2, 3], previous: [1, 0, 0, 0], title: 'RENAME +1' },
    ]);
    expect(found.gates.map(commandsOf)).toEqual([
      ['2 db0 RENAME b c [0,1]', '3 db0 SET d 1 [2]', '4 db0 SET a 2 [3]', '5 db0 RENAME c b [0,1]'],
    ]);
    expect(lanesOf(found)[0]).toEqual([['1 db0 SET b 0'], []]);
    linked(found);
  });

  test('where they are dense nothing is left for the lanes between the gates of two rounds', () => {
    const made = run(
      sequencer({ limits: { ...limits, segmentDenseMin: 2 } }),
      [entry(1, ['RENAME b c', 'RENAME c b', 'SET b 3'])],
      [entry(2, ['SELECT 1', 'MULTI', 'SET c 5', 'INCR c', 'EXEC', 'RENAME b c'])],
    );
    const found = read(made.rounds);
    expect(found.gates).toMatchObject([
      { seq: 3, first: 1, lanes: [0, 1], previous: [0, 0], title: 'RENAME +1' },
      { seq: 9, first: 6, lanes: [0, 1], previous: [3, 3], title: 'RENAME' },
    ]);
    expect(found.gates.map(commandsOf)).toEqual([
      ['1 db0 RENAME b c [0,1]', '2 db0 RENAME c b [0,1]', '3 db0 SET b 3 [0]'],
      ['6 db1 SET c 5 [1]', '7 db1 INCR c [1]', '9 db1 RENAME b c [0,1]'],
    ]);
    expect(lanesOf(found)).toEqual({ 0: [[], []], 1: [[], []] });
    linked(found);
  });

  test('but for what other lanes hold, and what no crossing command follows within the gap or the round', () => {
    const dense = ['RENAME b c', 'RENAME c b'];
    const made = run(
      sequencer({ limits: { ...limits, segmentDenseMin: 2 } }),
      [entry(1, [...dense, 'SET d 3', 'SET b 4'])],
      [entry(2, ['SET b 5', 'SET c 6', 'SET b 7', 'RENAME b c'])],
      [entry(3, dense)],
      [entry(4, ['SET b 11'])],
      [entry(5, ['SET b 12', 'RENAME b c'])],
    );
    const found = read(made.rounds);
    expect(found.gates.map(({ first, seq }) => [first, seq])).toEqual([
      [1, 2],
      [8, 8],
      [9, 10],
      [13, 13],
    ]);
    expect(lanesOf(found)).toEqual({
      0: [
        [],
        ['4 db0 SET b 4'],
        ['5 db0 SET b 5', '7 db0 SET b 7'],
        [],
        [],
        ['11 db0 SET b 11'],
        ['12 db0 SET b 12'],
        [],
      ],
      1: [[], ['6 db0 SET c 6'], [], [], []],
      2: [['3 db0 SET d 3']],
    });
    linked(found);
  });

  test('a single one takes nothing with it: the lanes before and behind it depend on themselves', () => {
    const made = run(
      sequencer({ limits }),
      [entry(1, ['SET b 1', 'FLUSHDB', 'SET b 3'])],
      [entry(2, ['SET b 4', 'FLUSHDB'])],
    );
    const found = read(made.rounds);
    expect(found.gates.map(commandsOf)).toEqual([['2 db0 FLUSHDB'], ['5 db0 FLUSHDB']]);
    expect(lanesOf(found)[0]).toEqual([['1 db0 SET b 1'], [], ['3 db0 SET b 3'], ['4 db0 SET b 4'], []]);
  });

  test('beyond the gap the held commands go back into their lanes, behind the markers', () => {
    const made = run(sequencer({ limits }), [
      entry(1, ['RENAME b c', 'SET b 1', 'SET d 2', 'SET c 3', 'RENAME c b']),
    ]);
    const found = read(made.rounds);
    expect(found.gates).toMatchObject([
      { seq: 1, lanes: [0, 1], previous: [0, 0] },
      { seq: 5, lanes: [0, 1], previous: [2, 4] },
    ]);
    expect(lanesOf(found)).toEqual({
      0: [[], ['2 db0 SET b 1'], []],
      1: [[], ['4 db0 SET c 3'], []],
      2: [['3 db0 SET d 2']],
    });
    expect(made.steps).toMatchObject([{ gates: [1, 5] }]);
    linked(found);
  });

  test('above the byte limit a segment closes; a single command may be larger', () => {
    const small = { ...limits, segmentBytesMax: 40 };
    const long = 'x'.repeat(100);
    const made = run(sequencer({ limits: small }), [
      entry(1, [`MSETNX b ${long} c ${long}`, 'RENAME b c', 'SET b 1', 'RENAME c b']),
    ]);
    const found = read(made.rounds);
    expect(found.gates.map(({ seq, first }) => [first, seq])).toEqual([
      [1, 1],
      [2, 2],
      [4, 4],
    ]);
    linked(found);
  });

  test('a round closes the segment that is open', () => {
    const made = run(
      sequencer({ limits }),
      [entry(1, ['RENAME b c'])],
      [entry(2, ['SET b 1', 'RENAME c b'])],
    );
    expect(read(made.rounds).gates.map(({ first, seq }) => [first, seq])).toEqual([
      [1, 1],
      [3, 3],
    ]);
    linked(read(made.rounds));
  });

  test('the databases that SWAPDB names are those of the gate', () => {
    const found = read(
      run(sequencer({ limits }), [entry(1, ['SWAPDB 0 3', 'SWAPDB 3 5', 'FLUSHDB'])]).rounds,
    );
    expect(found.gates).toMatchObject([{ seq: 3, first: 1, erases: true, swapped: [0, 3, 5] }]);
  });
});

describe('splitting', () => {
  test('MSET, DEL, UNLINK and TOUCH go to their lanes under one number', () => {
    for (const [line, inFirst, inSecond] of [
      ['MSET b 1 c 2 f 3', 'MSET b 1 f 3', 'MSET c 2'],
      ['DEL b c f', 'DEL b f', 'DEL c'],
      ['UNLINK b c', 'UNLINK b', 'UNLINK c'],
      ['TOUCH c b', 'TOUCH b', 'TOUCH c'],
    ]) {
      const found = read(run(sequencer(), [entry(1, ['PING', String(line), 'SET b 9'])]).rounds);
      expect(found.gates).toEqual([]);
      expect(lanesOf(found)).toEqual({
        0: [[`2 db0 ${inFirst}`, '3 db0 SET b 9']],
        1: [[`2 db0 ${inSecond}`]],
      });
    }
  });

  test('inside a segment the parts stand one by one, each with its own lane', () => {
    const found = read(run(sequencer(), [entry(1, ['RENAME b c', 'DEL b d', 'RENAME c b'])]).rounds);
    expect(found.gates.map(commandsOf)).toEqual([
      ['1 db0 RENAME b c [0,1]', '2 db0 DEL b [0]', '2 db0 DEL d [2]', '3 db0 RENAME c b [0,1]'],
    ]);
    linked(found);
  });

  test('without splitting, and inside a MULTI, they pass a gate', () => {
    const whole = read(run(sequencer({ splitMultiKey: false }), [entry(1, ['DEL b c'])]).rounds);
    expect(whole.gates).toMatchObject([{ seq: 1, lanes: [0, 1] }]);
    const inside = read(run(sequencer(), [entry(1, ['MULTI', 'DEL b c', 'EXEC'])]).rounds);
    expect(inside.gates.map(commandsOf)).toEqual([['2 db0 DEL b c [0,1]']]);
  });
});

test('a relative deadline becomes absolute, counted from its entry, also in a transaction and in a segment', () => {
  const lines = ['SET b 1 EX 10', 'RENAME b c', 'PEXPIRE b 5', 'RENAME c b', 'MULTI', 'SETEX d 2 v', 'EXEC'];
  const found = read(run(sequencer(), [entry(1, lines, { timeMs: 1_000_000 })]).rounds);
  expect(lanesOf(found)[0]?.[0]).toEqual(['1 db0 SET b 1 PXAT 1010000']);
  expect(found.gates.flatMap(commandsOf)).toContain('3 db0 PEXPIREAT b 1000005 [0]');
  expect(lanesOf(found)[2]?.flat()).toEqual(['6 db0 SET d v PXAT 1002000']);
});

describe('poison', () => {
  test('stops in front of the command; what stood before it is yielded first', () => {
    const { steps } = run(sequencer(), [entry(1, ['SET b 1']), entry(2, ['SET b 2', 'SHUTDOWN', 'SET b 3'])]);
    expect(steps).toMatchObject([
      { kind: 'round', round: { lastSeq: 2, position: '2:1' } },
      { kind: 'poison', position: '2:1', poison: { seq: 3, code: 'FORBIDDEN_COMMAND', command: 'SHUTDOWN' } },
    ]);
  });

  test('inside a MULTI the place to resume is in front of the MULTI', () => {
    const { steps } = run(sequencer(), [entry(1, ['SET b 1', 'MULTI', 'SET b 2', 'SHUTDOWN', 'EXEC'])]);
    expect(steps).toMatchObject([
      { kind: 'round', round: { lastSeq: 1, position: '1:1' } },
      { kind: 'poison', position: '1:1', poison: { seq: 4 } },
    ]);
    expect(
      lanesOf(read(run(sequencer(), [entry(1, ['MULTI', 'SET b 2', 'SHUTDOWN', 'EXEC'])]).rounds)),
    ).toEqual({});
  });

  test('a resumed entry asks again with the same number, and goes on behind it when it is left out', () => {
    const whole = entry(1, ['SELECT 2', 'SET b 1', 'GOBBLE c', 'SET b 2']);
    const again = sequencer({
      head: 2,
      tails: [2, 0, 0, 0],
      onPoison: () => ({ kind: 'drop', record: 'by me' }),
    });
    const found = read(run(again, [{ ...whole, skip: 2 }]).rounds);
    expect(lanesOf(found)).toEqual({ 0: [['4 db2 SET b 2']] });
    expect(found.dead).toMatchObject([{ seq: 3, record: 'by me' }]);
  });

  test('a key under the reserved prefix is named', () => {
    const { steps } = run(sequencer(), [entry(1, ['MSET b 1 lanegate:x:ck:0 2'])]);
    expect(steps).toMatchObject([
      { kind: 'poison', poison: { code: 'RESERVED_KEY', key: 'lanegate:x:ck:0' } },
    ]);
  });

  test('a dead letter of a transaction that then stops is not written twice', () => {
    const entries = [entry(1, ['SET b 1', 'MULTI', 'GOBBLE', 'SHUTDOWN', 'EXEC'])];
    const onPoison = ({ command }: { command: string }) =>
      command === 'GOBBLE' ? { kind: 'drop' as const, record: '' } : { kind: 'stop' as const };
    expect(read(run(sequencer({ onPoison }), entries).rounds).dead).toEqual([]);
  });

  test('a transaction above the limit is left out as a whole, as one dead letter, and every command keeps its number', () => {
    const limits = { roundBytesMax: 1e6, segmentBytesMax: 1e6, segmentGapMax: 1, transactionBytesMax: 60 };
    const asked: number[] = [];
    const onPoison = ({ seq }: { seq: number }) => {
      asked.push(seq);
      return { kind: 'drop' as const, record: `left out at ${seq}` };
    };
    const lines = [
      'MULTI',
      'SHUTDOWN',
      'SET b 1',
      'SET b 2',
      'SELECT 3',
      'FLUSHALL',
      'SET b 3',
      'NOSUCH',
      'EXEC',
    ];
    const after = ['SET b 4', 'MULTI', 'SET b 5', 'EXEC'];
    const made = run(sequencer({ limits, onPoison }), [entry(1, ['SET b 0', ...lines, ...after])]);
    const found = read(made.rounds);
    // The SHUTDOWN in it was asked for before anybody could know how large the transaction is.
    expect(asked).toEqual([3, 2]);
    expect(lanesOf(found)).toEqual({ 0: [['1 db0 SET b 0', '11 db3 SET b 4', '13 db3 SET b 5']] });
    expect(found.gates).toEqual([]);
    const whole = entry(1, lines).resp.toString();
    expect(found.dead).toEqual([{ seq: 2, record: 'left out at 2', commands: whole }]);
    expect(made.seq).toBe(14);
  });
});

describe('the same log, cut in any way', () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd', 'f', '{b}x');
  const value = fc.nat(99);
  const single = fc.oneof(
    { weight: 6, arbitrary: fc.tuple(key, value).map(([k, v]) => `SET ${k} ${v}`) },
    fc.tuple(key, key).map(([a, b]) => `RENAME ${a} ${b}`),
    fc.tuple(key, key, key).map((keys) => `DEL ${keys.join(' ')}`),
    fc.tuple(key, key).map(([a, b]) => `MSET ${a} 1 ${b} 2`),
    fc.tuple(key, value).map(([k, v]) => `EXPIRE ${k} ${v}`),
    fc.constantFrom(
      'FLUSHDB',
      'SWAPDB 0 1',
      'PING',
      'SHUTDOWN',
      'GOBBLE b',
      'SELECT 1',
      'SELECT 0',
      'SELECT x',
    ),
  );
  const lines = fc
    .array(
      fc.oneof(
        { weight: 4, arbitrary: single.map((line) => [line]) },
        fc.array(single, { maxLength: 4 }).map((inside) => ['MULTI', ...inside, 'EXEC']),
      ),
      { minLength: 1, maxLength: 4 },
    )
    .map((groups) => groups.flat());
  const log = fc
    .array(fc.oneof({ weight: 9, arbitrary: lines }, fc.constant<string[]>([])), { maxLength: 10 })
    .map((all) =>
      all.map((list, at): Entry => entry(at + 1, list, { db: at % 3 === 2 ? 1 : 0, timeMs: 1_000 + at })),
    );
  const cut = fc.record({
    chunk: fc.integer({ min: 1, max: 6 }),
    roundBytesMax: fc.integer({ min: 1, max: 400 }),
    segmentBytesMax: fc.integer({ min: 0, max: 400 }),
    segmentGapMax: fc.integer({ min: 0, max: 6 }),
    segmentDenseMin: fc.integer({ min: 1, max: 4 }),
    /** Which of its rounds is the last one of this ingest; another goes on from there. */
    until: fc.nat(12),
  });
  type Cut = typeof cut extends fc.Arbitrary<infer T> ? T : never;

  function ingested(entries: readonly Entry[], { chunk, until, ...limits }: Cut, from: Round[]): Round[] {
    const last = from.at(-1);
    const tails = [0, 0, 0, 0];
    for (const [lane, items] of read(from).lanes) tails[lane] = items.at(-1)?.seq ?? 0;
    const [at = 0, taken = 0] = (last?.position ?? '0').split(':').map(Number);
    const rest = last?.position.includes(':') ? entries.slice(at - 1) : entries.slice(at);
    const made = sequencer({
      head: last?.lastSeq ?? 0,
      tails,
      limits: { ...limits, transactionBytesMax: 1e6 },
      onPoison: () => ({ kind: 'drop', record: '' }),
    });
    const rounds: Round[] = [];
    for (let i = 0; i < rest.length; i += chunk) {
      const part = rest.slice(i, i + chunk).map((one, j) => (i + j === 0 ? { ...one, skip: taken } : one));
      rounds.push(...run(made, part).rounds);
    }
    return rounds;
  }

  /** (seq, lanes) -> database and bytes, in the order of each lane. */
  function mapping(rounds: readonly Round[]): unknown {
    const found = read(rounds);
    const perLane = Array.from({ length: LANES }, () => [] as string[]);
    for (const [lane, items] of found.lanes) {
      for (const item of items) {
        if (item.kind === 'batch')
          perLane[lane]?.push(...commandsOf(item).map((text) => `${text} [${lane}]`));
        const gate = item.kind === 'marker' ? found.gates.find(({ seq }) => seq === item.seq) : undefined;
        for (const text of gate ? commandsOf(gate) : []) {
          const own = /\[([\d,]+)\]$/.exec(text)?.[1]?.split(',').map(Number);
          const full = own ? text : `${text} [0,1,2,3]`;
          if (!own || own.includes(lane)) perLane[lane]?.push(full);
        }
      }
    }
    return {
      perLane,
      dead: found.dead.map(({ seq }) => seq).sort((a, b) => a - b),
      last: rounds.at(-1)?.lastSeq,
    };
  }

  test('gives the same commands the same numbers and lanes, from any place where a round ended', () => {
    fc.assert(
      fc.property(log, cut, cut, (entries, first, second) => {
        const whole = ingested(entries, first, []);
        const part = ingested(entries, second, []).slice(0, second.until);
        const resumed = [...part, ...ingested(entries, first, part)];
        linked(read(whole));
        linked(read(resumed));
        expect(mapping(resumed)).toEqual(mapping(whole));
      }),
      { numRuns: 400 },
    );
  });

  test('never ends a round inside a MULTI', () => {
    fc.assert(
      fc.property(log, cut, (entries, one) => {
        const rounds = ingested(entries, one, []);
        for (const { position } of rounds) {
          const [at = 0, taken] = position.split(':').map(Number);
          if (taken === undefined) continue;
          const before = namesOf(entries[at - 1] as Entry).slice(0, taken);
          const opened = before.filter((name) => name === 'MULTI').length;
          expect(before.filter((name) => name === 'EXEC').length).toBe(opened);
        }
      }),
      { numRuns: 100 },
    );
  });
});

/** Names of its commands; of an entry that breaks off, those before. */
function namesOf(one: Entry): string[] {
  const scanner = new RespScanner();
  scanner.reset(one.resp);
  const names: string[] = [];
  while (scanner.next()) names.push(String(scanner.arg(0)));
  return names;
}

describe('keys of lanegate in the log', () => {
  const own = 'SET lanegate:default:mark x';

  test('bookkeeping of another pipeline is left out and counted, also inside a MULTI', () => {
    const made = run(sequencer(), [
      entry(1, ['MULTI', 'SET b 1', 'SET lanegate:other:ck:3 1.ab:7', 'SET c 1', 'EXEC']),
      entry(2, ['MULTI', 'SET lanegate:other:mark x', 'DEL lanegate:other:flush', 'EXEC', 'SET b 2']),
      entry(3, ['MULTI', 'FLUSHALL', 'SELECT 0', 'SET lanegate:other:identity x', 'EXEC']),
    ]);
    expect(made.seq).toBe(15);
    const found = read(made.rounds);
    expect(found.gates.map(commandsOf)).toEqual([
      [
        expect.stringMatching(/^2 db0 SET b 1/),
        expect.stringMatching(/^4 db0 SET c 1/),
        '10 db0 SET b 2 [0]',
        '12 db0 FLUSHALL',
      ],
    ]);
    expect(made.rounds.reduce((sum, { ignored }) => sum + ignored, 0)).toBe(4);
  });

  test("the pipeline's own keys, and what is nobody's bookkeeping, stop ingest", () => {
    for (const line of [own, 'SET lanegate:other:x 1', 'SET lanegate:mine 1', 'SET lanegate:other:ck:1x 1']) {
      const { steps } = run(sequencer(), [entry(1, ['SET b 1', line])]);
      expect(steps.at(-1), line).toMatchObject({ kind: 'poison', poison: { code: 'RESERVED_KEY', seq: 2 } });
    }
    const { steps } = run(sequencer(), [entry(1, ['MULTI', 'SET lanegate:other:mark x', own, 'EXEC'])]);
    expect(steps).toMatchObject([{ poison: { reason: expect.stringContaining('another --name') } }]);
  });

  test('a command that mixes bookkeeping with other keys is not cut', () => {
    const { steps } = run(sequencer(), [entry(1, ['DEL b lanegate:other:mark'])]);
    expect(steps).toMatchObject([{ poison: { code: 'RESERVED_KEY', key: 'lanegate:other:mark' } }]);
  });
});

test('a command that the journal could not hold stops ingest in front of it, by the name of the limit', () => {
  const limits = { commandBytesMax: 100 } as never;
  const large = `SET b ${'x'.repeat(200)}`;
  const { steps } = run(sequencer({ limits }), [entry(1, ['SET b 1', large])]);
  expect(steps.at(-1)).toMatchObject({
    kind: 'poison',
    poison: { code: 'COMMAND_TOO_LARGE', reason: expect.stringContaining('more than 100 bytes') },
  });
  const left = run(sequencer({ limits, onPoison: () => ({ kind: 'drop', record: 'r' }) }), [
    entry(1, ['SET b 1', large, 'SET b 2']),
  ]);
  expect(read(left.rounds).dead).toEqual([{ seq: 2, record: 'r', commands: '' }]);
  expect(lanesOf(read(left.rounds))).toEqual({ 0: [['1 db0 SET b 1', '3 db0 SET b 2']] });
});

describe('where deadlines are watched, an item says which comes first', () => {
  const rewriteRules = { masterDecided: false, graceMs: 0, watchesDeadlines: true };

  test('of its own commands, as they are and rewritten, in a lane and in a gate', () => {
    const made = run(sequencer({ rewriteRules }), [
      entry(1, ['SET b 1 PXAT 9000', 'SET b 2 EX 3', 'SET b 3', 'SET c 1']),
      entry(2, ['MULTI', 'PEXPIREAT c 8000', 'RENAME b f', 'SET d 1 PX 6000', 'EXEC']),
    ]);
    const { lanes, gates } = read(made.rounds);
    expect(lanes.get(0)?.map(({ kind, deadlineMs }) => [kind, deadlineMs])).toEqual([
      ['batch', 4_000],
      ['marker', Infinity],
    ]);
    expect(lanes.get(1)?.[0]?.deadlineMs).toBe(Infinity);
    expect(gates.map(({ deadlineMs }) => deadlineMs)).toEqual([7_000]);
    expect(lanesOf(read(made.rounds))[0]?.[0]).toEqual([
      '1 db0 SET b 1 PXAT 9000',
      '2 db0 SET b 2 PXAT 4000',
      '3 db0 SET b 3',
    ]);
  });

  test('of another one it says nothing, nor where they are not watched', () => {
    const lines = ['SET b 1 PXAT 500', 'SET b 1 EX 0', 'RPUSH b PXAT 9000'];
    const made = run(sequencer({ rewriteRules }), [entry(1, lines)]);
    expect(read(made.rounds).lanes.get(0)?.[0]?.deadlineMs).toBe(Infinity);
    const unwatched = run(sequencer(), [entry(1, ['SET b 1 EX 3'])]);
    expect(read(unwatched.rounds).lanes.get(0)?.[0]?.deadlineMs).toBe(Infinity);
  });
});

test('commands whose effect the log does not fix are counted, once', () => {
  const made = run(sequencer(), [entry(1, ['SPOP b', 'XADD b * f v', 'XADD b 1-1 f v', 'SADD b m'])]);
  expect(made.rounds).toMatchObject([{ undetermined: 2 }]);
  const stopping = sequencer();
  const { rounds, steps } = run(stopping, [
    entry(1, ['SPOP b', 'MULTI', 'SPOP b', 'PING', 'NOSUCH x', 'EXEC']),
  ]);
  expect(steps.map(({ kind }) => kind)).toEqual(['round', 'poison']);
  expect(rounds).toMatchObject([{ lastSeq: 1, undetermined: 1, ignored: 0 }]);
});
