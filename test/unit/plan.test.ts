import { describe, expect, test } from 'vitest';
import { RespScanner } from '../../src/binlog/resp.ts';
import type { GateItem, LaneItem } from '../../src/journal/item.ts';
import { type Batch, planChunk, planGate } from '../../src/target/plan.ts';
import { entry, GENERATION, read, run, sequencer } from './sequencer-log.ts';

// With 4 lanes the keys b, f are in lane 0; c, g in 1; d, h in 2; a, e in 3.

const NONE: ReadonlySet<number> = new Set();
const limits = { bytesMax: 1e6, skips: NONE };
const at = (seq: number) => ({ generation: GENERATION, seq });

/** Lane 0 of a log, one item per entry. */
function lane(...entries: readonly (readonly string[])[]): LaneItem[] {
  const chunks = entries.map((lines, i) => [entry(i + 1, lines)]);
  return read(run(sequencer(), ...chunks).rounds).lanes.get(0) ?? [];
}

function gateOf(lines: readonly string[], segmentGapMax = 4): GateItem {
  const bounds = { roundBytesMax: 1e6, segmentBytesMax: 1e6, segmentGapMax, transactionBytesMax: 1e6 };
  return read(run(sequencer({ limits: bounds }), [entry(1, lines)]).rounds).gates[0] as GateItem;
}

/** What goes over the wire, SELECTs included. */
function sent(batch: Batch): string[] {
  const scanner = new RespScanner();
  scanner.reset(Buffer.concat(batch.parts));
  const found: string[] = [];
  while (scanner.next()) found.push(scanner.args().map(String).join(' '));
  expect(batch.count).toBe(found.length);
  return found;
}

function chunk(items: readonly LaneItem[], seq: number, more: Partial<Parameters<typeof planChunk>[3]> = {}) {
  const plan = planChunk(items, at(seq), 0, { ...limits, ...more });
  if (plan.kind !== 'run') throw new Error(`the plan is ${plan.kind}`);
  return { ...plan, sent: sent(plan.batch) };
}

describe('a lane chunk', () => {
  const items = lane(['SET b 1', 'PING', 'SET b 3'], ['SET f 4', 'SET b 5'], ['SET b 6']);

  test('runs what follows the checkpoint, whole items at a time', () => {
    expect(chunk(items, 0)).toMatchObject({
      last: 6,
      items: 3,
      sent: ['SET b 1', 'SET b 3', 'SET f 4', 'SET b 5', 'SET b 6'],
    });
    expect(chunk(items, 0, { bytesMax: 1 })).toMatchObject({ last: 3, items: 1 });
  });

  test('drops what is applied where the checkpoint stands inside an item', () => {
    const plan = chunk(items, 1);
    expect(plan).toMatchObject({ last: 6, sent: ['SET b 3', 'SET f 4', 'SET b 5', 'SET b 6'] });
    expect(plan.batch).toMatchObject({ dropped: 1, run: 4 });
    // A checkpoint that another cut left between two commands of the lane.
    expect(chunk(items, 2).sent[0]).toBe('SET b 3');
  });

  test('is refused behind a gap, of another generation, and when all is applied', () => {
    expect(planChunk(items.slice(1), at(2), 0, limits)).toMatchObject({ kind: 'gap' });
    expect(planChunk(items, { generation: '2.ab', seq: 0 }, 0, limits)).toMatchObject({ kind: 'foreign' });
    expect(planChunk(items, at(3), 0, limits)).toMatchObject({ kind: 'applied', last: 3 });
    expect(planChunk([], at(3), 0, limits)).toEqual({ kind: 'none' });
  });

  test('ends before an item that does not follow the one before it', () => {
    const [first, , third] = items as [LaneItem, LaneItem, LaneItem];
    expect(chunk([first, third], 0)).toMatchObject({ last: 3, items: 1 });
    const other = { ...(items[1] as LaneItem), generation: '2.ab' };
    expect(chunk([first, other], 0)).toMatchObject({ last: 3, items: 1 });
  });

  test('ends at a marker, and nothing behind a marker runs before the gate', () => {
    const marked = lane(['SET b 1', 'FLUSHDB', 'SET b 3']);
    const long = read(
      run(
        sequencer({
          limits: { roundBytesMax: 1e6, segmentBytesMax: 1, segmentGapMax: 0, transactionBytesMax: 1e6 },
        }),
        [entry(1, ['SET b 1', 'FLUSHDB', 'SET b 3'])],
      ).rounds,
    ).lanes.get(0) as LaneItem[];
    expect(chunk(long, 0)).toMatchObject({ last: 1, items: 1 });
    expect(planChunk(long.slice(1), at(1), 0, limits)).toMatchObject({ kind: 'marker', marker: { seq: 2 } });
    expect(planChunk(long.slice(2), at(1), 0, limits)).toMatchObject({ kind: 'gap' });
    expect(chunk(long.slice(2), 2).sent).toEqual(['SET b 3']);
    expect(marked.map(({ kind }) => kind)).toEqual(['batch', 'marker', 'batch']);
  });

  test('selects the database of each item, also where commands before it were dropped', () => {
    const dbs = lane(['SELECT 1', 'SET b 2', 'SELECT 2', 'SET b 4'], ['SET b 5']);
    expect(chunk(dbs, 0).sent).toEqual(['SELECT 1', 'SET b 2', 'SELECT 2', 'SET b 4', 'SELECT 0', 'SET b 5']);
    expect(chunk(dbs, 2).sent).toEqual(['SELECT 2', 'SET b 4', 'SELECT 0', 'SET b 5']);
    expect(chunk(dbs, 2).batch.dbLast).toBe(0);
    const behind = planChunk(dbs, at(0), 1, limits);
    expect(behind.kind === 'run' && sent(behind.batch)[0]).toBe('SET b 2');
  });

  test('leaves out what an operator skips, and passes it', () => {
    const plan = chunk(items, 0, { skips: new Set([3, 6]) });
    expect(plan).toMatchObject({ last: 6, sent: ['SET b 1', 'SET f 4', 'SET b 5'] });
  });

  test('counts commands of the source, not the SELECTs that were put in', () => {
    expect(chunk(lane(['SET b 1', 'SELECT 2', 'SET b 3']), 0).batch.run).toBe(2);
  });

  test('names the command at any place of the batch, and none for what was put in between', () => {
    const dbs = lane(['SET b 1', 'SELECT 2', 'SET b 3'], ['SET b 4']);
    for (const plan of [chunk(dbs, 0), chunk(dbs, 0, { skips: new Set([99]) })]) {
      const named = plan.sent.map((text, index) => {
        const found = plan.batch.commandAt(index);
        if (!text.startsWith('SELECT')) expect(found?.args.map(String).join(' ')).toBe(text);
        return text.startsWith('SELECT') ? undefined : found?.seq;
      });
      expect(named).toEqual([1, undefined, 3, undefined, 4]);
      expect(plan.batch.commandAt(plan.sent.length)).toBeUndefined();
    }
  });
});

describe('the prefix of a lane chunk', () => {
  const items = lane(['SET b 1', 'SET b 2', 'MULTI', 'SET b 4', 'SET b 5', 'EXEC', 'SET b 7']);

  test('ends directly before the command', () => {
    expect(chunk(items, 0, { before: 2 })).toMatchObject({ last: 1, items: 0, sent: ['SET b 1'] });
    expect(chunk(items, 0, { before: 7 })).toMatchObject({
      last: 5,
      sent: ['SET b 1', 'SET b 2', 'SET b 4', 'SET b 5'],
    });
  });

  test('never cuts the MULTI that holds the command', () => {
    expect(chunk(items, 0, { before: 5 })).toMatchObject({ last: 2, sent: ['SET b 1', 'SET b 2'] });
  });

  test('is empty and stays at the checkpoint when the command is the first', () => {
    expect(chunk(items, 0, { before: 1 })).toMatchObject({ last: 0, sent: [] });
    expect(chunk(items, 2, { before: 4 })).toMatchObject({ last: 2, sent: [] });
  });

  test('takes the whole items before it', () => {
    const two = lane(['SET b 1'], ['SET b 2', 'SET b 3']);
    expect(chunk(two, 0, { before: 3 })).toMatchObject({ last: 2, items: 1, sent: ['SET b 1', 'SET b 2'] });
    expect(chunk(two, 0, { before: 2 })).toMatchObject({ last: 1, items: 1, sent: ['SET b 1'] });
  });
});

describe('a gate', () => {
  const gate = gateOf(['SET b 1', 'SET c 2', 'RENAME b c', 'SET b 4', 'DEL b c', 'RENAME c b']);
  const plan = (seqs: readonly number[], more: Partial<Parameters<typeof planGate>[3]> = {}) =>
    planGate(gate, seqs.map(at), 0, { skips: NONE, ...more });
  const ran = (seqs: readonly number[], more: Partial<Parameters<typeof planGate>[3]> = {}) => {
    const made = plan(seqs, more);
    if (made.kind !== 'run') throw new Error(`the plan is ${made.kind}`);
    return { through: made.through, sent: sent(made.batch), dropped: made.batch.dropped };
  };

  test('waits for the lanes that have not reached their markers', () => {
    expect(gate).toMatchObject({ seq: 6, first: 3, lanes: [0, 1], previous: [1, 2] });
    expect(plan([0, 2])).toEqual({ kind: 'waiting', lanes: [0] });
    expect(plan([0, 1])).toEqual({ kind: 'waiting', lanes: [0, 1] });
  });

  test('is closed when all of its lanes have passed it, and foreign in another generation', () => {
    expect(plan([6, 9])).toEqual({ kind: 'closed' });
    expect(planGate(gate, [at(6), { generation: '2.ab', seq: 6 }], 0, { skips: NONE })).toEqual({
      kind: 'foreign',
    });
  });

  test('runs whole when nothing of it is applied', () => {
    const whole = ['RENAME b c', 'SET b 4', 'DEL b', 'DEL c', 'RENAME c b'];
    expect(ran([1, 2])).toEqual({ through: 6, sent: whole, dropped: 0 });
  });

  test('judges each command by its own lanes', () => {
    // Another cut had a gate at 3, then 4 and one part of 5 in lane 0.
    expect(ran([5, 3])).toEqual({ through: 6, sent: ['DEL c', 'RENAME c b'], dropped: 3 });
    expect(ran([4, 3])).toEqual({ through: 6, sent: ['DEL b', 'DEL c', 'RENAME c b'], dropped: 2 });
  });

  test('is mixed, which cannot be, when a crossing command is applied in one lane alone', () => {
    expect(plan([6, 5])).toEqual({ kind: 'mixed', seq: 6 });
    expect(plan([3, 2])).toEqual({ kind: 'mixed', seq: 3 });
  });

  test('has a prefix that ends before the command, and before every part of a split one', () => {
    expect(ran([1, 2], { before: 4 })).toEqual({ through: 3, sent: ['RENAME b c'], dropped: 0 });
    expect(ran([1, 2], { before: 5 })).toEqual({ through: 4, sent: ['RENAME b c', 'SET b 4'], dropped: 0 });
    expect(ran([1, 2], { before: 3 })).toEqual({ through: 2, sent: [], dropped: 0 });
  });

  test('leaves out a skipped command in all of its lanes', () => {
    expect(ran([1, 2], { skips: new Set([5]) }).sent).toEqual(['RENAME b c', 'SET b 4', 'RENAME c b']);
    expect(ran([1, 2], { skips: new Set([6]) }).through).toBe(6);
  });

  test('asks for all lanes where a command names none of its own', () => {
    const flush = gateOf(['FLUSHDB', 'SET b 2', 'FLUSHDB']);
    const judged = planGate(flush, [at(2), at(1), at(1), at(1)], 0, { skips: NONE });
    expect(judged.kind === 'run' && sent(judged.batch)).toEqual(['FLUSHDB']);
    expect(planGate(flush, [at(0), at(1), at(0), at(0)], 0, { skips: NONE })).toEqual({
      kind: 'mixed',
      seq: 1,
    });
  });

  test('never cuts a MULTI for its prefix', () => {
    const multi = gateOf(['RENAME b c', 'MULTI', 'SET b 1', 'SET c 2', 'EXEC']);
    const made = planGate(multi, [at(0), at(0)], 0, { skips: NONE, before: 4 });
    expect(made.kind === 'run' && [made.through, sent(made.batch)]).toEqual([1, ['RENAME b c']]);
  });
});
