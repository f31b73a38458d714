import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Queue } from 'bullmq';
import { describe, expect, test } from 'vitest';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { encodeCommands } from '../../src/binlog/resp.ts';
import { everyCase } from '../support/cases.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { type Command, logWorkload } from '../support/workload.ts';

// Scenarios of RELIABILITY.md that have no better place.

const LANES = 4;
const PREFIX = '{lanegate-test}';

async function log(pipeline: Pipeline, db: number, ...commands: Command[]): Promise<void> {
  await pipeline.append([{ db, timeMs: Date.now(), commands }]);
}

function keyIn(lane: number, name: string): string {
  for (let at = 0; ; at++) {
    const key = `${name}:${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

async function workload(pipeline: Pipeline, seed: number): Promise<Feed> {
  const options = { seed, commands: 900, global: 8, crossing: 60 };
  return new Feed(pipeline, await logWorkload(pipeline.oracle.client(), options));
}

async function appliedSome(pipeline: Pipeline): Promise<void> {
  await until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50);
}

async function places(pipeline: Pipeline, what: 'waiting' | 'stops'): Promise<Record<string, string>> {
  return await pipeline.queue.client().hgetall(`${PREFIX}:${what}`);
}

describe.concurrent('scenarios', () => {
  test('4: the reply that ends a job is lost: its lane goes on, and nothing is applied twice', async () => {
    let proxy: FaultyProxy | undefined;
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      queueUrl: async (queue) => {
        proxy = await FaultyProxy.start(queue.port);
        return proxy.url;
      },
    });
    await using made = proxy as unknown as FaultyProxy;
    const feed = await workload(pipeline, 401);
    pipeline.worker();
    await feed.while(0.2, () => appliedSome(pipeline));
    for (let round = 0; round < 3; round++) {
      const { cuts } = made;
      // What a lane's job leaves behind for people travels with the step that ends it.
      made.cutAfter('{"ended":"', 'request', 'after-execution');
      await feed.while(0.2, () => until('the reply is lost', () => made.cuts > cuts));
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect(await places(pipeline, 'stops')).toEqual({});
  });

  everyCase('18: a script keeps the target busy: the lanes wait, and go on when it is killed', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: ['--busy-reply-threshold', '50'],
    });
    const feed = await workload(pipeline, 1801);
    pipeline.worker();
    await feed.while(0.3, () => appliedSome(pipeline));
    const target = pipeline.target.client();
    // Connected before the script runs: a server that is busy refuses what a client asks of it at first.
    const other = target.duplicate();
    other.on('error', () => {});
    await other.ping();
    const script = target.eval('while true do end', 0).catch((error: unknown) => String(error));
    await feed.while(0.3, async () => {
      await until('somebody is told BUSY', async () =>
        Object.values(await pipeline.queue.client().hgetall(`${PREFIX}:waiting`)).some((text) =>
          text.includes('"BUSY"'),
        ),
      );
      expect(await other.call('SCRIPT', 'KILL')).toBe('OK');
    });
    other.disconnect();
    expect(await script).toMatch(/killed/);
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.queue.client().hlen(`${PREFIX}:stops`)).toBe(0);
    expect(await pipeline.differences()).toEqual([]);
  });

  everyCase(
    '29: keys and values of any bytes, a large value and a hundred thousand arguments arrive bit by bit',
    async () => {
      await using pipeline = await Pipeline.start({ lanes: LANES });
      pipeline.worker();
      const [source, target] = [pipeline.source.client(), pipeline.target.client()];
      const key = Buffer.from([0, 13, 10, 0xff, 0xfe, 0xc3, 0x28, 42]);
      const large = Buffer.alloc(40 * 1024 * 1024, key);
      const many = Array.from({ length: 100_000 }, (_, at) => Buffer.from(String(at)));
      const entries = [
        encodeCommands([[Buffer.from('SET'), key, key]]),
        encodeCommands([[Buffer.from('SET'), Buffer.from('large'), large]]),
        encodeCommands([[Buffer.from('RPUSH'), Buffer.from('many'), ...many]]),
      ];
      for (const resp of entries) await source.call('XADD', 'binlog', '*', 'resp', resp, 'db', '0');
      await pipeline.caughtUp();
      expect(await target.getBuffer(key)).toEqual(key);
      expect((await target.getBuffer('large'))?.equals(large)).toBe(true);
      expect(await target.llen('many')).toBe(100_000);
      expect(await target.lrange('many', -2, -1)).toEqual(['99998', '99999']);
    },
  );

  test('33: a gate as the very first command, gates back to back, FLUSHDB of a database that was just swapped', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, args: ['--segment-bytes', '1024'] });
    const entries: [number, ...Command[]][] = [
      [0, ['FLUSHALL']],
      [0, ['SWAPDB', '0', '1']],
      [0, ['SET', keyIn(0, 'a'), '0'], ['SET', keyIn(1, 'a'), '0']],
      [1, ['SET', keyIn(2, 'a'), '1'], ['RPUSH', keyIn(3, 'l'), '1']],
      [1, ['SWAPDB', '0', '1'], ['FLUSHDB'], ['SWAPDB', '0', '1'], ['RPUSH', keyIn(3, 'l'), '2']],
      [0, ['RPUSH', keyIn(3, 'l'), '3'], ['SWAPDB', '1', '2']],
      [2, ['FLUSHDB'], ['SWAPDB', '2', '0'], ['APPEND', keyIn(0, 'a'), 'x']],
    ];
    for (const [db, ...commands] of entries) {
      const oracle = pipeline.oracle.client();
      await oracle.select(db);
      for (const [name, ...args] of commands) await oracle.call(name as string, ...args);
      await log(pipeline, db, ...commands);
    }
    pipeline.worker();
    pipeline.worker();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect(await pipeline.oracle.client().info('keyspace')).toMatch(/keys=/);
    const control = (await pipeline.target.client().keys('lanegate:test:*')).length;
    expect(control).toBe(LANES + 2);
    for (const db of [1, 2]) {
      const other = pipeline.target.client().duplicate({ db });
      expect(await other.keys('lanegate:*')).toEqual([]);
      other.disconnect();
    }
  });

  test('36: the clocks of the workers jump an hour ahead and back behind, one is killed meanwhile', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 3601);
    const clock = pathToFileURL('test/support/clock.mjs').href;
    const workers = [0, 1].map(() => pipeline.worker({ env: { NODE_OPTIONS: `--import ${clock}` } }));
    await feed.while(0.2, () => appliedSome(pipeline));
    for (const [at, worker] of [...workers, ...workers.slice(0, 1)].entries()) {
      worker.signal('SIGUSR2');
      await feed.while(0.15, () => until('it has jumped', () => worker.output.includes('clock: ')));
      if (at === 2) await until('it jumped back', () => worker.output.includes('clock: -3600000'));
    }
    // Only one with a clock of its own is left.
    await workers[1]?.kill();
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect(await places(pipeline, 'stops')).toEqual({});
    expect((await pipeline.counters()).fenced ?? 0).toBe(0);
  });

  test('38: a job of a newer version is handed back and fails nowhere; the other lanes go on', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    pipeline.worker();
    await log(pipeline, 0, ...[0, 1, 2, 3].map((lane): Command => ['SET', keyIn(lane, 'k'), 'before']));
    await pipeline.caughtUp();
    const redis = pipeline.queue.client().duplicate({ maxRetriesPerRequest: null });
    const queue = new Queue('lane-0', { connection: redis, prefix: PREFIX });
    try {
      const newer = await queue.add('apply', { v: 2, kind: 'apply', lane: 0, from: 1, to: 1, more: true });
      await log(pipeline, 0, ...[0, 1, 2, 3].map((lane): Command => ['SET', keyIn(lane, 'k'), 'after']));
      const target = pipeline.target.client();
      await until(
        'the other lanes are through',
        async () =>
          (await target.mget(...[1, 2, 3].map((lane) => keyIn(lane, 'k')))).join() === 'after,after,after',
      );
      expect(await queue.getFailedCount()).toBe(0);
      expect(['active', 'waiting']).toContain(await newer.getState());
      // It is said, and the job is not taken up again and again.
      await until('status says so', async () =>
        Object.entries(await places(pipeline, 'waiting')).some(
          ([place, text]) => place.startsWith('lane:0|') && text.includes('NEWER_JOB'),
        ),
      );
      await until('the log says so', async () => pipeline.logs().includes('left to newer processes'));
      const taken = async () => Number(await redis.hget(`${PREFIX}:lane-0:${newer.id}`, 'ats'));
      const before = await taken();
      await delay(2_000);
      expect((await taken()) - before).toBeLessThan(10);
      // As the newer process would that takes it.
      await until('it is gone', () => newer.remove().then(() => true));
      await pipeline.caughtUp();
      expect(await target.get(keyIn(0, 'k'))).toBe('after');
      await until('nobody waits', async () => Object.keys(await places(pipeline, 'waiting')).length === 0);
    } finally {
      await queue.close();
      redis.disconnect();
    }
  });

  test('42: a key that expired under way, SETBIT and APPEND beyond what the target takes: the lane stops and says why', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: ['--proto-max-bulk-len', '1mb'],
    });
    const target = pipeline.target.client();
    const gone = keyIn(0, 'gone');
    const big = keyIn(2, 'big');
    await log(pipeline, 0, ['SET', gone, '1', 'PX', '1'], ['SET', keyIn(3, 'other'), '1']);
    await log(pipeline, 0, ['RENAME', gone, `{${gone}}to`], ['SET', keyIn(0, 'behind'), '1']);
    await log(pipeline, 0, ['SETBIT', keyIn(1, 'bits'), String(2 ** 33), '1']);
    await log(pipeline, 0, ['SET', big, 'x'.repeat(1_000_000)], ['APPEND', big, 'x'.repeat(100_000)]);
    pipeline.worker();
    const reasonOf = async (place: string) =>
      await until(`${place} has stopped`, async () => (await places(pipeline, 'stops'))[place]);
    expect(JSON.parse(await reasonOf('lane:0'))).toMatchObject({
      command: 'RENAME',
      key: gone,
      reason: expect.stringMatching(/no such key/),
      hint: expect.stringMatching(/lane resume 0/),
    });
    expect(await reasonOf('lane:1')).toMatch(/SETBIT.*bit offset/);
    expect(await reasonOf('lane:2')).toMatch(/APPEND.*string exceeds maximum allowed size/);
    expect(await target.get(keyIn(3, 'other'))).toBe('1');
    expect((await pipeline.counters()).divergences).toBe(3);
  });

  everyCase("43: the queue's Redis forgets its scripts, again and again", async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 4301);
    pipeline.worker();
    pipeline.worker();
    await feed.while(0.2, () => appliedSome(pipeline));
    for (let round = 0; round < 5; round++) {
      await feed.while(0.1, async () => {
        expect(await pipeline.queue.client().script('FLUSH')).toBe('OK');
      });
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });
});
