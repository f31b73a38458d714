import { setTimeout as delay } from 'node:timers/promises';
import { Queue } from 'bullmq';
import { describe, expect, test } from 'vitest';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { Feed, until, wipe } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { type Command, logWorkload } from '../support/workload.ts';

// One test for each promise of the design, under its name, with as little else as possible.

const LANES = 4;
const PREFIX = '{lanegate-test}';
const MARK = 'lanegate:test:mark';

function keyIn(lane: number, name: string): string {
  for (let at = 0; ; at++) {
    const key = `${name}:${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

const LANE_LIST = [0, 1, 2, 3];

async function log(pipeline: Pipeline, commands: readonly Command[]): Promise<void> {
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
}

/** Every lane's list grows by `count` numbers, entry by entry of 10. */
async function logNumbers(pipeline: Pipeline, from: number, count: number): Promise<void> {
  const lists = LANE_LIST.map((lane) => keyIn(lane, 'list'));
  for (let at = from; at < from + count; at += 10) {
    const numbers = Array.from({ length: 10 }, (_, offset) => String(at + offset));
    const commands = numbers.flatMap((number) => lists.map((list): Command => ['RPUSH', list, number]));
    await log(pipeline, commands);
  }
}

async function workload(pipeline: Pipeline, seed: number, commands = 1200): Promise<Feed> {
  const options = { seed, commands, global: 8, crossing: 60 };
  return new Feed(pipeline, await logWorkload(pipeline.oracle.client(), options));
}

async function appliedSome(pipeline: Pipeline): Promise<void> {
  await until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50);
}

describe.concurrent('invariants', () => {
  test('I1 a command may be delivered twice; it is applied once', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 1001);
    const first = pipeline.worker();
    await until('the pipeline has begun', () => pipeline.target.client().exists(MARK));
    await first.kill();
    const beginning = String(await pipeline.target.client().get(MARK));
    const second = pipeline.worker();
    await feed.rest();
    await pipeline.caughtUp();
    await second.kill();
    // The mark is where the source is read again from when the journal is lost: all of it comes a second time.
    await pipeline.target.client().set(MARK, beginning);
    await pipeline.queue.client().flushall();
    pipeline.worker();
    await until('the journal is made anew', () => pipeline.queue.client().exists(`${PREFIX}:journal`));
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect((await pipeline.counters()).applied ?? 0).toBe(0);
  });

  test('I2 within a lane, commands take effect in source order, with no hole', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    pipeline.worker();
    const target = pipeline.target.client();
    let looks = 0;
    let done = false;
    const looking = (async () => {
      while (!done) {
        for (const lane of LANE_LIST) {
          const list = await target.lrange(keyIn(lane, 'list'), 0, -1);
          // A prefix of 0, 1, 2 ... at every moment.
          expect(list).toEqual(list.map((_, at) => String(at)));
          looks++;
        }
        await delay(5);
      }
    })();
    for (let round = 0; round < 3; round++) {
      await logNumbers(pipeline, round * 200, 200);
      await until('some of it is applied', async () => (await target.llen(keyIn(1, 'list'))) > round * 200);
      await pipeline.workers.at(-1)?.kill();
      pipeline.worker();
    }
    await pipeline.caughtUp();
    done = true;
    await looking;
    expect(looks).toBeGreaterThan(20);
    for (const lane of LANE_LIST) expect(await target.llen(keyIn(lane, 'list'))).toBe(600);
  });

  test("I3 a gate's command sees every earlier command of its lanes applied and no later one", async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    pipeline.worker();
    pipeline.worker();
    const sets = LANE_LIST.map((lane) => keyIn(lane, 'set'));
    const rounds = 120;
    for (let round = 0; round < rounds; round++) {
      const commands: Command[] = sets.map((set) => ['SADD', set, `m${round}`]);
      // All of them have it, so that what is missing in one shows; none has more, so that what is early shows.
      commands.push(['SINTERSTORE', `inter:${round}`, ...sets], ['SUNIONSTORE', `union:${round}`, ...sets]);
      await log(pipeline, commands);
      if (round % 10 === 0) await delay(15);
    }
    await pipeline.caughtUp();
    const target = pipeline.target.client();
    for (let round = 0; round < rounds; round++) {
      expect(await target.scard(`inter:${round}`)).toBe(round + 1);
      expect(await target.scard(`union:${round}`)).toBe(round + 1);
    }
    expect((await pipeline.counters()).gates).toBeGreaterThan(0);
  });

  test('I4 two processes may both believe that they own a lane, the gate or the ingest; only one has an effect', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 1004, 3000);
    const workers = [pipeline.worker(), pipeline.worker()];
    await feed.while(0.1, () => appliedSome(pipeline));
    const redis = pipeline.queue.client().duplicate({ maxRetriesPerRequest: null });
    const queues = [...LANE_LIST.map((lane) => `lane-${lane}`), 'gate', 'ingest'].map(
      (name) => new Queue(name, { connection: redis, prefix: PREFIX }),
    );
    // Whoever is at work does not learn that his job and the limit of one are gone.
    for (let round = 0; round < 8; round++) {
      await feed.while(0.1, async () => {
        for (const queue of queues) {
          await queue.obliterate({ force: true });
          await queue.setGlobalConcurrency(10);
        }
      });
    }
    await feed.rest();
    await pipeline.caughtUp();
    for (const queue of queues) await queue.close();
    redis.disconnect();
    expect(workers.every((worker) => worker.running)).toBe(true);
    expect((await pipeline.counters()).fenced).toBeGreaterThan(0);
    expect(await pipeline.differences()).toEqual([]);
  });

  test("I5 the source and the target's control keys are enough: the queue's Redis is destroyed", async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 1005);
    const first = pipeline.worker();
    await feed.while(0.4, () => appliedSome(pipeline));
    await Promise.all([first.kill(), pipeline.queue.kill()]);
    await wipe(pipeline.queue);
    await pipeline.queue.restart();
    pipeline.worker();
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });

  test('I6 the source is told to forget nothing above the low-water mark', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      args: ['--trim-source'],
      targetArgs: ['--rename-command', 'INCRBYFLOAT', ''],
    });
    pipeline.worker();
    const [source, queue] = [pipeline.source.client(), pipeline.queue.client()];
    const delivered = async () => {
      const [group] = (await source.call('XINFO', 'GROUPS', 'binlog')) as unknown[][];
      return String(group?.[7]);
    };
    await logNumbers(pipeline, 0, 200);
    await pipeline.caughtUp();
    await log(pipeline, [['INCRBYFLOAT', keyIn(0, 'x'), '1']]);
    const [[poison] = []] = await source.xrevrange('binlog', '+', '-', 'COUNT', 1);
    await logNumbers(pipeline, 200, 200);
    await until('the lane has stopped', () => queue.hexists(`${PREFIX}:stops`, 'lane:0'));
    await until(
      'the other lanes are through',
      async () => (await pipeline.target.client().llen(keyIn(2, 'list'))) === 400,
    );
    await delay(700);
    expect(poison).toBeDefined();
    const id = String(poison);
    expect(Number((await delivered()).replace('-', '.'))).toBeLessThan(Number(id.replace('-', '.')));
    expect(await source.xrange('binlog', id, id)).toHaveLength(1);
    expect((await source.xrange('binlog', `(${id}`, '+')).length).toBe(20);
    expect(await source.xlen('binlog')).toBeLessThan(30);

    const stop = JSON.parse(String(await queue.hget(`${PREFIX}:stops`, 'lane:0'))) as {
      generation: string;
      seq: number;
    };
    const { generation, seq } = stop;
    const skip = { generation, seq, place: 'lane:0', by: 'test', reason: 'test', atMs: Date.now() };
    await queue.hset(`${PREFIX}:skips`, `${generation}:${seq}:lane:0`, JSON.stringify(skip));
    await queue.hdel(`${PREFIX}:stops`, 'lane:0');
    await pipeline.caughtUp();
    await until('the source may forget', async () => (await delivered()) > id);
    expect(await pipeline.target.client().llen(keyIn(0, 'list'))).toBe(400);
  });

  test('I7 nothing is dropped in silence: a stop names seq, position, command, key, reason and the way out', async () => {
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      targetArgs: ['--rename-command', 'INCRBYFLOAT', ''],
    });
    const worker = pipeline.worker();
    const key = keyIn(3, 'x');
    await log(pipeline, [
      ['SET', key, '1'],
      ['INCRBYFLOAT', key, '1'],
    ]);
    const text = await until('the lane has stopped', () =>
      pipeline.queue.client().hget(`${PREFIX}:stops`, 'lane:3'),
    );
    expect(JSON.parse(text)).toMatchObject({
      seq: 2,
      position: expect.stringMatching(/^\d+-\d+/),
      command: 'INCRBYFLOAT',
      key,
      reason: expect.stringMatching(/unknown command/),
      hint: expect.stringMatching(/lanegate lane skip 3 --seq 2/),
    });
    await until('the log says so too', () => worker.output.includes('lanegate lane skip 3 --seq 2'));
  });

  test('I8 whatever is lost or removed by hand in the queue, the pipeline moves again by itself', async () => {
    await using pipeline = await Pipeline.start({ lanes: LANES });
    const feed = await workload(pipeline, 1008);
    pipeline.worker();
    await feed.while(0.2, () => appliedSome(pipeline));
    const queue = pipeline.queue.client();
    // One key of BullMQ after the other, any of them, in no order; the journal alone stays.
    for (let round = 0; round < 4; round++) {
      await feed.while(0.15, async () => {
        const keys = await queue.keys(`${PREFIX}:*`);
        for (const key of keys.filter((name) =>
          /:(lane-\d+|gate|ingest|pauses|claim|arrivals)(:|$)/.test(name),
        )) {
          if ((key.length + round) % 2 === 0) await queue.del(key);
        }
      });
    }
    await feed.rest();
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
  });
});
