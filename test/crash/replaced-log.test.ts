import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { Pipeline, type WorkerChild } from '../support/pipeline.ts';

// A live source whose backlog no longer reaches: another full sync, in the middle of work. Counters show it when anything
// of the old log comes behind the FLUSHALL of the new one, for the snapshot holds what they have counted already.

const COUNTERS = 24;
/** Between two rounds of the traffic. */
const PAUSE_MS = 4;
const APPLIED_MS_MAX = 60_000;
const IDENTITY = 'lanegate:test:identity';
const MARK = 'lanegate:test:mark';
const JOURNAL = '{lanegate-test}:journal';

class Live implements AsyncDisposable {
  readonly pipeline: Pipeline;
  #writing = true;
  readonly #written: Promise<void>;

  private constructor(pipeline: Pipeline) {
    this.pipeline = pipeline;
    this.#written = this.#write();
  }

  static async start(): Promise<Live> {
    const pipeline = await Pipeline.start({ lanes: 4, live: true });
    const source = pipeline.source.client();
    await source.config('SET', 'repl-backlog-size', '16kb');
    await source.config('SET', 'repl-diskless-sync-delay', '0');
    return new Live(pipeline);
  }

  worker(roles: string, failpoint?: string): WorkerChild {
    const { pipeline } = this;
    const args = ['--roles', roles];
    return pipeline.worker(failpoint === undefined ? { args } : { args, failpoint });
  }

  /** The link breaks, and what follows is more than the source keeps for those who come back. */
  async replaceLog(): Promise<void> {
    const source = this.pipeline.source.client();
    const more = source.pipeline().call('CLIENT', 'KILL', 'TYPE', 'replica');
    await more.set('large', 'x'.repeat(100_000)).exec();
  }

  /** 1 before the first full sync, and one more with each. */
  async generation(): Promise<number> {
    const text = await this.pipeline.target.client().get(IDENTITY);
    return text === null ? 0 : Number.parseInt((JSON.parse(text) as { generation: string }).generation, 10);
  }

  async generationIs(wanted: number): Promise<void> {
    await until(`generation ${wanted} is in force`, async () => (await this.generation()) === wanted).catch(
      (cause: unknown) => {
        throw new Error(this.pipeline.logs(), { cause });
      },
    );
  }

  /** Commands of the stream in the journal that no lane has applied. */
  async unapplied(): Promise<number> {
    const { queue, target } = this.pipeline;
    const [head, position = ''] = await queue.client().hmget(JOURNAL, 'head', 'position');
    if (!/^[0-9a-f]{40}:/.test(position ?? '')) return 0;
    const checkpoints = await target.client().mget([0, 1, 2, 3].map((lane) => `lanegate:test:ck:${lane}`));
    return Number(head) - Math.max(...checkpoints.map((text) => Number(text?.split(':')[1])));
  }

  async stops(): Promise<Record<string, string>> {
    return await this.pipeline.queue.client().hgetall('{lanegate-test}:stops');
  }

  /** Nothing is written any more, and the target has all of it, once. */
  async endsEqual(): Promise<void> {
    const { source, target } = this.pipeline;
    this.#writing = false;
    await this.#written;
    const end = Number(/^master_repl_offset:(\d+)/m.exec(await source.client().info('replication'))?.[1]);
    const isApplied = async () => {
      const { position } = JSON.parse((await target.client().get(MARK)) ?? '{}') as { position?: string };
      return Number(/^[0-9a-f]{40}:(\d+)/.exec(position ?? '')?.[1]) >= end;
    };
    await until('all of it is applied', isApplied, APPLIED_MS_MAX).catch((cause: unknown) => {
      throw new Error(this.pipeline.logs(), { cause });
    });
    expect(Number(await source.client().get('n:0'))).toBeGreaterThan(0);
    expect(await compareServers(source.url, target.url)).toEqual([]);
    expect(await this.stops()).toEqual({});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#writing = false;
    await this.#written;
    await this.pipeline[Symbol.asyncDispose]();
  }

  async #write(): Promise<void> {
    const source = this.pipeline.source.client();
    for (let round = 0; this.#writing; round++) {
      const batch = source.pipeline();
      for (let i = 0; i < COUNTERS; i++) batch.incr(`n:${i}`);
      batch.rpush(`l:${round % 5}`, round).mset('m:1', round, 'm:2', round);
      await Promise.all([batch.exec(), delay(PAUSE_MS)]);
    }
  }
}

async function reaches(worker: WorkerChild, failpoint: string, { pipeline }: Live): Promise<void> {
  await until(`${failpoint} is reached`, () => worker.reached.includes(failpoint)).catch((cause: unknown) => {
    throw new Error(pipeline.logs(), { cause });
  });
}

describe('a log that replaces another while the lanes are at work', { timeout: 120_000 }, () => {
  everyCase('does not wait for them, and nothing of the old one is applied behind its FLUSHALL', async () => {
    await using live = await Live.start();
    live.worker('ingest');
    const lanes = live.worker('lanes,gate', 'between-multi-and-exec=stop@12');
    await reaches(lanes, 'between-multi-and-exec', live);
    await until('the lanes are behind', async () => (await live.unapplied()) > 2_000);
    expect(await live.generation()).toBe(2);
    await live.replaceLog();
    await live.generationIs(3);
    lanes.signal('SIGCONT');
    await live.endsEqual();
    expect((await live.pipeline.counters()).fenced).toBeGreaterThanOrEqual(1);
    expect(lanes.running).toBe(true);
  });

  test('after-replacing-the-log=kill: the target has the new generation, the journal the old log', async () => {
    await using live = await Live.start();
    const doomed = live.worker('ingest', 'after-replacing-the-log=kill@2');
    const lanes = live.worker('lanes,gate', 'between-multi-and-exec=stop@12');
    await reaches(lanes, 'between-multi-and-exec', live);
    await until('the lanes are behind', async () => (await live.unapplied()) > 2_000);
    await live.replaceLog();
    await doomed.exit();
    expect(doomed.reached).toEqual(['after-replacing-the-log']);
    expect(await live.generation()).toBe(3);
    lanes.signal('SIGCONT');
    live.worker('ingest,lanes,gate');
    await live.endsEqual();
  });

  everyCase(
    'before-raise=stop: who sleeps inside that EXEC until another one has replaced the log is fenced',
    async () => {
      await using live = await Live.start();
      const zombie = live.worker('ingest', 'before-raise=stop@2');
      live.worker('lanes,gate');
      await live.generationIs(2);
      await until('the stream is read', async () => {
        const position = await live.pipeline.queue.client().hget(JOURNAL, 'position');
        return /^[0-9a-f]{40}:/.test(position ?? '');
      });
      await live.replaceLog();
      await reaches(zombie, 'before-raise', live);
      expect(await live.generation()).toBe(2);
      live.worker('ingest');
      await live.generationIs(3);
      zombie.signal('SIGCONT');
      await live.endsEqual();
      expect(zombie.running).toBe(true);
    },
  );
});
