import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { coversPika, formatPikaPosition, positionAt } from '../../src/sources/pika/position.ts';
import { PikaServer } from '../../src/sources/pika/server.ts';
import { parsePikaUrl } from '../../src/sources/pika/url.ts';
import { until } from '../support/faults.ts';
import { FileRun } from '../support/file-run.ts';
import { Pipeline } from '../support/pipeline.ts';
import { PIKA_PROGRAM, RealPika } from '../support/real-pika.ts';

// What a master does to its slaves and what befalls a master, with a real Pika, where there is one (support/real-pika).

const realPika = test.skipIf(PIKA_PROGRAM === undefined);
const LONG_MS = process.env.LANEGATE_HEAVY === '1' ? 900_000 : 240_000;
const ROUNDS = process.env.LANEGATE_HEAVY === '1' ? 700 : 60;
/** A master drops a slave that it has not heard for 20 s. */
const SILENCE_MS = 26_000;

const urlOf = (pika: RealPika) => `pika://${pika.address}?db=db0`;

const follow = (pika: RealPika, from = 'beginning') =>
  Pipeline.start({ lanes: 4, sourceUrl: urlOf(pika), args: ['--from', from] });

/** Runs rounds of the seed example and of what counts at the Pika, and the same at the oracle. One by one: its log is right then. */
class Writer {
  readonly #pika: RealPika;
  readonly #pipeline: Pipeline;
  #round = 0;

  constructor(pika: RealPika, pipeline: Pipeline) {
    this.#pika = pika;
    this.#pipeline = pipeline;
  }

  async rounds(count: number, pika = this.#pika): Promise<void> {
    for (let i = 0; i < count; i++) {
      const round = this.#round++;
      const key = `key:${round % 40}`;
      const commands = [
        ['SET', key, `a${round}`],
        ['INCR', `n:${round % 7}`],
        ['RPUSH', `l:${round % 5}`, `${round}`],
        ['HSET', `h:${round % 5}`, `f${round % 9}`, `${round}`],
        ['ZINCRBY', 'z', '2', `m${round % 11}`],
        ['XADD', 'x', `${round + 1}-1`, 'f', `${round}`],
        ...(round % 25 === 24 ? [['FLUSHDB']] : []),
        ['SET', `key:${round}`, `b${round}`],
        ['SADD', `s:${round % 3}`, `${round}`],
      ] as [string, ...string[]][];
      for (const [name, ...args] of commands) {
        await pika.client.call(name, ...args);
        await this.#pipeline.oracle.client().call(name, ...args);
      }
    }
  }
}

async function markOf({ target, name }: Pipeline): Promise<string> {
  const text = await target.client().get(`lanegate:${name}:mark`);
  return text === null ? '' : (JSON.parse(text) as { position: string }).position;
}

async function caughtUp(pipeline: Pipeline, pika: RealPika, url = urlOf(pika)): Promise<void> {
  const server = new PikaServer(parsePikaUrl('--source', url).endpoint);
  try {
    const head = formatPikaPosition(positionAt('', await server.ends()));
    await until('the log is applied', async () => coversPika(await markOf(pipeline), head), 90_000);
  } catch (cause) {
    throw new Error(pipeline.logs(), { cause });
  } finally {
    await server.close();
  }
}

realPika(
  'a real master that is killed and restarted, and workers that are killed: applied once, in order',
  async () => {
    await using pika = await RealPika.start();
    await using pipeline = await follow(pika);
    const writer = new Writer(pika, pipeline);
    pipeline.worker();
    pipeline.worker();
    for (let fault = 0; fault < 4; fault++) {
      await writer.rounds(ROUNDS);
      if (fault % 2 === 0) await pika.restart();
      else {
        await pipeline.workers.at(-2)?.kill();
        pipeline.worker();
      }
    }
    await writer.rounds(60);
    await caughtUp(pipeline, pika);
    expect(await pipeline.differences()).toEqual([]);
  },
  LONG_MS,
);

realPika(
  'two databases, one of them mapped: a FLUSHDB is for its own',
  async () => {
    await using pika = await RealPika.start({ databases: 2 });
    const sourceUrl = `pika://${pika.address}?db=db0,db1`;
    const args = ['--from', 'beginning', '--db-map', 'db1=5'];
    await using pipeline = await Pipeline.start({ lanes: 4, sourceUrl, args });
    pipeline.worker();
    const second = pika.connect();
    await second.select(1);
    const run = async (db: 0 | 1, name: string, ...args: string[]) => {
      await (db === 0 ? pika.client : second).call(name, ...args);
      await pipeline.oracle
        .client()
        .multi()
        .select(db === 0 ? 0 : 5)
        .call(name, ...args)
        .exec();
    };
    for (let i = 0; i < 200; i++) {
      await run(0, 'INCR', `n:${i % 9}`);
      await run(1, 'RPUSH', `l:${i % 9}`, String(i));
      if (i === 90) await run(0, 'FLUSHDB');
      if (i === 120) await run(1, 'FLUSHDB');
    }
    await caughtUp(pipeline, pika, sourceUrl);
    expect(await pipeline.differences()).toEqual([]);
  },
  LONG_MS,
);

realPika(
  'from now on: what was there before is left alone, and what comes is applied',
  async () => {
    await using pika = await RealPika.start();
    await pika.client.set('before', '1');
    await using pipeline = await follow(pika, 'now');
    pipeline.worker();
    await until('it has begun', async () => (await markOf(pipeline)) !== '');
    const writer = new Writer(pika, pipeline);
    await writer.rounds(20);
    await caughtUp(pipeline, pika);
    expect(await pipeline.differences()).toEqual([]);
  },
  LONG_MS,
);

realPika(
  'a master that has dropped a slave which was silent takes it back where it was',
  async () => {
    await using pika = await RealPika.start();
    await using pipeline = await follow(pika);
    const writer = new Writer(pika, pipeline);
    const worker = pipeline.worker();
    await writer.rounds(30);
    await caughtUp(pipeline, pika);
    worker.signal('SIGSTOP');
    await writer.rounds(10);
    await delay(SILENCE_MS);
    await until('the master has dropped it', async () =>
      /lag=\(db0:not syncing\)/.test(await pika.client.info('replication')),
    );
    worker.signal('SIGCONT');
    await writer.rounds(30);
    await caughtUp(pipeline, pika);
    expect(await pipeline.differences()).toEqual([]);
  },
  LONG_MS,
);

realPika(
  'an identity that another slave has is refused by name, and taken when that one is gone',
  async () => {
    await using pika = await RealPika.start();
    const options = { lanes: 4, sourceUrl: urlOf(pika) };
    const args = ['--from', 'beginning', '--pika-node', '127.0.0.1:30001'];
    await using first = await Pipeline.start({ ...options, args });
    await using second = await Pipeline.start({ ...options, args });
    first.worker();
    await new Writer(pika, first).rounds(5);
    await caughtUp(first, pika);
    second.worker();
    await until('it is refused', () => /Slave AlreadyExist/.test(second.logs())).catch((cause) => {
      throw new Error(second.logs(), { cause });
    });
    await first.workers[0]?.kill();
    await caughtUp(second, pika);
    expect(await second.target.client().dbsize()).toBe(await first.target.client().dbsize());
  },
  LONG_MS,
);

realPika(
  'when a slave of it becomes the master, the log goes on there',
  async () => {
    await using master = await RealPika.start();
    await using slave = await RealPika.start();
    await slave.client.call('SLAVEOF', '127.0.0.1', String(master.port));
    await until('the slave follows', async () =>
      /master_link_status:up/.test(await slave.client.info('replication')),
    );
    await using pipeline = await follow(master);
    const writer = new Writer(master, pipeline);
    const worker = pipeline.worker();
    await writer.rounds(60);
    await caughtUp(pipeline, master);
    await worker.kill();
    await writer.rounds(30);
    const ends = async (pika: RealPika) => {
      const server = new PikaServer(parsePikaUrl('--source', urlOf(pika)).endpoint);
      return formatPikaPosition(positionAt('', await server.ends().finally(() => server.close())));
    };
    const end = await ends(master);
    await until('the slave has all of it', async () => (await ends(slave)) === end);
    await master.kill();
    await slave.client.call('SLAVEOF', 'NO', 'ONE');
    pipeline.moveSource(urlOf(slave));
    pipeline.worker();
    await writer.rounds(30, slave);
    await caughtUp(pipeline, slave);
    expect(await pipeline.differences()).toEqual([]);
  },
  LONG_MS,
);

realPika(
  'the binlog files of a real Pika are applied, also while it runs',
  async () => {
    await using pika = await RealPika.start();
    await using pipeline = await Pipeline.start();
    await using run = await FileRun.create();
    const writer = new Writer(pika, pipeline);
    const source = `pika-binlog://${join(pika.dir, 'log', 'log_db0')}`;
    for (let part = 0; part < 2; part++) {
      await writer.rounds(40);
      const { code, stderr } = await run.run(source);
      expect(code, stderr).toBe(0);
      expect(await pipeline.differences(run.target)).toEqual([]);
    }
  },
  LONG_MS,
);
