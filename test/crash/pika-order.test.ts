import { expect } from 'vitest';
import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { comparePlaces, type Place, parsePikaPosition } from '../../src/sources/pika/position.ts';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { Pipeline } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';

// Nothing orders the logs of several databases, and the order in which they were read is known up to the mark's window. A
// target that went back in time is brought beyond it from the journal. Where that is lost too, reading again gives other
// numbers: it stops, and drops nothing as applied that is not.

const LANES = 4;
const ALL = [0, 1, 2, 3];

function keyIn(lane: number): string {
  for (let at = 0; ; at++) {
    const key = `key${at}`;
    if (laneOf(slotOf(Buffer.from(key), 0, key.length), LANES) === lane) return key;
  }
}

async function isApplied(target: RedisServer, master: PikaMaster): Promise<boolean> {
  const mark = JSON.parse((await target.client().get('lanegate:test:mark')) ?? '') as { position: string };
  const { places } = parsePikaPosition(mark.position);
  return [...master.logs].every(([db, { end }]) => comparePlaces(places.get(db) as Place, end) >= 0);
}

function write(master: PikaMaster, db: string, from: number, lanes: readonly number[] = ALL): void {
  const numbers = Array.from({ length: 10 }, (_, i) => String(from + i));
  master.write(
    lanes.flatMap((lane) => numbers.map((number) => ['RPUSH', keyIn(lane), number])),
    db,
  );
}

everyCase(
  'the target goes back in time and the journal is lost while it catches up: it stops, and says why',
  async () => {
    const nowMs = Date.now();
    await using master = await PikaMaster.start({ databases: ['db0', 'db1'], now: () => nowMs });
    await using older = await RedisServer.start();
    const proxies: FaultyProxy[] = [];
    await using pipeline = await Pipeline.start({
      lanes: LANES,
      sourceUrl: master.url,
      args: ['--from', 'beginning'],
      targetUrl: async (target) => {
        proxies.push(await FaultyProxy.start(target.port));
        return (proxies[0] as FaultyProxy).url;
      },
    });
    await using proxy = proxies[0] as FaultyProxy;
    pipeline.worker();
    for (const db of ['db0', 'db1']) write(master, db, 0);
    await until('it is applied', () => isApplied(pipeline.target, master));
    await older.client().replicaof('127.0.0.1', pipeline.target.port);
    await until('the replica has it', () => isApplied(older, master));
    await older.client().call('REPLICAOF', 'NO', 'ONE');

    // Windows of their own, in another order than one window of all of them would have.
    const windows: [db: string, from: number, lanes: number[]][] = [
      ['db1', 100, ALL],
      ['db0', 200, [0, 1, 3]],
      ['db1', 300, [1, 3]],
      ['db0', 400, [0]],
    ];
    for (const window of windows) {
      write(master, ...window);
      await until('it is applied', () => isApplied(pipeline.target, master));
    }
    expect(await lanegate(['lane', 'pause', '2', ...pipeline.urls])).toMatchObject({ code: 0 });
    proxy.retarget(older.port);
    proxy.cutAll();
    const last = async (lane: number, db: number) => {
      await older.client().select(db);
      return (await older.client().lrange(keyIn(lane), -1, -1))[0];
    };
    await until(
      'the other lanes have caught up',
      async () => (await last(0, 0)) === '409' && (await last(3, 1)) === '309',
    );
    await older.client().select(0);
    await pipeline.workers[0]?.kill();
    await pipeline.queue.client().flushall();
    pipeline.worker();

    const stop = await until('it stops', () =>
      pipeline.queue.client().hget('{lanegate-test}:stops', 'ingest'),
    );
    expect(JSON.parse(stop)).toMatchObject({
      command: 'ORDER_LOST',
      reason: expect.stringMatching(/had gone back in time, and the journal was lost/),
      hint: expect.stringContaining('lanegate reset'),
    });
  },
  120_000,
);
