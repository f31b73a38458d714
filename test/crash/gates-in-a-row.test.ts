import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// Where crossing commands are dense, gate follows gate, and whoever executes one opens the next while its EXEC runs. Small
// rounds make many of them.

/** Without a flush, behind which it could not be seen that a gate was applied twice. */
const WORKLOAD = { commands: 5_000, global: 0, crossing: 500 };
const SMALL_ROUNDS = ['--round-bytes', '3kb'];
/** The gate before has executed, and what the fence behind its EXEC has read is in hand. */
const AHEAD = 'gate-ahead';

const PLACES: readonly { readonly failpoint: string; readonly always?: true }[] = [
  { failpoint: `${AHEAD}=kill@3`, always: true },
  { failpoint: 'gate-after-exec=kill@7', always: true },
  { failpoint: 'gate-after-exec-before-resume=kill@7' },
  { failpoint: 'gate-after-resume=kill@7' },
];

async function asOperator(pipeline: Pipeline, what: 'pause' | 'resume', lane = '1'): Promise<void> {
  expect(await lanegate(['lane', what, lane, ...pipeline.urls])).toMatchObject({ code: 0 });
}

describe('gates in a row', () => {
  for (const [at, { failpoint, always }] of PLACES.entries()) {
    (always ? test : everyCase)(`killed at ${failpoint}: nothing is lost or applied twice`, async () => {
      await using pipeline = await Pipeline.start({ lanes: 4, args: SMALL_ROUNDS });
      await pipeline.append(await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 600 + at }));
      const doomed = pipeline.worker({ failpoint });
      await doomed.exit();
      pipeline.worker();
      pipeline.worker();
      await pipeline.caughtUp();
      expect(await pipeline.differences()).toEqual([]);
    });
  }

  everyCase('workers killed again and again, the target once', async () => {
    const durable = ['--appendonly', 'yes', '--appendfsync', 'always'];
    await using pipeline = await Pipeline.start({ lanes: 4, args: SMALL_ROUNDS, targetArgs: durable });
    const feed = new Feed(
      pipeline,
      await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, commands: 8_000, global: 2, seed: 611 }),
    );
    pipeline.worker();
    for (let round = 0; round < 5; round++) {
      const next = pipeline.worker();
      await feed.while(0.18, async () => {
        await delay(200 + 130 * round);
        if (round === 2) {
          await pipeline.target.kill();
          await pipeline.target.restart();
        }
        await next.kill();
      });
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('behind one in which a command failed, none is executed until its lanes are resumed', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4, args: SMALL_ROUNDS });
    // A key in each lane; a gate of its own per entry.
    const turn = ['MULTI', 'APPEND b x', 'APPEND c x', 'APPEND d x', 'APPEND a x', 'EXEC'];
    const gate = Array.from({ length: 30 }, () => turn).flat();
    const [gates, failing] = [120, 60];
    const entries = Array.from({ length: gates }, (_, at) =>
      (at === failing ? [...gate, 'MULTI', 'LPUSH b x', 'APPEND c y', 'EXEC'] : gate).map((line) =>
        line.split(' '),
      ),
    );
    await pipeline.append(entries.map((commands) => ({ db: 0, timeMs: Date.now(), commands })));
    pipeline.worker();
    const stops = () => pipeline.queue.client().hlen('{lanegate-test}:stops');
    await until('its lanes have stopped', async () => (await stops()) === 2 || (await stops()) === 4);
    await delay(300);
    const target = pipeline.target.client();
    expect(await target.strlen('b')).toBe((failing + 1) * 30);
    expect(await target.get('c')).toMatch(/^x+y$/);
    await asOperator(pipeline, 'resume', 'all');
    await pipeline.caughtUp();
    expect(await target.strlen('b')).toBe(gates * 30);
  });

  everyCase('a lane that an operator pauses in their middle holds them, and nothing is lost', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4, args: SMALL_ROUNDS });
    const gates = async () => Number((await pipeline.counters()).gates ?? 0);
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 612 }));
    pipeline.worker();
    await feed.while(0.5, async () => {
      await until('some have executed', async () => (await gates()) > 5);
      await asOperator(pipeline, 'pause');
    });
    const held = await gates();
    await feed.rest();
    await delay(500);
    expect(await gates()).toBe(held);
    await asOperator(pipeline, 'resume');
    await pipeline.caughtUp();
    expect(await gates()).toBeGreaterThan(held + 10);
    expect(await pipeline.differences()).toEqual([]);
  });
});
