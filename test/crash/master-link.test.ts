import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { RedisServer } from '../support/redis-server.ts';
import type { Command } from '../support/workload.ts';

// What a server takes from its master's link and from nobody else (mustObeyClient() in Redis and Valkey), as it meets an
// ordinary client: the list is in RELIABILITY.md, the rows without a test elsewhere are here.

const LANES = 2;
const PREFIX = '{lanegate-test}';
const SHEBANG = "#!lua\nreturn redis.call('RPUSH', KEYS[1], ARGV[1])";
const COMPATIBLE = "redis.call('RPUSH', KEYS[1], ARGV[1]); return redis.call('RPUSH', KEYS[2], ARGV[1])";

async function log(pipeline: Pipeline, ...commands: Command[]): Promise<void> {
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
}

function keyIn(lane: number, name: string): string {
  for (let at = 0; ; at++) {
    const key = `${name}:${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

async function places(pipeline: Pipeline, what: 'waiting' | 'stops'): Promise<Record<string, string>> {
  return await pipeline.queue.client().hgetall(`${PREFIX}:${what}`);
}

async function waitsFor(pipeline: Pipeline, code: string): Promise<void> {
  await until(`somebody waits because of ${code}`, async () =>
    Object.values(await places(pipeline, 'waiting')).some((text) => text.includes(`"${code}"`)),
  );
}

async function stopOf(pipeline: Pipeline, place: string): Promise<Record<string, unknown>> {
  const text = await until(`${place} has stopped`, async () => (await places(pipeline, 'stops'))[place]);
  return JSON.parse(text) as Record<string, unknown>;
}

async function scriptsRan(pipeline: Pipeline): Promise<void> {
  const target = pipeline.target.client();
  for (const key of ['s1', 's2', 's3']) expect(await target.lrange(key, 0, -1), key).toEqual(['x']);
}

const SCRIPTS: readonly Command[] = [
  ['EVAL', SHEBANG, '1', 's1', 'x'],
  ['EVAL', COMPATIBLE, '2', 's2', 's3', 'x'],
];

describe.concurrent("what only a master's link may do", () => {
  test('writes where the disk refuses: lanes and scripts wait, and nothing is half done', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: ['--save', '3600 1', '--stop-writes-on-bgsave-error', 'yes', '--dbfilename', 'in-the-way'],
    });
    const target = pipeline.target.client();
    pipeline.worker();
    await log(pipeline, ['SET', 'before', '1']);
    await pipeline.caughtUp();
    // A directory of that name: the snapshot cannot be put in its place.
    const inTheWay = join(pipeline.target.dir, 'in-the-way');
    mkdirSync(inTheWay);
    await target.bgsave();
    await until('the snapshot has failed', async () =>
      /rdb_last_bgsave_status:err/.test(await target.info('persistence')),
    );
    await log(pipeline, ...SCRIPTS, ['SET', 'behind', '1']);
    await waitsFor(pipeline, 'MISCONF');
    expect(await target.exists('s1', 's2', 's3', 'behind')).toBe(0);
    rmdirSync(inTheWay);
    await until('another snapshot may begin', async () =>
      (await target.bgsave().catch(() => 'in progress')).includes('started'),
    );
    await pipeline.caughtUp();
    await scriptsRan(pipeline);
    expect(await target.get('behind')).toBe('1');
    expect(await places(pipeline, 'stops')).toEqual({});
  });

  everyCase('scripts where memory is out, and at a replica', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const target = pipeline.target.client();
    pipeline.worker();
    await log(pipeline, ['SET', 'before', '1']);
    await pipeline.caughtUp();
    await target.config('SET', 'maxmemory', '1');
    await log(pipeline, ...SCRIPTS);
    await waitsFor(pipeline, 'OOM');
    await target.replicaof('127.0.0.1', 1);
    await target.config('SET', 'maxmemory', '0');
    await waitsFor(pipeline, 'READONLY');
    expect(await target.exists('s1', 's2', 's3')).toBe(0);
    await target.replicaof('NO', 'ONE');
    await pipeline.caughtUp();
    await scriptsRan(pipeline);
    expect(await places(pipeline, 'stops')).toEqual({});
  });

  test('a script that nobody may kill: killed, it is a divergence, and its gate stops', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: ['--busy-reply-threshold', '50'],
    });
    const other = pipeline.target.client().duplicate();
    await other.ping();
    pipeline.worker();
    await log(pipeline, ['EVAL', 'while true do end', '0'], ['SET', 'behind', '1']);
    await until('it is killed', async () => (await other.call('SCRIPT', 'KILL').catch(() => '')) === 'OK');
    other.disconnect();
    expect(await stopOf(pipeline, 'lane:0')).toMatchObject({
      command: 'EVAL',
      reason: expect.stringMatching(/killed/),
    });
    expect(await pipeline.target.client().exists('behind')).toBe(0);
    expect((await pipeline.counters()).divergences).toBe(1);
  });

  everyCase(
    'FUNCTION LOAD of any length: beyond half a second the target refuses it, and the gate stops',
    async () => {
      await using pipeline = await Pipeline.start({ lanes: LANES });
      pipeline.worker();
      await log(pipeline, ['FUNCTION', 'LOAD', '#!lua name=slow\nwhile true do end'], ['SET', 'behind', '1']);
      expect(await stopOf(pipeline, 'lane:0')).toMatchObject({
        command: 'FUNCTION',
        reason: expect.stringMatching(/timeout/i),
      });
      expect(await pipeline.target.client().exists('behind')).toBe(0);
    },
  );

  test('a link that may idle: lanes whose connection the target closes open another', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES, targetArgs: ['--timeout', '1'] });
    const target = pipeline.target.client();
    pipeline.worker();
    const sessions = async () =>
      new Set(
        [...String(await target.client('LIST')).matchAll(/^id=(\d+) .*name=lanegate/gm)].map(([, id]) => id),
      );
    for (let round = 1; round <= 3; round++) {
      await log(pipeline, ['RPUSH', keyIn(0, 'idle'), `${round}`], ['RPUSH', keyIn(1, 'idle'), `${round}`]);
      await pipeline.caughtUp();
      const before = [...(await sessions())];
      await until('one was closed', async () => {
        const now = await sessions();
        return before.some((id) => !now.has(id));
      });
    }
    for (const lane of [0, 1])
      expect(await target.lrange(keyIn(lane, 'idle'), 0, -1)).toEqual(['1', '2', '3']);
    expect(await places(pipeline, 'stops')).toEqual({});
    expect((await pipeline.counters()).unverified ?? 0).toBe(0);
  });

  test('keys of every slot: a cluster node is refused at the start', async () => {
    await using node = await RedisServer.start({ args: ['--cluster-enabled', 'yes'] });
    await using pipeline = await Pipeline.start({ targetUrl: async () => node.url });
    const { code, stdout, stderr } = await lanegate(['check', ...pipeline.urls]);
    expect(code).not.toBe(0);
    expect(stdout + stderr).toMatch(/the target is a cluster node/);
  });

  const POLICIES = [
    { policy: 'stop', args: [] },
    { policy: 'dead-letter', args: ['--on-poison', 'dead-letter'] },
  ];

  test.each(EVERY_CASE ? POLICIES : POLICIES.slice(0, 1))(
    'values of any length: a target that ends the connection for one ($policy)',
    async ({ args }) => {
      await using pipeline = await Pipeline.start({
        lanes: LANES,
        targetArgs: ['--proto-max-bulk-len', '1mb'],
      });
      const target = pipeline.target.client();
      pipeline.worker({ args });
      const big = 'x'.repeat(2_000_000);
      const [first, second, third] = [keyIn(0, 'first'), keyIn(0, 'second'), keyIn(1, 'third')];
      await log(
        pipeline,
        ['RPUSH', first, '1'],
        ['SET', first, big],
        ['SET', second, '1'],
        ['SET', third, '1'],
      );
      const reason = expect.stringMatching(/proto-max-bulk-len/);
      if (args.length === 0) {
        expect(await stopOf(pipeline, 'lane:0')).toMatchObject({ command: 'SET', key: first, reason });
        expect(await target.exists(second)).toBe(0);
        const env = { LANEGATE_NAME: pipeline.name, LANEGATE_QUEUE: pipeline.queue.url };
        const skip = ['lane', 'skip', '0', '--seq', '2', '--reason', 'too long'];
        expect(await lanegate(skip, { env })).toMatchObject({ code: 0 });
      }
      await pipeline.caughtUp();
      expect(await target.mget(second, third)).toEqual(['1', '1']);
      expect(await target.lrange(first, 0, -1)).toEqual(['1']);
      // Of a gate as well.
      const neither = [keyIn(0, 'neither'), keyIn(1, 'neither')] as const;
      await log(
        pipeline,
        ['RPUSH', first, '2'],
        ['MSETNX', neither[0], big, neither[1], big],
        ['SET', third, '2'],
      );
      if (args.length === 0) {
        const place = await until('the gate has stopped', async () =>
          Object.keys(await places(pipeline, 'stops')).find((name) => name.startsWith('gate:')),
        );
        expect(await stopOf(pipeline, place)).toMatchObject({ command: 'MSETNX', reason });
        return;
      }
      await pipeline.caughtUp();
      expect(await target.mget(second, third)).toEqual(['1', '2']);
      expect(await pipeline.queue.client().xlen(`${PREFIX}:dead-letters`)).toBe(2);
    },
  );

  everyCase(
    'a connection of any size: where the target ends it each time, status says so until that ends',
    async () => {
      await using pipeline = await Pipeline.start({
        lanes: LANES,
        targetArgs: ['--client-query-buffer-limit', '1mb'],
      });
      const target = pipeline.target.client();
      pipeline.worker();
      const key = keyIn(0, 'large');
      await log(pipeline, ['SET', key, 'x'.repeat(3_000_000)], ['RPUSH', keyIn(1, 'other'), '1']);
      await waitsFor(pipeline, 'CONNECTION');
      await target.config('SET', 'client-query-buffer-limit', '64mb');
      await pipeline.caughtUp();
      expect(await target.strlen(key)).toBe(3_000_000);
      expect(await target.llen(keyIn(1, 'other'))).toBe(1);
      await until('nobody waits', async () => Object.keys(await places(pipeline, 'waiting')).length === 0);
    },
  );
});
