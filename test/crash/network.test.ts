import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { logWorkload } from '../support/workload.ts';

// Between the workers and the target stands a network. Whatever it does to a connection, an EXEC takes effect once.

const EXEC = '\r\nEXEC\r\n';

async function behindProxy(seed: number) {
  const proxies: FaultyProxy[] = [];
  const pipeline = await Pipeline.start({
    lanes: 4,
    targetUrl: async (target) => {
      const made = await FaultyProxy.start(target.port);
      proxies.push(made);
      return made.url;
    },
  });
  const workload = { commands: 1600, global: 8, crossing: 60, seed };
  const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), workload));
  const proxy = proxies[0] as FaultyProxy;
  return { pipeline, proxy, feed };
}

describe.concurrent('the network between a worker and the target', () => {
  test('cut when EXEC has run and its reply is on the way, or before EXEC arrives, again and again', async () => {
    const { pipeline, proxy, feed } = await behindProxy(701);
    await using _ = pipeline;
    await using __ = proxy;
    pipeline.worker();
    await feed.while(0.1, () =>
      until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 10),
    );
    const moments = ['after-execution', 'before-forward', 'after-execution', 'after-forward'] as const;
    for (let round = 0; round < 8; round++) {
      const cuts = proxy.cuts;
      proxy.cutAfter(EXEC, 'request', moments[round % moments.length] ?? 'after-execution');
      await feed.while(0.1, () => until('the connection is cut', () => proxy.cuts > cuts));
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('what was applied while nobody read the reply is counted as unverified, by a process that goes on as well', async () => {
    const { pipeline, proxy } = await behindProxy(704);
    await using _ = pipeline;
    await using __ = proxy;
    pipeline.worker();
    const log = (...commands: string[][]) => pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
    await log(['SET', 'k', 'first']);
    await pipeline.caughtUp();
    expect((await pipeline.counters()).unverified ?? 0).toBe(0);
    proxy.cutAfter('the second', 'request', 'after-execution');
    await log(['APPEND', 'k', ', the second']);
    await until('it is cut', () => proxy.cuts === 1);
    await log(['APPEND', 'k', ', the third']);
    await pipeline.caughtUp();
    expect(await pipeline.target.client().get('k')).toBe('first, the second, the third');
    expect((await pipeline.counters()).unverified).toBe(1);
  });

  everyCase('slow, and in packets of one byte', async () => {
    const { pipeline, proxy, feed } = await behindProxy(702);
    await using _ = pipeline;
    await using __ = proxy;
    pipeline.worker();
    pipeline.worker();
    proxy.sliceBytes(1);
    await feed.next(0.2);
    await pipeline.caughtUp();
    proxy.sliceBytes(0);
    proxy.latency(15);
    await feed.while(0.3, () => delay(300));
    proxy.cutAll();
    proxy.latency(0);
    proxy.sliceBytes(7);
    await feed.next(0.1);
    await pipeline.caughtUp();
    proxy.sliceBytes(0);
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  everyCase(
    'half-open for a while, then broken: what was swallowed is settled by the checkpoints',
    async () => {
      const { pipeline, proxy, feed } = await behindProxy(703);
      await using _ = pipeline;
      await using __ = proxy;
      pipeline.worker();
      pipeline.worker();
      await feed.while(0.2, () =>
        until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50),
      );
      for (let round = 0; round < 2; round++) {
        proxy.mute();
        await feed.while(0.3, () => delay(600));
        // As the timeout of a reply does it, sooner.
        proxy.cutAll();
        proxy.unmute();
        await feed.next(0.05);
        await pipeline.caughtUp();
      }
      await feed.rest();
      await pipeline.caughtUp();
      expect(await pipeline.differences()).toEqual([]);
    },
  );
});
