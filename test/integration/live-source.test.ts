import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { headOf, LivePipeline, offsetOf } from '../support/live-pipeline.ts';
import { Traffic } from '../support/live-traffic.ts';
import { FaultyProxy } from '../support/proxy.ts';
import type { RedisServer } from '../support/redis-server.ts';

// lanegate as a replica of a live server, seen from outside: real workers between real servers, compared with a real
// replica of the same source.

/** A pipeline that streams under traffic. `proxy` stands in front of the source. */
async function streaming(options: {
  readonly sourceArgs?: readonly string[];
  readonly seed: number;
  readonly args?: readonly string[];
}): Promise<{ pipeline: LivePipeline; proxy: FaultyProxy; traffic: Traffic }> {
  let proxy: FaultyProxy | undefined;
  const pipeline = await LivePipeline.start({
    ...options,
    args: ['--lanes', '4', ...(options.args ?? [])],
    sourceUrl: async ({ port }) => {
      proxy = await FaultyProxy.start(port);
      return proxy.url;
    },
  });
  const traffic = new Traffic(pipeline.source, { seed: options.seed });
  await traffic.more(300);
  pipeline.worker();
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  return { pipeline, proxy: proxy as FaultyProxy, traffic };
}

/** The link is gone until the proxy lets it in again. */
function cutOff(proxy: FaultyProxy): void {
  proxy.refuse(true);
  proxy.cutAll();
}

function logged(pipeline: LivePipeline, pattern: RegExp): boolean {
  return pipeline.workers.some(({ output }) => pattern.test(output));
}

async function attach(replica: RedisServer, source: RedisServer): Promise<void> {
  await replica.client().replicaof('127.0.0.1', source.port);
  await until('the replica is attached', async () =>
    (await replica.client().info('replication')).includes('master_link_status:up'),
  );
}

test('what many applications do at once is at the target as it is at a replica', async () => {
  await using pipeline = await LivePipeline.start();
  const traffic = new Traffic(pipeline.source, { seed: randomInt(1_000_000) });
  await traffic.more(2_000);
  pipeline.worker({ args: ['--lanes', '4'] });
  pipeline.worker();
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  await traffic.more(EVERY_CASE ? 6_000 : 3_000);
  await traffic.stop();
  await pipeline.equals();
  expect((await pipeline.counters()).divergences ?? 0).toBe(0);
});

test('a key that the source renews outlives the applier that was stopped for longer than its TTL', async () => {
  await using pipeline = await LivePipeline.start();
  const redis = pipeline.source.client();
  await redis.set('other', '1');
  pipeline.worker();
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  const renew = () => redis.pipeline().incr('counter').pexpire('counter', 1_000).exec();
  await renew();
  await pipeline.caughtUp();
  pipeline.workers[0]?.signal('SIGSTOP');
  for (let renewed = 0; renewed < 25; renewed++) {
    await renew();
    const left = await redis.pttl('counter');
    await until('it is renewed again', async () => (await redis.pttl('counter')) < left - 90);
  }
  pipeline.workers[0]?.signal('SIGCONT');
  await redis.rename('counter', 'renamed');
  await redis.persist('renamed');
  await pipeline.equals();
  const counted = await redis.get('renamed');
  expect(Number(counted)).toBeGreaterThan(20);
  expect(await pipeline.target.client().get('renamed')).toBe(counted);
});

everyCase('a link that is cut at random bytes goes on where it was', async () => {
  const { pipeline, proxy, traffic } = await streaming({ seed: 11 });
  await using _ = pipeline;
  await using __ = proxy;
  for (let cut = 0; cut < 20; cut++) {
    const from = offsetOf(await pipeline.read());
    proxy.sliceBytes(cut % 2 === 0 ? 1 + randomInt(200) : 0);
    await until('it goes on', async () => offsetOf(await pipeline.read()) > from + randomInt(4_000));
    proxy.cutAll();
  }
  proxy.sliceBytes(0);
  await traffic.stop();
  await pipeline.equals();
  expect(await pipeline.generation()).toBe(2);
});

test('a backlog that was overrun is followed by a full sync', async () => {
  const { pipeline, proxy, traffic } = await streaming({
    seed: 12,
    sourceArgs: ['--repl-backlog-size', '16kb'],
  });
  await using _ = pipeline;
  await using __ = proxy;
  pipeline.workers[0]?.signal('SIGSTOP');
  await pipeline.source.client().call('CLIENT', 'KILL', 'TYPE', 'replica');
  const from = offsetOf(await headOf(pipeline.source));
  await until(
    'the backlog is overrun',
    async () => offsetOf(await headOf(pipeline.source)) > from + 64 * 1024,
  );
  await pipeline.source.client().flushall();
  pipeline.workers[0]?.signal('SIGCONT');
  await pipeline.follows(3);
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  await traffic.more(500);
  await traffic.stop();
  await pipeline.equals();
  expect(logged(pipeline, /backlog does not reach/)).toBe(true);
});

test.each([
  ['its data and history', '3600 1', 2],
  ['nothing', '', 3],
])('a source that is restarted with %s is followed', async (_what, save, generation) => {
  const { pipeline, proxy, traffic } = await streaming({ seed: 13 });
  await using _ = pipeline;
  await using __ = proxy;
  await pipeline.source.client().config('SET', 'save', save);
  await pipeline.source.restart();
  await traffic.more(500);
  await pipeline.follows(generation);
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  await traffic.more(200);
  await traffic.stop();
  await pipeline.equals();
});

test('a source that is killed and comes back with its AOF is followed by a full sync', async () => {
  const { pipeline, proxy, traffic } = await streaming({ seed: 14, sourceArgs: ['--appendonly', 'yes'] });
  await using _ = pipeline;
  await using __ = proxy;
  await pipeline.source.kill();
  await pipeline.source.restart();
  await traffic.more(500);
  await pipeline.follows(3);
  await traffic.stop();
  await pipeline.equals();
});

everyCase('a source that becomes a replica of another server and a master again is followed', async () => {
  const { pipeline, proxy, traffic } = await streaming({ seed: 15 });
  await using _ = pipeline;
  await using __ = proxy;
  const master = await pipeline.server();
  await master.client().mset({ other: '1', data: '2' });
  await attach(pipeline.source, master);
  // Refused while it is a replica.
  await pipeline.equals();
  await pipeline.source.client().call('REPLICAOF', 'NO', 'ONE');
  await traffic.more(500);
  await traffic.stop();
  await pipeline.equals();
});

test('a failover to its replica keeps the place', async () => {
  const { pipeline, proxy, traffic } = await streaming({ seed: 16 });
  await using _ = pipeline;
  await using __ = proxy;
  const replica = await pipeline.server();
  await attach(replica, pipeline.source);
  await traffic.more(500);
  await traffic.stop();
  const head = await headOf(pipeline.source);
  await until('the replica has everything', async () => offsetOf(await headOf(replica)) >= offsetOf(head));
  cutOff(proxy);
  await pipeline.source.kill();
  await replica.client().call('REPLICAOF', 'NO', 'ONE');
  proxy.retarget(replica.port);
  proxy.refuse(false);
  const more = new Traffic(replica, { seed: 17 });
  await more.more(500);
  await more.stop();
  await pipeline.equals(replica);
  expect(await pipeline.generation()).toBe(2);
});

everyCase('a user who may replicate and nothing else is enough', async () => {
  await using pipeline = await LivePipeline.start({
    sourceUrl: async (source) => {
      await source.client().acl('SETUSER', 'link', 'on', '>secret', '+psync', '+replconf', '+ping');
      return `redis://link@127.0.0.1:${source.port}`;
    },
  });
  const traffic = new Traffic(pipeline.source, { seed: 18 });
  await traffic.more(300);
  pipeline.worker({ env: { LANEGATE_SOURCE_PASSWORD: 'secret' } });
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  await traffic.more(500);
  await traffic.stop();
  await pipeline.equals();
  expect(pipeline.logs()).not.toContain('secret');
  // Where the log ends it may not ask: nothing is called caught up then.
  const env = { LANEGATE_SOURCE_PASSWORD: 'secret' };
  const waited = await lanegate(['status', '--wait', '--timeout', '1', ...pipeline.urls], { env });
  expect([waited.code, waited.stderr]).toEqual([1, expect.stringContaining('+info')]);
});

test('what the target holds: refused, replaced, and kept only where no full sync comes', async () => {
  await using pipeline = await LivePipeline.start({ args: ['--lanes', '2'] });
  const target = pipeline.target.client();
  await pipeline.source.client().set('source', '1');
  await target.set('old', '1');

  const refused = pipeline.worker();
  expect(await refused.exit()).not.toBe(0);
  expect(refused.output).toContain('--target-data keep');
  const kept = pipeline.worker({ args: ['--target-data', 'keep'] });
  expect(await kept.exit()).not.toBe(0);
  expect(kept.output).toMatch(/begins with a full sync/);
  expect(kept.output).toMatch(/--from now/);
  const check = await lanegate(['check', ...pipeline.urls, '--target-data', 'keep']);
  expect(check.code).not.toBe(0);
  expect(check.stdout + check.stderr).toMatch(/begins with a full sync/);
  expect(await target.keys('*')).toEqual(['old']);

  const now = pipeline.worker({ args: ['--target-data', 'keep', '--from', 'now'] });
  await until('the stream is read', () => pipeline.isStreaming(), 40_000);
  await pipeline.source.client().set('behind', '1');
  await pipeline.caughtUp();
  expect((await target.keys('[^l]*')).sort()).toEqual(['behind', 'old']);

  // Its history ends: a full sync would remove what was to be kept.
  await pipeline.source.client().call('DEBUG', 'CHANGE-REPL-ID');
  await pipeline.source.client().call('CLIENT', 'KILL', 'TYPE', 'replica');
  await until('ingest stops', async () => (await pipeline.stops()).ingest);
  expect((await pipeline.stops()).ingest?.reason).toMatch(/--target-data keep forbids/);
  expect((await target.keys('[^l]*')).sort()).toEqual(['behind', 'old']);
  await now.kill();
});

everyCase('what the target holds is replaced where that is said', async () => {
  await using pipeline = await LivePipeline.start();
  await pipeline.source.client().set('source', '1');
  await pipeline.target.client().set('old', '1');
  pipeline.worker({ args: ['--target-data', 'replace'] });
  await pipeline.equals();
});

everyCase('a pipeline can be ended when it has caught up, waited for, begun anew, and removed', async () => {
  await using pipeline = await LivePipeline.start({ args: ['--lanes', '4'] });
  const traffic = new Traffic(pipeline.source, { seed: 20 });
  await traffic.more(500);
  await traffic.stop();
  const once = pipeline.worker({ args: ['--until', 'caught-up'] });
  expect(await once.exit(), once.output).toBe(0);
  await pipeline.equals();

  pipeline.worker();
  await pipeline.source.client().set('more', '1');
  const wait = await lanegate(['status', '--wait', ...pipeline.urls]);
  expect(wait.code, wait.stderr).toBe(0);
  expect(await pipeline.target.client().get('more')).toBe('1');
  expect(await pipeline.generation()).toBe(2);
  await Promise.all(pipeline.workers.map((worker) => worker.kill('SIGTERM')));

  const dataDir = ['--data-dir', join(pipeline.dir, 'machine')];
  const reset = await lanegate(['reset', '--yes', ...pipeline.urls, ...dataDir]);
  expect(reset.code, reset.stdout + reset.stderr).toBe(0);
  expect(await pipeline.target.client().keys('lanegate:*')).toEqual([]);
  expect(pipeline.spooled()).toEqual([]);
  pipeline.worker({ args: ['--target-data', 'replace'] });
  await pipeline.equals();
});

everyCase('values larger than what the target takes at once are there after a full sync', async () => {
  await using pipeline = await LivePipeline.start({ targetArgs: ['--proto-max-bulk-len', '1mb'] });
  const redis = pipeline.source.client();
  await redis.config('SET', 'rdbcompression', 'no');
  const value = (i: number) => Buffer.alloc(10_000, `${i},`);
  const batch = redis.pipeline();
  for (let i = 0; i < 300; i++) {
    batch
      .rpush('list', value(i))
      .hset('hash', `f${i}`, value(i))
      .sadd('set', value(i))
      .zadd('zset', i, value(i));
    batch.xadd('stream', `${i + 1}-0`, 'f', value(i));
  }
  batch.xgroup('CREATE', 'stream', 'group', '0');
  batch.xreadgroup('GROUP', 'group', 'one', 'COUNT', 20, 'STREAMS', 'stream', '>');
  await batch.exec();
  pipeline.worker();
  await pipeline.equals();
});
