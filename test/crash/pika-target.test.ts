import { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { Feed, until } from '../support/faults.ts';
import { PikaProxy } from '../support/pika-proxy.ts';
import { Pipeline } from '../support/pipeline.ts';
import { RedisServer } from '../support/redis-server.ts';
import { type LoggedEntry, logWorkload } from '../support/workload.ts';

// A target that runs a FLUSHDB alone only: the gate's one EXEC becomes several steps, and a process may die or sleep
// between any two of them.

const NOT_THERE = new Set(['RENAME', 'RENAMENX', 'LMOVE', 'COPY']);
const ACCEPTED = ['--accept-weaker-guarantee'];

async function start(args: readonly string[] = ACCEPTED) {
  let proxy: PikaProxy | undefined;
  const targetUrl = async (target: RedisServer) => {
    proxy = await PikaProxy.start(target);
    return proxy.url;
  };
  const pipeline = await Pipeline.start({ lanes: 3, args, targetUrl });
  const pika = proxy as PikaProxy;
  return {
    pipeline,
    pika,
    [Symbol.asyncDispose]: async () => {
      await pipeline[Symbol.asyncDispose]();
      await pika[Symbol.asyncDispose]();
    },
  };
}

/** Flushes alone, beside others and inside a transaction; every fifth entry ends in SETs that outlive one. */
async function flushes(pipeline: Pipeline, seed: number): Promise<LoggedEntry[]> {
  const workload = { commands: 350, global: 60, crossing: 60, databases: 1, without: NOT_THERE, seed };
  const entries = await logWorkload(pipeline.oracle.client(), workload);
  const oracle = pipeline.oracle.client();
  const transaction = [
    ['MULTI'],
    ['INCR', 'n:1'],
    ['RPUSH', 'l:1', 'before'],
    ['FLUSHDB'],
    ['INCR', 'n:2'],
    ['EXEC'],
  ];
  for (const [name, ...args] of transaction) await oracle.call(name as string, ...args);
  return [...entries, { db: 0, timeMs: Date.now(), commands: transaction }];
}

const STEPS = {
  'flush-recorded': 'the flush is recorded, and the target knows nothing of it',
  'flush-placed': 'the sentinel stands',
  'flush-fenced': 'MULTI is open, and the flush was not sent',
  'flush-sent': 'the target is empty, lanegate has no keys there',
  'flush-restored': 'the control keys are back, the record stands',
} as const;
type Step = keyof typeof STEPS;
// To die before the flush is sent, or with the sentinel in place, is one thing; to wake up there is another.
const DIES: readonly Step[] = ['flush-placed', 'flush-sent', 'flush-restored'];
const SLEEPS: readonly Step[] = ['flush-recorded', 'flush-fenced', 'flush-sent'];
/** Between the flush and what follows it, and with the flush in hand: the others are a step to either side. */
const ALWAYS = new Set<Step>(['flush-sent', 'flush-fenced']);
const LONG = { timeout: 180_000 };

describe.concurrent('a worker that dies at a step of a flush that runs alone', () => {
  for (const [at, failpoint] of DIES.entries()) {
    (ALWAYS.has(failpoint) ? test : everyCase)(`${failpoint}=kill: ${STEPS[failpoint]}`, LONG, async () => {
      await using scene = await start();
      const { pipeline, pika } = scene;
      const feed = new Feed(pipeline, await flushes(pipeline, 300 + at));
      const doomed = pipeline.worker({ failpoint: `${failpoint}=kill@2` });
      await feed.while(0.5, () => until(`${failpoint} is reached`, () => doomed.reached.length > 0));
      await doomed.exit();
      pipeline.worker();
      await feed.rest();
      await pipeline.caughtUp(60_000);
      expect(await pipeline.differences()).toEqual([]);
      expect(pika.crashes).toBe(0);
      expect(await pipeline.queue.client().hgetall('{lanegate-test}:stops')).toEqual({});
    });
  }
});

describe.concurrent('a worker that sleeps at a step of a flush, and goes on when others have', () => {
  for (const [at, failpoint] of SLEEPS.entries()) {
    everyCase(`${failpoint}=stop: ${STEPS[failpoint]}`, LONG, async () => {
      await using scene = await start();
      const { pipeline, pika } = scene;
      const feed = new Feed(pipeline, await flushes(pipeline, 320 + at));
      const zombie = pipeline.worker({ failpoint: `${failpoint}=stop@2` });
      await feed.while(0.5, () => until(`${failpoint} is reached`, () => zombie.reached.length > 0));
      pipeline.worker();
      await feed.next(0.4);
      await pipeline.caughtUp(60_000);
      zombie.signal('SIGCONT');
      await feed.rest();
      await pipeline.caughtUp(60_000);
      expect(zombie.running).toBe(true);
      expect(await pipeline.differences()).toEqual([]);
      expect(pika.crashes).toBe(0);
    });
  }
});

everyCase(
  'a low-water mark that was about to be written when a flush ran is not written into the empty target',
  LONG,
  async () => {
    await using scene = await start();
    const { pipeline, pika } = scene;
    const feed = async (commands: string[][]) => {
      for (const [name, ...args] of commands) await pipeline.oracle.client().call(name as string, ...args);
      await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
    };
    await feed([
      ['SET', 'a', '1'],
      ['SET', 'b', '1'],
      ['INCR', 'n'],
    ]);
    const zombie = pipeline.worker({ failpoint: 'mark-fenced=stop' });
    await until('a mark is about to be written', () => zombie.reached.length > 0);
    await feed([['SET', 'c', '1'], ['FLUSHALL'], ['INCR', 'n'], ['SET', 'd', '1']]);
    // Nobody else moves the mark meanwhile, which would break that fence as well.
    const watchdog = '{lanegate-test}:claim:watchdog';
    await pipeline.queue.client().set(watchdog, 'test', 'PX', 60_000);
    const doomed = pipeline.worker({ failpoint: 'flush-sent=kill' });
    await doomed.exit();
    await pipeline.queue.client().del(watchdog);
    expect(await pipeline.target.client().keys('*')).toEqual([]);
    zombie.signal('SIGCONT');
    await pipeline.caughtUp(60_000);
    expect(await pipeline.differences()).toEqual([]);
    expect(pika.crashes).toBe(0);
  },
);

test('a flush beside other commands in one MULTI ends such a server: what these tests rest on', async () => {
  await using server = await RedisServer.start();
  await using pika = await PikaProxy.start(server);
  const client = new Redis(pika.url, { retryStrategy: () => null });
  client.on('error', () => {});
  expect(await client.multi().flushdb().exec()).toEqual([[null, 'OK']]);
  await expect(client.multi().flushdb().set('ck', '7').exec()).rejects.toThrow();
  expect(pika.crashes).toBe(1);
  client.disconnect();
});

test('a start names what such a target cannot promise, and ends unless that is accepted', async () => {
  await using scene = await start([]);
  const { pipeline } = scene;
  const refused = pipeline.worker();
  expect(await refused.exit()).toBe(1);
  expect(refused.output).toContain('--accept-weaker-guarantee');
  expect(await pipeline.target.client().keys('*')).toEqual([]);
});

test('what the target does not know, and another database, stop in front with the reason; the rest is said in its words', async () => {
  await using scene = await start([...ACCEPTED, '--on-poison', 'dead-letter']);
  const { pipeline } = scene;
  const entry = (commands: string[][], db = 0): LoggedEntry => ({ db, timeMs: Date.now(), commands });
  pipeline.worker();
  await pipeline.append([
    entry([
      ['SET', 'a', '1', 'PX', '5000500'],
      ['HSET', 'h', 'f', '1', 'g', '2'],
      ['COPY', 'a', 'b'],
    ]),
    entry([['SET', 'elsewhere', '1']], 1),
    entry([
      ['SET', 'c', '1', 'NX', 'EX', '60'],
      ['MULTI'],
      ['PEXPIRE', 'h', '900000'],
      ['INCR', 'n'],
      ['EXEC'],
    ]),
  ]);
  await pipeline.caughtUp();
  const target = pipeline.target.client();
  expect(await target.hgetall('h')).toEqual({ f: '1', g: '2' });
  expect(await target.ttl('a')).toBeGreaterThan(4_900);
  expect(await target.ttl('h')).toBeGreaterThan(800);
  expect([await target.get('n'), await target.exists('b', 'c', 'elsewhere')]).toEqual(['1', 0]);
  const letters = await pipeline.queue.client().xrange('{lanegate-test}:dead-letters', '-', '+');
  const reasons = letters.map(([, fields]) => String(JSON.parse(fields[1] as string).reason));
  expect(reasons).toEqual([
    'the target does not know COPY',
    expect.stringContaining('database 1 cannot be written in one transaction with the checkpoints'),
    expect.stringContaining('SET ... NX'),
  ]);
  expect(await target.keys('*probe*')).toEqual([]);
});
