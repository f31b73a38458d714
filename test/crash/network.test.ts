import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
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
    // Applied, and nobody read what the commands answered: that is known, not hidden.
    expect((await pipeline.counters()).unverified ?? 0).toBeGreaterThan(0);
  });

  test('slow, and in packets of one byte', async () => {
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

  test('half-open: one worker hears nothing any more, another takes over what it can, nothing runs twice', async () => {
    const { pipeline, proxy, feed } = await behindProxy(703);
    await using _ = pipeline;
    await using __ = proxy;
    pipeline.worker();
    await feed.while(0.2, () =>
      until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50),
    );
    proxy.mute();
    await feed.while(0.3, () => delay(500));
    const silent = pipeline.workers[0];
    // Nothing comes back on these connections for as long as they last; new ones work.
    const cut = until('the silence is noticed', () => silent?.output.includes('answers again'), 40_000);
    proxy.refuse(false);
    await delay(200);
    proxy.cutAll();
    proxy.unmute();
    await feed.rest();
    await pipeline.caughtUp(40_000);
    await cut.catch(() => {});
    expect(await pipeline.differences()).toEqual([]);
  });
});
