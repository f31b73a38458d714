import { expect, test } from 'vitest';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { comparePlaces, parsePikaPosition } from '../../src/sources/pika/position.ts';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import type { PikaMasterOptions } from '../support/pika-faults.ts';
import type { Argument } from '../support/pika-log.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { Pipeline } from '../support/pipeline.ts';

// A Pika's log through the whole pipeline, with everything killed on the way: equal to the commands run one by one.

const JOURNAL = '{lanegate-test}:journal';
const MARK = 'lanegate:test:mark';

interface Run extends AsyncDisposable {
  readonly pipeline: Pipeline;
  readonly master: PikaMaster;
  /** Logs the commands at the master and runs them at the oracle. */
  write(commands: readonly (readonly Argument[])[], db?: number): Promise<void>;
  /** Waits until the low-water mark covers the master's log. */
  caughtUp(): Promise<void>;
}

async function start(options: PikaMasterOptions = {}): Promise<Run> {
  const master = await PikaMaster.start({ windowItems: 900, ...options });
  const pipeline = await Pipeline.start({
    lanes: LANES,
    sourceUrl: master.url,
    args: ['--from', 'beginning'],
  });
  return {
    pipeline,
    master,
    async write(commands, db = 0) {
      master.write(commands, `db${db}`);
      const batch = pipeline.oracle.client().pipeline().select(db);
      for (const [name, ...args] of commands) batch.call(String(name), ...args.map(String));
      await batch.exec();
    },
    async caughtUp() {
      await until('the log is applied', () => isApplied(pipeline, master), 60_000).catch((cause) => {
        throw new Error(`not caught up\n${pipeline.logs()}`, { cause });
      });
    },
    async [Symbol.asyncDispose]() {
      await pipeline[Symbol.asyncDispose]();
      await master[Symbol.asyncDispose]();
    },
  };
}

async function isApplied(pipeline: Pipeline, master: PikaMaster): Promise<boolean> {
  const mark = JSON.parse((await pipeline.target.client().get(MARK)) ?? '') as { position: string };
  const { places } = parsePikaPosition(mark.position);
  return [...master.logs].every(([db, { end }]) => {
    const place = places.get(db);
    return place !== undefined && comparePlaces(place, end) >= 0;
  });
}

/** The seed scenario on many keys, with commands that show it when they are applied twice. */
function round(i: number): string[][] {
  const keys = [`key${i % 17}`, `{a}${i % 5}`, `other${i % 11}`];
  return [
    ...keys.flatMap((key) => [
      ['SET', key, `a${i}`],
      ['SET', key, `b${i}`],
    ]),
    ...(i % 3 === 0 ? [['flushdb']] : []),
    ...keys.map((key) => ['SET', key, `c${i}`]),
    ['INCR', `count${i % 7}`],
    ['APPEND', `text${i % 7}`, `${i},`],
    ['RPUSH', `list${i % 7}`, String(i)],
  ];
}

const LANES = 4;

function keyIn(lane: number): string {
  for (let at = 0; ; at++) {
    const key = `key${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

async function applied(pipeline: Pipeline): Promise<number> {
  return (await pipeline.counters()).applied ?? 0;
}

test('many rounds of SET, SET, FLUSHDB, SET on many keys, with workers killed on the way', async () => {
  await using run = await start();
  const { pipeline, master } = run;
  pipeline.worker();
  pipeline.worker();
  let i = 0;
  const kill = async () => {
    const victim = pipeline.workers.find((worker) => worker.running);
    await victim?.kill();
    pipeline.worker();
  };
  for (let part = 0; part < (EVERY_CASE ? 6 : 2); part++) {
    const before = await applied(pipeline);
    for (const end = i + 500; i < end; i += 20) {
      await run.write(Array.from({ length: 20 }, (_, at) => round(i + at)).flat());
      if (i % 100 === 0) master.cutConnections();
    }
    await until('some of it is applied', async () => (await applied(pipeline)) > before + 100);
    await kill();
  }
  await run.write([['SET', 'last', 'one']]);
  await run.caughtUp();
  expect(await pipeline.differences()).toEqual([]);
  expect(master.complaints).toEqual([]);
  expect(await pipeline.target.client().get('last')).toBe('one');
}, 170_000);

everyCase(
  'two databases with FLUSHDB, while workers are killed and the journal is lost',
  async () => {
    await using run = await start({ databases: ['db0', 'db1'] });
    const { pipeline, master } = run;
    pipeline.worker();
    pipeline.worker();
    for (let part = 0; part < 4; part++) {
      const before = await applied(pipeline);
      for (let at = 0; at < 60; at++) {
        const i = part * 60 + at;
        await run.write(round(i), i % 2);
        if (at % 20 === 10) await run.write(round(i + 1000), 1);
      }
      await until('some of it is applied', async () => (await applied(pipeline)) > before + 50);
      const journal = await pipeline.queue.client().hget(JOURNAL, 'id');
      await pipeline.workers.find((worker) => worker.running)?.kill();
      await pipeline.queue.client().flushall();
      pipeline.worker();
      await until('the journal is made anew', async () => {
        const id = await pipeline.queue.client().hget(JOURNAL, 'id');
        return id !== null && id !== journal;
      });
    }
    await run.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect(master.complaints).toEqual([]);
  },
  170_000,
);

everyCase(
  'two databases: what is applied far beyond the mark is recognised when the journal is lost',
  async () => {
    // All of one second: the order of the databases is then as wrong as it can be when windows differ.
    const nowMs = Date.now();
    await using run = await start({ databases: ['db0', 'db1'], now: () => nowMs });
    const { pipeline, master } = run;
    pipeline.worker();
    const push = (from: number, to: number, lane: number) =>
      Array.from({ length: to - from }, (_, i) => ['RPUSH', keyIn(lane), String(from + i)]);
    for (const db of [0, 1]) for (const lane of [0, 1, 2, 3]) await run.write(push(0, 5, lane), db);
    await run.caughtUp();
    for (let round = 1; round <= 3; round++) {
      const paused = await lanegate(['lane', 'pause', '2', ...pipeline.urls]);
      expect(paused).toMatchObject({ code: 0 });
      const [from, to] = [round * 100, round * 100 + 30];
      // In turns, so that the order of arrival is another one when all of it is there.
      for (let at = from; at < to; at++) {
        for (const lane of [0, 1, 2, 3]) await run.write(push(at, at + 1, lane), (at + lane) % 2);
      }
      const first = async () => (await pipeline.target.client().lrange(keyIn(0), -1, -1))[0];
      await until('other lanes go on', async () => Number(await first()) >= from);
      // Whatever the worker may read meanwhile, it has read: two pings of each database.
      for (let more = 0; more < 2; more++) {
        for (let at = to; at < to + 10; at++)
          for (const lane of [0, 1, 3])
            await run.write(push(at + 10 * more, at + 10 * more + 1, lane), (at + lane) % 2);
        const { pings } = master;
        await until('it has had the time for more', () => master.pings >= pings + 4);
      }
      await pipeline.workers.find((worker) => worker.running)?.kill();
      await pipeline.queue.client().flushall();
      await run.write(push(to + 20, to + 40, 1));
      pipeline.worker();
      await run.caughtUp();
      expect(await pipeline.differences()).toEqual([]);
    }
    expect(master.complaints).toEqual([]);
  },
  170_000,
);

test('a master that restarts, and a slave that takes over, under load', async () => {
  await using run = await start();
  const { pipeline, master } = run;
  pipeline.worker();
  for (let i = 0; i < 100; i++) await run.write(round(i));
  await until('some of it is applied', async () => (await applied(pipeline)) > 50);
  await master.restart();
  for (let i = 100; i < 200; i++) await run.write(round(i));
  await until('it goes on', async () => (await applied(pipeline)) > 500);
  await using heir = await master.failover();
  heir.write([['SET', 'by', 'the heir']]);
  await pipeline.oracle.client().set('by', 'the heir');
  await until('the heir is read', async () => (await pipeline.target.client().get('by')) === 'the heir');
  await run.caughtUp();
  expect(await pipeline.differences()).toEqual([]);
}, 120_000);
