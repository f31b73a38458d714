import { expect, test } from 'vitest';
import { compare, shownChanges } from '../../../bench/compare.ts';
import type { Drain } from '../../../bench/drain.ts';
import type { Results } from '../../../bench/results.ts';

const drain = (perSecondOfRuns: readonly number[], workerUs = 1): Drain => ({
  median: {
    commands: 1,
    seconds: 1,
    perSecond: perSecondOfRuns[Math.floor(perSecondOfRuns.length / 2)] as number,
    secondsFromStart: 1,
    cpuUsPerCommand: { worker: workerUs, queue: 0.5, target: 9, elsewhere: 9 },
    peakRssBytes: {},
    queueUsedPeakBytes: 0,
    gates: 0,
  },
  perSecondOfRuns,
  peakRssBytes: {},
});

const results = (ceiling: number | undefined, oneWorker: Drain): Results => ({
  machine: {} as Results['machine'],
  runs: 3,
  commands: 1,
  nodeArgs: [],
  workerArgs: [],
  failures: [],
  ...(ceiling === undefined ? {} : { ceiling: { perSecond: ceiling, perSecondOfRuns: [ceiling] } }),
  drain: { oneWorker },
});

const verdicts = (before: Results, now: Results) => compare(before, now).map(({ verdict }) => verdict);

test('a machine that is half as fast makes nothing slower', () => {
  const before = results(800, drain([380, 400, 420], 1));
  expect(verdicts(before, results(400, drain([190, 200, 210], 2.5)))).toEqual(['same', 'same']);
});

test('a rate all of whose runs are below those of then, by more than noise, is slower', () => {
  const [rate] = compare(results(800, drain([380, 400, 420])), results(800, drain([330, 350, 360])));
  expect(rate).toMatchObject({ what: 'drain, 1 worker', before: 0.5, now: 0.4375, verdict: 'slower' });
});

test('where the runs of then and now overlap it is not said for certain', () => {
  const before = results(800, drain([300, 400, 420]));
  expect(verdicts(before, results(800, drain([310, 330, 410])))[0]).toBe('perhaps slower');
});

test('CPU counts for lanegate and its queue alone, and more of it is slower', () => {
  const before = results(800, drain([400], 1));
  const cpu = compare(before, results(800, drain([400], 2)))[1];
  expect(cpu).toMatchObject({ what: 'drain, 1 worker, CPU of lanegate and its queue', verdict: 'slower' });
  expect(cpu?.speed).toBeCloseTo(1.5 / 2.5);
});

test('a figure that is better is faster', () => {
  const before = results(800, drain([400], 2));
  expect(verdicts(before, results(800, drain([500], 1)))).toEqual(['faster', 'faster']);
});

test('what has no ceiling, or is missing in one run, is not compared', () => {
  const before = results(undefined, drain([400]));
  expect(compare(before, results(800, drain([1])))).toEqual([]);
  expect(shownChanges('old.json', [])[0]).toContain('nothing to compare with old.json');
});

test('what became slower is told first', () => {
  const changes = compare(results(800, drain([400], 2)), results(800, drain([300], 1)));
  const lines = shownChanges('old.json', changes);
  expect(lines[0]).toContain('1 of 2 became slower');
  expect(lines[1]).toMatch(/^ {2}slower .* 0\.75 x {2}drain, 1 worker: 0\.50 -> 0\.38$/);
});
