import { join } from 'node:path';
import { expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate, spawnLanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Live } from '../support/live.ts';
import type { RedisServer } from '../support/redis-server.ts';

const HOUR_MS = 3_600_000;
/** Writes the largest memory that the process has had behind everything else. */
const TELL_MEMORY =
  '--import=data:text/javascript,process.on(`exit`,()=>process.stderr.write(`maxRSS:`+process.resourceUsage().maxRSS))';

async function deadlines(server: RedisServer, db = 0): Promise<Map<string, number>> {
  const redis = server.client();
  await redis.select(db);
  const keys = (await redis.keys('*')).filter((key) => !key.startsWith('lanegate:'));
  const asked = redis.pipeline();
  for (const key of keys) asked.call('PEXPIRETIME', key);
  const replies = (await asked.exec()) ?? [];
  await redis.select(0);
  return new Map(keys.map((key, at): [string, number] => [key, Number(replies[at]?.[1])]).sort());
}

/** `count` keys with deadlines an hour and more away, in one call. */
async function fill(server: RedisServer, count: number, db = 0): Promise<void> {
  const redis = server.client();
  await redis.select(db);
  await redis.eval(
    `for i = 1, ${count} do redis.call('SET', 'v' .. i, i, 'PXAT', ${Date.now() + HOUR_MS} + i) end`,
    0,
  );
  await redis.select(0);
}

async function writable(server: RedisServer): Promise<boolean> {
  const redis = server.client().duplicate({ commandTimeout: 1_000, maxRetriesPerRequest: 0 });
  redis.on('error', () => {});
  try {
    return (await redis.set('writable', 'yes')) === 'OK';
  } catch {
    return false;
  } finally {
    redis.disconnect();
  }
}

test('the true deadlines are back in every database, and keys without one are left alone', async () => {
  await using live = await Live.start();
  await fill(live.source, 300);
  await fill(live.source, 200, 3);
  await live.source.client().mset('plain', '1', 'another', '2');
  live.worker();
  await live.caughtUp();
  await fill(live.source, 100, 5);
  await live.source.client().set('later', '1', 'EX', 5_000);
  await live.caughtUp();
  for (const db of [0, 3, 5]) {
    const [ours, theirs] = [await deadlines(live.source, db), await deadlines(live.target, db)];
    expect([...theirs.keys()]).toEqual([...ours.keys()]);
    for (const [key, at] of ours) expect(theirs.get(key), key).toBe(at === -1 ? -1 : at + HOUR_MS);
  }
  const { code, report, stderr } = await live.finished(['--verify']);
  expect([code, report.open], stderr).toEqual([0, []]);
  expect(report.deadlines).toMatchObject({ scanned: 603, volatile: 601, restored: 601, exact: true });
  expect(report.verify).toMatchObject({ compared: 603 });
  for (const db of [0, 3, 5])
    expect(await deadlines(live.target, db)).toEqual(await deadlines(live.source, db));
  const again = await live.finished();
  expect([again.code, again.report.deadlines]).toEqual([
    0,
    expect.objectContaining({ restored: 0, exact: true }),
  ]);
});

test('killed in the middle and repeated it ends with the same deadlines', async () => {
  await using live = await Live.start();
  await fill(live.source, 5_000);
  live.worker();
  await live.caughtUp();
  const true_ = await deadlines(live.source);
  await using doomed = live.finish([], { LANEGATE_FAILPOINT: 'finish-after-batch=kill@3' });
  expect((await doomed.exit()).signal).toBe('SIGKILL');
  const half = [...(await deadlines(live.target))].filter(([key, at]) => at === true_.get(key)).length;
  expect(half).toBeGreaterThan(500);
  expect(half).toBeLessThan(5_000);
  const { code, report, stderr } = await live.finished();
  expect(code, stderr).toBe(0);
  expect(report.deadlines?.restored).toBe(5_000 - half);
  expect(await deadlines(live.target)).toEqual(true_);
});

test('with --freeze writes wait until it has ended, and are applied then', async () => {
  await using live = await Live.start();
  await fill(live.source, 2_000);
  const worker = live.worker();
  await live.caughtUp();
  worker.signal('SIGSTOP');
  await live.source.client().set('behind', '1', 'EX', 5_000);
  await using finish = live.finish(['--freeze', '--json']);
  await finish.waitForLine(/waiting until all of it is applied/);
  const waiting = live.source.client().duplicate();
  waiting.on('error', () => {});
  const written = waiting.set('waited', '1', 'EX', 9_000);
  await until('a writer waits at the source', async () =>
    /^blocked_clients:1/m.test(await live.source.client().info('clients')),
  );
  worker.signal('SIGCONT');
  const { code, stdout, stderr } = await finish.exit();
  expect(code, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    writes: 'released',
    deadlines: { volatile: 2_001, exact: true },
  });
  expect(await written).toBe('OK');
  waiting.disconnect();
  await live.caughtUp();
  expect(await live.target.client().get('waited')).toBe('1');
});

test('a Ctrl-C lets the source be written again, and says what is not done', async () => {
  await using live = await Live.start();
  await fill(live.source, 100);
  const worker = live.worker();
  await live.caughtUp();
  worker.signal('SIGSTOP');
  await live.source.client().set('behind', '1');
  await using finish = live.finish(['--freeze']);
  await finish.waitForLine(/waiting until all of it is applied/);
  expect(await writable(live.source)).toBe(false);
  const { code, stdout } = await finish.kill('SIGINT');
  expect(code).toBe(1);
  expect(stdout).toContain('deadlines: not put back');
  expect(stdout).toContain('interrupted');
  expect(await writable(live.source)).toBe(true);
});

everyCase('a SIGKILL leaves a pause that ends by itself', async () => {
  await using live = await Live.start();
  const worker = live.worker();
  await live.caughtUp();
  worker.signal('SIGSTOP');
  await live.source.client().set('behind', '1');
  await using finish = live.finish(['--freeze']);
  await finish.waitForLine(/waiting until all of it is applied/);
  await finish.kill('SIGKILL');
  expect(await writable(live.source)).toBe(false);
  await until('the source can be written', () => writable(live.source), 30_000);
});

everyCase('--freeze names the right that is missing', async () => {
  await using live = await Live.start();
  live.worker();
  await live.caughtUp();
  await live.source
    .client()
    .call('ACL', 'SETUSER', 'looker', 'on', 'nopass', '~*', '+@read', '+info', '+select');
  const user = ['--source-username', 'looker'];
  await using finish = live.finish(['--freeze', ...user], { LANEGATE_SOURCE_PASSWORD: 'any' });
  const { code, stderr } = await finish.exit();
  expect(code).toBe(1);
  expect(stderr).toContain('+client|pause +client|unpause');
  expect(await writable(live.source)).toBe(true);
  // The same rights are enough without it.
  await using quiet = live.finish(user, { LANEGATE_SOURCE_PASSWORD: 'any' });
  const end = await quiet.exit();
  expect(end.code, end.stderr).toBe(0);
});

everyCase('it waits for writers to end, and not for PING or keys that expire', async () => {
  await using live = await Live.start();
  live.worker();
  await live.caughtUp();
  let writing = true;
  const writes = (async () => {
    while (writing) await live.source.client().incr('n');
  })();
  const busy = await live.finished(['--timeout', '5']);
  writing = false;
  await writes;
  expect(busy.code).toBe(1);
  expect(busy.stderr).toContain('still written to');
  const soon = live.source.client().pipeline();
  for (let i = 0; i < 40; i++) soon.set(`soon:${i}`, '1', 'PX', 1_500 + i * 200);
  await soon.exec();
  const { code, report, stderr } = await live.finished();
  expect([code, report.targetOnly?.count], stderr).toEqual([0, 0]);
});

everyCase('keys whose time came while the source was frozen are no difference', async () => {
  await using live = await Live.start();
  await fill(live.source, 200);
  const worker = live.worker();
  await live.caughtUp();
  await live.source.client().set('brief', '1', 'PX', 3_000);
  await live.caughtUp();
  worker.signal('SIGSTOP');
  await live.source.client().set('behind', '1');
  await using finish = live.finish(['--freeze', '--verify', '--json']);
  await finish.waitForLine(/waiting until all of it is applied/);
  await until('its time has come', async () => Number(await live.source.client().exists('brief')) === 0);
  expect(await live.target.client().exists('brief')).toBe(1);
  worker.signal('SIGCONT');
  const { code, stdout, stderr } = await finish.exit();
  expect(code, stdout + stderr).toBe(0);
  expect(await live.target.client().exists('brief')).toBe(0);
});

everyCase('a key that only the target has is reported, and kept', async () => {
  await using live = await Live.start();
  await live.source.client().set('a', '1');
  live.worker();
  await live.caughtUp();
  await live.target.client().set('stranger', '1', 'EX', 100);
  const { code, report } = await live.finished();
  expect(code).toBe(1);
  expect(report.targetOnly).toEqual({ count: 1, first: [{ db: 0, key: 'stranger' }], notLookedAt: 0 });
  expect(await live.target.client().get('stranger')).toBe('1');
});

everyCase('records are looked at again, and the keys that they name compared', async () => {
  await using live = await Live.start();
  await live.source.client().rpush('list', 'a');
  await live.source.client().set('text', '1');
  const worker = live.worker();
  await live.caughtUp();
  // A stranger makes the target refuse what the source accepts.
  await live.target.client().set('list', 'wrong');
  await live.source.client().rpush('list', 'b');
  const status = async () => (await live.queue.client().xlen('{lanegate-live}:divergences')) === 1;
  await until('the divergence is recorded', status);
  const stopped = await live.finished();
  expect([stopped.code, stopped.stderr]).toEqual([1, expect.stringContaining('WRONGTYPE')]);
  await worker.kill('SIGTERM');
  await live.queue.client().del('{lanegate-live}:stops');
  live.worker();
  const lanes = await live.queue.client().keys('{lanegate-live}:lane-*:meta');
  for (const lane of lanes) await live.queue.client().hdel(lane, 'paused');
  await live.caughtUp();
  const differs = await live.finished();
  expect([differs.code, differs.report.records]).toEqual([
    1,
    expect.objectContaining({ records: 1, unnamed: 0, keys: 1, different: 1 }),
  ]);
  await live.target.client().del('list');
  await live.target.client().rpush('list', 'a', 'b');
  const { code, report, stderr } = await live.finished();
  expect([code, report.records], stderr).toEqual([0, expect.objectContaining({ keys: 1, different: 0 })]);
});

everyCase('--remove-keys waits until no worker runs', async () => {
  await using live = await Live.start();
  await fill(live.source, 10);
  const worker = live.worker();
  await live.caughtUp();
  const alive = await live.finished(['--remove-keys', '--yes', '--timeout', '5']);
  expect([alive.code, alive.report.open[0]]).toEqual([
    1,
    expect.stringContaining(`kill ${worker.process.pid}`),
  ]);
  expect(await live.target.client().exists('lanegate:live:identity')).toBe(1);
  await using finish = live.finish(['--remove-keys', '--yes']);
  await finish.waitForLine(/stop the workers now/);
  await worker.kill('SIGTERM');
  const { code, stdout, stderr } = await finish.exit();
  expect(code, stderr).toBe(0);
  expect(stdout).toContain('are removed from the target');
  expect(await live.target.client().keys('lanegate:*')).toEqual([]);
  expect(await live.target.client().dbsize()).toBe(10);
});

test('the embedded queue of a run serves as well, and is not missed when the run ends', async () => {
  await using live = await Live.start();
  await fill(live.source, 10);
  const ends = ['--name', live.name, '--source', live.source.url, '--target', live.target.url];
  const urls = [...ends, '--data-dir', join(live.dir, 'run')];
  await using run = spawnLanegate(['run', ...urls, '--board-port', '0'], { cwd: live.dir });
  await live.caughtUp();
  const args = ['finish', ...urls, '--freeze', '--verify', '--remove-keys', '--yes'];
  await using finish = spawnLanegate(args, { cwd: live.dir });
  await finish.waitForLine(/stop the workers now/);
  run.signal('SIGTERM');
  const { code, stderr } = await finish.exit();
  expect(code, stderr).toBe(0);
  expect(await deadlines(live.target)).toEqual(await deadlines(live.source));
  expect(await live.target.client().keys('lanegate:*')).toEqual([]);
});

everyCase(
  'fifty thousand keys need no more memory than a few',
  async () => {
    await using live = await Live.start();
    await fill(live.source, 1_000);
    live.worker();
    await live.caughtUp();
    const run = async () => {
      await using finish = live.finish([], { NODE_OPTIONS: TELL_MEMORY });
      const { code, stdout, stderr } = await finish.exit();
      expect(code, stderr).toBe(0);
      return { stdout, bytes: Number(/maxRSS:(\d+)/.exec(stderr)?.[1]) * 1024 };
    };
    const few = await run();
    await fill(live.source, 50_000);
    await live.caughtUp();
    const many = await run();
    expect(many.stdout).toContain('deadlines: 50,000 of 50,000 keys have one, 50,000 were put back');
    expect(many.bytes - few.bytes).toBeLessThan(40 * 1024 ** 2);
    expect(await deadlines(live.target)).toEqual(await deadlines(live.source));
  },
  120_000,
);

everyCase('it needs a live source, and a pipeline that has begun', async () => {
  await using live = await Live.start();
  await using early = live.finish();
  const { code, stderr } = await early.exit();
  expect([code, stderr]).toEqual([1, expect.stringContaining('knows nothing of pipeline "live"')]);
  const stream = ['--source', 'redis-stream://h?key=binlog', '--target', 'redis://h', '--queue', 'redis://h'];
  const wrong = await lanegate(['finish', ...stream]);
  expect([wrong.code, wrong.stderr]).toEqual([2, expect.stringContaining('a live server')]);
});
