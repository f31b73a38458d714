import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// What passes by itself is waited for in place: nothing is stopped, nothing skipped, and status says since when and why.

const WORKLOAD = { commands: 1600, global: 8, crossing: 60 };
const TROUBLE_MS = 1_500;

async function loaded(seed: number, targetArgs: readonly string[] = []) {
  const pipeline = await Pipeline.start({ lanes: 4, targetArgs });
  const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed }));
  pipeline.worker();
  pipeline.worker();
  await feed.while(0.3, () =>
    until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50),
  );
  return { pipeline, feed };
}

async function waiting(pipeline: Pipeline): Promise<Map<string, string>> {
  const all = Object.entries(await pipeline.queue.client().hgetall('{lanegate-test}:waiting'));
  return new Map(all.map(([place, text]) => [place, (JSON.parse(text) as { code: string }).code]));
}

async function waitsFor(pipeline: Pipeline, code: string): Promise<void> {
  await until(`somebody waits because of ${code}`, async () =>
    [...(await waiting(pipeline)).values()].includes(code),
  );
}

/** Everything is applied, nobody waits any more, and no place was stopped. */
async function recovers(pipeline: Pipeline, feed: Feed): Promise<void> {
  await feed.rest();
  await pipeline.caughtUp();
  await until('nobody waits', async () => (await waiting(pipeline)).size === 0);
  expect(await pipeline.queue.client().hlen('{lanegate-test}:stops')).toBe(0);
  expect(await pipeline.differences()).toEqual([]);
}

async function refusedCalls(pipeline: Pipeline): Promise<number> {
  const stats = await pipeline.target.client().info('errorstats');
  return [...stats.matchAll(/^errorstat_(?:NOPERM|NOAUTH|WRONGPASS):count=(\d+)/gm)].reduce(
    (sum, [, count]) => sum + Number(count),
    0,
  );
}

describe.concurrent('the target refuses for a while', () => {
  everyCase('OOM, then READONLY', async () => {
    const { pipeline, feed } = await loaded(601);
    await using _ = pipeline;
    const target = pipeline.target.client();
    await target.config('SET', 'maxmemory', '1');
    await feed.while(0.2, () => Promise.all([waitsFor(pipeline, 'OOM'), delay(TROUBLE_MS)]));
    await target.config('SET', 'maxmemory', '0');
    await feed.next(0.1);
    await pipeline.caughtUp();

    // A replica of nobody: it keeps its data and refuses writes.
    await target.replicaof('127.0.0.1', 1);
    await feed.while(0.2, () => Promise.all([waitsFor(pipeline, 'READONLY'), delay(TROUBLE_MS)]));
    await target.replicaof('NO', 'ONE');
    await recovers(pipeline, feed);
  });

  everyCase('MASTERDOWN: a replica that has lost its primary and may not serve what it has', async () => {
    const { pipeline, feed } = await loaded(605);
    await using _ = pipeline;
    const target = pipeline.target.client();
    await target.config('SET', 'replica-serve-stale-data', 'no');
    await target.replicaof('127.0.0.1', 1);
    await feed.while(0.2, () => waitsFor(pipeline, 'MASTERDOWN'));
    await target.replicaof('NO', 'ONE');
    await recovers(pipeline, feed);
  });

  test('killed, and LOADING for a while at its restart', async () => {
    const { pipeline, feed } = await loaded(602, ['--appendonly', 'yes', '--enable-debug-command', 'yes']);
    await using _ = pipeline;
    await pipeline.target.kill();
    await feed.while(0.2, () => Promise.all([waitsFor(pipeline, 'CONNECTION'), delay(500)]));
    await pipeline.target.restart();
    await feed.next(0.1);
    await pipeline.caughtUp();

    // Loads again from its disk, key by key, and answers LOADING meanwhile.
    const target = pipeline.target.client();
    const fill = target.pipeline().select(9);
    for (let at = 0; at < 100; at++) fill.set(`filler:${at}`, 'x'.repeat(2_000));
    await fill.select(0).exec();
    await target.config('SET', 'key-load-delay', '10000');
    await target.config('SET', 'loading-process-events-interval-bytes', '1024');
    const reloaded = target.call('DEBUG', 'RELOAD');
    await feed.while(0.1, () => waitsFor(pipeline, 'LOADING'));
    expect(await reloaded).toBe('OK');
    await target.config('SET', 'key-load-delay', '0');
    await target.pipeline().select(9).flushdb().select(0).exec();
    await recovers(pipeline, feed);
  });

  everyCase(
    'the password changed while the old one is in use: WRONGPASS, waits, does not hammer',
    async () => {
      await using pipeline = await Pipeline.start({ lanes: 4 });
      const target = pipeline.target.client();
      const path = join(pipeline.dir, 'password');
      writeFileSync(path, 'first\n');
      await target.config('SET', 'requirepass', 'first');
      const feed = new Feed(
        pipeline,
        await logWorkload(pipeline.oracle.client(), { ...WORKLOAD, seed: 604 }),
      );
      const args = ['--target-password-file', path];
      pipeline.worker({ args });
      pipeline.worker({ args });
      await feed.next(0.3);
      await pipeline.caughtUp();
      await target.config('SET', 'requirepass', 'second');
      await target.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
      await feed.while(0.2, () => waitsFor(pipeline, 'WRONGPASS'));
      const early = await refusedCalls(pipeline);
      await delay(TROUBLE_MS);
      expect((await refusedCalls(pipeline)) - early).toBeLessThan((30 * TROUBLE_MS) / 1_000);
      expect(pipeline.workers.every(({ running }) => running)).toBe(true);
      await target.config('SET', 'requirepass', 'first');
      await feed.rest();
      await pipeline.caughtUp();
      await until('nobody waits', async () => (await waiting(pipeline)).size === 0);
      expect(pipeline.logs()).not.toMatch(/first|second/);
      await Promise.all(pipeline.workers.map((worker) => worker.kill()));
      await target.config('SET', 'requirepass', '');
      expect(await pipeline.differences()).toEqual([]);
    },
  );

  everyCase('a right taken away, then the password changed: waits, does not hammer', async () => {
    const { pipeline, feed } = await loaded(603);
    await using _ = pipeline;
    const target = pipeline.target.client();
    await target.call('ACL', 'SETUSER', 'admin', 'on', '>admin', '~*', '&*', '+@all');
    await target.auth('admin', 'admin');
    await target.call('ACL', 'SETUSER', 'default', '-set', '-rpush');
    await feed.while(0.2, () => waitsFor(pipeline, 'NOPERM'));
    await delay(500);
    const before = await refusedCalls(pipeline);
    await delay(TROUBLE_MS);
    const perSecond = ((await refusedCalls(pipeline)) - before) / (TROUBLE_MS / 1_000);
    expect(perSecond).toBeLessThan(50);
    await target.call('ACL', 'SETUSER', 'default', '+@all');
    await feed.next(0.1);
    await pipeline.caughtUp();

    await target.call('ACL', 'SETUSER', 'default', 'resetpass', '>another');
    await target.call('CLIENT', 'KILL', 'USER', 'default');
    await feed.while(0.2, () => waitsFor(pipeline, 'NOAUTH'));
    const early = await refusedCalls(pipeline);
    await delay(TROUBLE_MS);
    const later = ((await refusedCalls(pipeline)) - early) / (TROUBLE_MS / 1_000);
    expect(later).toBeLessThan(30);
    await target.call('ACL', 'SETUSER', 'default', 'nopass');
    await recovers(pipeline, feed);
  });
});
