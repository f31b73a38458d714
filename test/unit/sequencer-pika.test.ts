import { describe, expect, test } from 'vitest';
import { commandsOf, entry, read, run, sequencer } from './sequencer-log.ts';

// What the sequencer does otherwise for a target that is no Redis. Keys b, f are in lane 0; c, g in 1; d, h in 2; a, e in 3.

const limits = {
  roundBytesMax: 1e6,
  segmentBytesMax: 1e6,
  segmentGapMax: 4,
  transactionBytesMax: 1e6,
  flushAlone: true,
};

function gatesOf(lines: readonly string[]) {
  const { gates } = read(run(sequencer({ limits }), [entry(1, lines)]).rounds);
  return gates.map((gate) => ({
    commands: commandsOf(gate),
    seq: gate.seq,
    first: gate.first,
    erases: gate.erases,
  }));
}

describe('a flush that must run alone is a gate of its own', () => {
  test('between crossing commands that would have shared a gate', () => {
    expect(gatesOf(['RENAME a b', 'FLUSHDB', 'RENAME a b', 'RENAME c d'])).toEqual([
      { commands: ['1 db0 RENAME a b [0,3]'], seq: 1, first: 1, erases: false },
      { commands: ['2 db0 FLUSHDB'], seq: 2, first: 2, erases: true },
      { commands: ['3 db0 RENAME a b [0,3]', '4 db0 RENAME c d [1,2]'], seq: 4, first: 3, erases: false },
    ]);
  });

  test('inside a transaction, whose pieces wait for the same lanes and end at its EXEC', () => {
    expect(gatesOf(['MULTI', 'SET a 1', 'FLUSHDB', 'FLUSHALL', 'SET b 2', 'SET b 3', 'EXEC'])).toEqual([
      { commands: ['2 db0 SET a 1'], seq: 2, first: 1, erases: false },
      { commands: ['3 db0 FLUSHDB'], seq: 3, first: 3, erases: true },
      { commands: ['4 db0 FLUSHALL'], seq: 4, first: 4, erases: true },
      { commands: ['5 db0 SET b 2', '6 db0 SET b 3'], seq: 7, first: 5, erases: false },
    ]);
    expect(gatesOf(['MULTI', 'FLUSHDB', 'EXEC'])).toEqual([
      { commands: ['2 db0 FLUSHDB'], seq: 3, first: 1, erases: true },
    ]);
  });
});

describe('what the target has to be told in other words', () => {
  const spelling = { deadlines: 'EXPIREAT', hsetOfOne: true } as const;

  test('stays together under one seq, alone and in a transaction', () => {
    const lines = ['SET b 1 PXAT 5000', 'MULTI', 'INCR f', 'SET b 2 EX 1', 'EXEC', 'HSET b x 1 y 2'];
    const made = run(sequencer({ spelling }), [entry(1, lines)]);
    const items = read(made.rounds).lanes.get(0) ?? [];
    expect(items.flatMap(commandsOf)).toEqual([
      '1 db0 SET b 1',
      '1 db0 EXPIREAT b 5',
      '3 db0 INCR f',
      '4 db0 SET b 2',
      '4 db0 EXPIREAT b 2',
      '6 db0 HMSET b x 1 y 2',
    ]);
    expect(made.seq).toBe(6);
  });

  test('what it does not know, and a database that it cannot write, is poison', () => {
    const codes: string[] = [];
    const onPoison = ({ code }: { code: string }) => {
      codes.push(code);
      return { kind: 'drop' as const, record: code };
    };
    const lines = ['COPY b f', 'SET b 1 NX EX 5', 'SELECT 1', 'SET b 1', 'SELECT 0', 'SET b 1'];
    const made = run(sequencer({ spelling, onPoison, onlyDb: 0, lacks: new Set(['COPY']) }), [
      entry(1, lines),
    ]);
    expect(codes).toEqual(['NOT_AT_TARGET', 'NOT_AT_TARGET', 'DB_OUT_OF_RANGE']);
    expect((read(made.rounds).lanes.get(0) ?? []).flatMap(commandsOf)).toEqual(['6 db0 SET b 1']);
  });
});
