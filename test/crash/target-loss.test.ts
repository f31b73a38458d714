import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { aofBytes, Feed, loseAofBehind, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';
import { logWorkload } from '../support/workload.ts';

// Data and checkpoints are one unit at the target: they go back together, and the journal brings them forward again.

const WORKLOAD = { commands: 2000, global: 8, crossing: 60 };
const DURABLE = ['--appendonly', 'yes'];

async function applied(pipeline: Pipeline): Promise<number> {
  return (await pipeline.counters()).applied ?? 0;
}

async function stopReason(pipeline: Pipeline, place: string): Promise<string | undefined> {
  const text = await pipeline.queue.client().hget('{lanegate-test}:stops', place);
  return text === null ? undefined : (JSON.parse(text) as { reason: string }).reason;
}

describe('the target goes back in time', () => {
  test('killed under load and restarted with a cut AOF, and again while idle: caught up from the journal', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4, targetArgs: DURABLE });
    const { target } = pipeline;
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 501 }));
    pipeline.worker();
    pipeline.worker();
    await feed.while(0.3, () => until('work is done', async () => (await applied(pipeline)) > 50));
    for (let round = 0; round < 2; round++) {
      await feed.while(0.3, async () => {
        const bytes = await aofBytes(target);
        await until('much is written', async () => (await aofBytes(target)) > bytes + 3_000);
        await target.kill();
        const lost = await loseAofBehind(target, bytes, { torn: false });
        expect(lost).toBeGreaterThan(0);
        await delay(100);
        await target.restart();
      });
    }
    const bytes = await aofBytes(target);
    await feed.rest();
    await pipeline.caughtUp();

    // Nothing comes from the source any more, and no lane's job is left to notice: the watchdog must see it.
    const state = '{lanegate-test}:journal';
    await until('the lanes sleep', async () =>
      (await pipeline.queue.client().hkeys(state)).every((field) => !field.startsWith('awake:')),
    );
    await target.kill();
    await loseAofBehind(target, bytes, { torn: false });
    await target.restart();
    await until('the watchdog says so', () =>
      pipeline.workers.some((worker) => worker.output.includes('went back in time')),
    ).catch(async (cause) => {
      const journal = JSON.stringify(await pipeline.queue.client().hgetall(state));
      throw new Error(`${pipeline.logs()}\n${journal}`, { cause });
    });
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('while no worker runs: the next one says so, though it never saw what is lost', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4, targetArgs: DURABLE });
    const { target } = pipeline;
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 505 }));
    const first = pipeline.worker();
    await feed.next(0.5);
    await pipeline.caughtUp();
    const bytes = await aofBytes(target);
    await feed.rest();
    await pipeline.caughtUp();
    await first.kill();
    await target.kill();
    await loseAofBehind(target, bytes, { torn: false });
    await target.restart();
    const next = pipeline.worker();
    await until('its watchdog says so', () => next.output.includes('went back in time'));
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('replaced by a replica that lags behind: caught up from the journal', async () => {
    const proxies: FaultyProxy[] = [];
    await using pipeline = await Pipeline.start({
      lanes: 4,
      targetUrl: async (target) => {
        const proxy = await FaultyProxy.start(target.port);
        proxies.push(proxy);
        return proxy.url;
      },
    });
    await using proxy = proxies[0] as FaultyProxy;
    await using replica = await RedisServer.start();
    await replica.client().replicaof('127.0.0.1', pipeline.target.port);
    await until('the replica follows', async () =>
      (await replica.client().info('replication')).includes('master_link_status:up'),
    );
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 502 }));
    pipeline.worker();
    pipeline.worker();
    await feed.while(0.4, () => until('work is done', async () => (await applied(pipeline)) > 100));
    await until(
      'the replica has the identity',
      async () => (await replica.client().exists('lanegate:test:identity')) === 1,
    );
    replica.stop();
    const before = await applied(pipeline);
    await feed.while(0.3, () =>
      until('the target is ahead of its replica', async () => (await applied(pipeline)) > before + 100),
    );
    await feed.while(0.2, async () => {
      await pipeline.target.kill();
      proxy.retarget(replica.port);
      replica.cont();
      await delay(200);
      proxy.cutAll();
      // For a moment it still refuses writes.
      await delay(300);
      await replica.client().call('REPLICAOF', 'NO', 'ONE');
    });
    await feed.rest();
    await pipeline.caughtUp(30_000, replica);
    expect(await pipeline.differences(replica)).toEqual([]);
  });
});

describe('a target without the control keys is not taken for a new one', () => {
  test('flushed by somebody else under load: stops with an explanation and starts nothing from 0', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const feed = new Feed(
      pipeline,
      await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, global: 0, seed: 503 }),
    );
    const first = pipeline.worker();
    await feed.while(0.3, () => until('work is done', async () => (await applied(pipeline)) > 50));
    await feed.while(0.3, async () => {
      await pipeline.target.client().flushall();
      await until('ingest has stopped', async () => await stopReason(pipeline, 'ingest'));
    });
    expect(await stopReason(pipeline, 'ingest')).toMatch(/the target was emptied/);
    // A restart, also of everything, does not make it a first start; nor does an emptied queue.
    await first.kill();
    await pipeline.queue.client().flushall();
    const second = pipeline.worker();
    expect(await second.exit()).toBe(1);
    expect(second.output).toMatch(/consumer group .* the target was emptied/);
    expect(await pipeline.target.client().exists('lanegate:test:identity')).toBe(0);
    expect(await pipeline.target.client().dbsize()).toBe(0);
  });

  test('a checkpoint that is missing stops its lane, and the others go on', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    const feed = new Feed(
      pipeline,
      await logWorkload(pipeline.oracle.client(), {
        ...WORKLOAD,
        global: 0,
        crossing: 0,
        transactions: 0,
        seed: 504,
      }),
    );
    pipeline.worker();
    await feed.next(0.4);
    await pipeline.caughtUp();
    const checkpoint = 'lanegate:test:ck:2';
    const value = String(await pipeline.target.client().get(checkpoint));
    await pipeline.target.client().del(checkpoint);
    await feed.next(0.3);
    const reason = await until(
      'something stops and says why',
      async () => (await stopReason(pipeline, 'lane:2')) ?? (await stopReason(pipeline, 'ingest')),
    );
    expect(reason).toMatch(/no checkpoint for lane 2|control keys/);
    expect(await pipeline.target.client().get(checkpoint)).toBeNull();
    await pipeline.target.client().set(checkpoint, value);
    // Whoever saw it missing has written its stop by then.
    await delay(500);
    await pipeline.queue.client().del('{lanegate-test}:stops');
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });
});
