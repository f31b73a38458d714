import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { PikaScene, pikaLoad } from '../support/pika-scene.ts';

// What a Pika's log gets wrong is put right from its data, while clients write to the same keys what shows it when it is
// lost or done twice.

const FROM_BEGINNING = { args: ['--from', 'beginning'] };

function every(ms: number, work: () => Promise<void>): { stop(): Promise<void> } {
  let isOver = false;
  const running = (async () => {
    while (!isOver) {
      await work();
      await delay(ms);
    }
  })();
  running.catch(() => {});
  return {
    async stop() {
      isOver = true;
      await running;
    },
  };
}

/** One FLUSHDB, behind which clients write before it is logged. */
async function lateFlush(scene: PikaScene, writes: readonly string[][], release: () => void): Promise<void> {
  const flushing = scene.client().call('FLUSHDB');
  const client = scene.client();
  await until('it is flushed', async () => (await client.call('GET', 'gone')) === null);
  for (const [name = '', ...args] of writes) await client.call(name, ...args);
  release();
  await flushing;
}

test.each([
  ['on', ['a', 'ab', 'b', 'c', 'hash', 'list']],
  ['off', ['c', 'list']],
])(
  'with --repair %s, what a late FLUSHDB hides',
  async (repair, kept) => {
    let release = () => {};
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const args = [...FROM_BEGINNING.args, '--repair', repair];
    await using scene = await PikaScene.start({ beforeFlushLog: () => gate }, { args });
    const { pipeline, data } = scene;
    pipeline.worker();
    const client = scene.client();
    for (const key of ['gone', 'a', 'lost']) await client.call('SET', key, 'before');
    await scene.caughtUp();
    const writes = [
      ['SET', 'a', '1'],
      ['PSETEX', 'ab', '900000', 'v'],
      ['RPUSH', 'list', '1', '2'],
      ['HINCRBY', 'hash', 'n', '7'],
      ['SET', 'b', '1'],
      ['APPEND', 'b', '2'],
    ];
    await lateFlush(scene, writes, release);
    await client.call('SET', 'c', '1');
    await client.call('RPUSH', 'list', '3');
    await scene.caughtUp();
    const target = pipeline.target.client();
    const keys = (await target.keys('*')).filter((key) => !key.startsWith('lanegate:'));
    expect(keys.sort()).toEqual(kept);
    const differences = await compareServers(data.url, pipeline.target.url);
    if (repair === 'off') expect(differences).not.toEqual([]);
    else expect(differences).toEqual([]);
    await until('it is counted', async () => {
      const { repaired = 0 } = await pipeline.counters();
      return repaired === (repair === 'on' ? 5 : 0) || undefined;
    });
  },
  60_000,
);

everyCase(
  'all that a log gets wrong, under load, with kills in each step of a repair and the journal lost',
  async () => {
    const options = { losesAppend: true, typeOfStreams: 'none', beforeFlushLog: () => delay(20) } as const;
    await using scene = await PikaScene.start(options, FROM_BEGINNING);
    const { pipeline, data } = scene;
    const client = scene.client();
    const also = [
      ['DEL', 'brief:3'],
      ['APPEND', 'text:4', 'x'],
      ['SET', 'count:1', '5'],
    ];
    const traffic = pikaLoad(scene, { keys: 12, also, pauseMs: 8 });
    // 128 KiB each.
    const merging = every(200, async () => {
      for (const key of ['merged', 'brief:3']) await client.call('PFMERGE', key, 'a', 'b');
    });
    const step = async (failpoint: string) => {
      const doomed = pipeline.worker({ failpoint });
      await until(`${failpoint} is reached`, () => doomed.reached.length > 0, 60_000).catch((cause) => {
        throw new Error(pipeline.logs(), { cause });
      });
      await doomed.exit();
    };
    for (const [i, name] of ['read', 'announced', 'written', 'written'].entries()) {
      await step(`repair-${name}=kill@${1 + (i % 2)}`);
      // What is applied, the target alone knows then.
      if (i % 2 === 1) await pipeline.queue.client().flushall();
    }
    pipeline.worker();
    const at = traffic.count();
    await until('the load goes on', () => traffic.count() > at + 300);
    await merging.stop();
    await traffic.stop();
    await client.call('PFMERGE', 'merged', 'a');
    await scene.caughtUp();
    expect(pipeline.logs()).toContain('the key merged is left out');
    expect(await pipeline.target.client().exists('merged')).toBe(0);
    for (const key of ['merged', 'brief:3']) await client.call('DEL', key);
    await scene.caughtUp();
    expect(await compareServers(data.url, pipeline.target.url)).toEqual([]);
    expect(scene.master.complaints).toEqual([]);
    // The journal has the counters: they are of what came since it was lost.
    await client.call('APPEND', 'missing', 'x');
    await scene.caughtUp();
    await until('it is counted', async () => {
      const { repaired = 0, leftOut = 0 } = await pipeline.counters();
      return repaired > 0 && leftOut > 0;
    });
    await client.call('PFMERGE', 'counted', 'a');
    const errors = async () =>
      (await lanegate(['errors', '--name', 'test', ...pipeline.urls.slice(-4)])).stdout;
    await until('its name is found', async () => /db0, key counted: .*PFMERGE/.test(await errors()));
    expect((await pipeline.counters()).divergences ?? 0).toBe(0);
    expect(await pipeline.target.client().get('missing')).toBe('x');
  },
  170_000,
);
