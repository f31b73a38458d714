import { expect, test } from 'vitest';
import { EVERY_CASE } from '../../support/cases.ts';
import { PikaWorld } from '../../support/pika-world.ts';

// What repair.ts promises of numbers, places and restarts, on many histories.

const SEED = Number(process.env.LANEGATE_SEED ?? 1);
const HISTORIES = EVERY_CASE ? 150 : 50;

test.each([1, 2])(
  'with %i databases, whatever dies and is lost on the way, the target ends as the master',
  async (databases) => {
    let [crashes, repaired] = [0, 0];
    for (let seed = SEED; seed < SEED + HISTORIES; seed++) {
      const world = new PikaWorld({ seed, databases, operations: 120 });
      await world.run();
      expect([...world.doubled, ...world.differences()], `LANEGATE_SEED=${seed}`).toEqual([]);
      crashes += world.crashes;
      repaired += world.repaired;
    }
    expect(crashes).toBeGreaterThan(HISTORIES);
    expect(repaired).toBeGreaterThan(HISTORIES);
  },
);
