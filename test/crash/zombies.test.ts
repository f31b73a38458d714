import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// A process that sleeps for longer than its lock and wakes up in the middle of a step believes that it still holds the
// role. Another one has gone on meanwhile (I4).

const SPARSE = { commands: 900, global: 15, crossing: 60 };
/** Gate follows gate. Without a flush, behind which it could not be seen that a gate was applied twice. */
const DENSE = { commands: 5_000, global: 0, crossing: 500 };

interface Zombie {
  readonly failpoint: string;
  readonly asleep: string;
  readonly load?: typeof SPARSE;
  readonly args?: readonly string[];
}

const ZOMBIES: readonly Zombie[] = [
  { failpoint: 'between-multi-and-exec=stop@3', asleep: 'as a lane, inside its MULTI' },
  { failpoint: 'between-multi-and-exec=busy@3', asleep: 'with a CPU that is busy, inside its MULTI' },
  { failpoint: 'gate-after-pause=stop@1', asleep: 'as a gate, with the lanes paused' },
  { failpoint: 'between-look-and-commit=stop@3', asleep: 'as ingest, with a round in its hands' },
  {
    failpoint: 'gate-ahead=stop@2',
    asleep: 'behind a gate, with the fence of the next one read',
    load: DENSE,
    args: ['--round-bytes', '3kb'],
  },
];

describe.concurrent('a process that was stopped for longer than its lock is fenced, counted and harmless', () => {
  for (const [at, { failpoint, asleep, load = SPARSE, args = [] }] of ZOMBIES.entries()) {
    (failpoint.includes('busy') ? everyCase : test)(`${asleep}: ${failpoint}`, async () => {
      await using pipeline = await Pipeline.start({ lanes: 4, args });
      const workload = await logWorkload(pipeline.oracle.client(), { ...load, seed: 200 + at });
      const feed = new Feed(pipeline, workload);
      const zombie = pipeline.worker({ failpoint });
      await feed.while(0.5, () => until(`the zombie reaches ${failpoint}`, () => zombie.reached.length > 0));

      pipeline.worker();
      await feed.next(0.4);
      await pipeline.caughtUp();
      expect((await pipeline.counters()).fenced ?? 0).toBe(0);

      zombie.goOn();
      await until('the zombie is fenced', async () => ((await pipeline.counters()).fenced ?? 0) >= 1);
      await feed.rest();
      await pipeline.caughtUp();
      expect(zombie.running).toBe(true);
      expect(await pipeline.differences()).toEqual([]);
    });
  }
});

everyCase(
  'an ingest that slept between taking over and its first read stops nobody for what the source has forgotten since',
  async () => {
    await using pipeline = await Pipeline.start({ lanes: 4, args: ['--trim-source'] });
    const workload = { commands: 900, global: 15, crossing: 60, seed: 210 };
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), workload));
    const first = pipeline.worker();
    await feed.next(0.2);
    await pipeline.caughtUp();
    await first.kill();
    const zombie = pipeline.worker({ failpoint: 'after-begin=stop' });
    await until('the zombie has begun', () => zombie.reached.length > 0);

    pipeline.worker();
    await feed.next(0.4);
    await pipeline.caughtUp();
    const source = pipeline.source.client();
    await until('the source has forgotten all of it', async () => (await source.xlen('binlog')) <= 1);

    zombie.signal('SIGCONT');
    // It meets the loss, or notices before that it was overtaken and takes its turn like anyone.
    await until('the zombie has looked again', () =>
      /another ingest has taken over|ingest begins/.test(zombie.output),
    );
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.queue.client().hgetall('{lanegate-test}:stops')).toEqual({});
    expect(zombie.running).toBe(true);
    expect(await pipeline.differences()).toEqual([]);
  },
);
