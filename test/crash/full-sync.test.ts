import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { aofBytes, loseAofBehind, until } from '../support/faults.ts';
import { type LiveOptions, LivePipeline } from '../support/live-pipeline.ts';
import { Traffic } from '../support/live-traffic.ts';
import type { WorkerChild } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';

// A full sync that is broken at any moment ends as one that was not: nothing missing, nothing stale, nothing twice.
// LANEGATE_HEAVY=1 adds every phase on every machine, a data set far larger than memory, and more rounds of chaos.

const HEAVY = process.env.LANEGATE_HEAVY === '1';
const KEYS = 1_000;
const VALUE_BYTES = 8_000;

interface Scene {
  readonly pipeline: LivePipeline;
  readonly traffic: Traffic;
}

/** Some megabytes at the source, and writers that do not stop. */
async function prepared(seed: number, options: LiveOptions = {}): Promise<Scene> {
  // The journal holds a part of the snapshot and not all of it: what is lost with a machine has to be asked for again.
  const small = ['--lanes', '4', '--budget-bytes', '1MiB', '--round-bytes', '256KiB'];
  const pipeline = await LivePipeline.start({ ...options, args: [...small, ...(options.args ?? [])] });
  const redis = pipeline.source.client();
  await redis.config('SET', 'rdbcompression', 'no');
  await redis.call('DEBUG', 'POPULATE', KEYS, 'bulk', VALUE_BYTES);
  // Nothing that would make the snapshot small.
  const traffic = new Traffic(pipeline.source, { seed, global: 0 });
  await traffic.more(300);
  return { pipeline, traffic };
}

/** What an earlier attempt may have brought over is not there any more. */
async function removeAtSource({ pipeline }: Scene): Promise<void> {
  const keys = Array.from({ length: KEYS / 2 }, (_, i) => `bulk:${2 * i}`);
  for (const db of [0, 1, 2, 3])
    await pipeline.source
      .client()
      .pipeline()
      .select(db)
      .unlink(...keys)
      .exec();
  await pipeline.source.client().select(0);
}

async function endsEqual({ pipeline, traffic }: Scene): Promise<void> {
  await until('the stream is read', () => pipeline.isStreaming(), 40_000).catch((cause) => {
    throw new Error(pipeline.logs(), { cause });
  });
  await traffic.more(200);
  await pipeline.source.client().pipeline().swapdb(0, 2).select(3).flushdb().select(0).exec();
  await traffic.more(200);
  await traffic.stop();
  await pipeline.equals();
}

async function reaches(worker: WorkerChild, failpoint: string): Promise<void> {
  await until(`${failpoint} is reached`, () => worker.reached.length > 0, 30_000).catch((cause) => {
    throw new Error(worker.output.slice(-3_000), { cause });
  });
}

interface Death {
  readonly when: string;
  readonly failpoint?: string;
  readonly sourceArgs?: readonly string[];
  /** Seen from outside, where no failpoint is. */
  readonly seen?: (pipeline: LivePipeline) => Promise<boolean>;
  /** The generation in which it ends when another machine goes on: 3 where the snapshot was lost with the first. */
  readonly elsewhereIn: 2 | 3;
  /** And on the same machine, where that is certain. */
  readonly hereIn?: 2 | 3;
  /** The others are a step beside one of these. */
  readonly always?: true;
}

const DEATHS: readonly Death[] = [
  {
    when: 'while the source prepares its snapshot',
    sourceArgs: ['--repl-diskless-sync-delay', '3'],
    seen: async ({ source }) =>
      /^slave0:.*state=wait_bgsave/m.test(await source.client().info('replication')),
    elsewhereIn: 2,
    hereIn: 2,
  },
  {
    when: 'while the snapshot arrives',
    sourceArgs: ['--rdb-key-save-delay', '2000'],
    seen: async (pipeline) =>
      (await pipeline.generation()) === 2 &&
      pipeline.spooled().some(({ name, bytes }) => name.endsWith('.part') && bytes > 0),
    elsewhereIn: 3,
    hereIn: 3,
    always: true,
  },
  { when: 'when the new log is durable', failpoint: 'after-replacing-the-log=kill', elsewhereIn: 3 },
  { when: 'with the FLUSHALL in hand', failpoint: 'before-commit=kill@1', elsewhereIn: 3 },
  { when: 'when the FLUSHALL has run', failpoint: 'gate-after-exec=kill@1', elsewhereIn: 3 },
  { when: 'with keys in hand', failpoint: 'before-commit=kill@4', elsewhereIn: 3 },
  {
    when: 'with keys in the journal that no lane knows of',
    failpoint: 'after-commit-before-announce=kill@4',
    elsewhereIn: 3,
  },
  {
    when: 'with keys that nobody knows are applied',
    failpoint: 'after-exec-before-reply=kill@6',
    elsewhereIn: 3,
  },
  { when: 'in the stream', seen: (pipeline) => pipeline.isStreaming(), elsewhereIn: 2, hereIn: 2 },
];

const CASES = DEATHS.flatMap((death, at) => {
  const here = { ...death, machine: 'machine', where: 'the same machine', seed: 100 + at };
  const elsewhere = { ...here, machine: 'other', where: 'another machine', seed: 200 + at };
  if (HEAVY) return [here, elsewhere];
  return [at % 2 === 0 ? here : elsewhere];
});

describe.concurrent('a process that is killed in a full sync', () => {
  for (const death of CASES)
    (death.always ? test : everyCase)(`${death.when}, and followed on ${death.where}`, () =>
      isFollowed(death),
    );
});

async function isFollowed(death: (typeof CASES)[number]): Promise<void> {
  const { sourceArgs = [], failpoint, seen, machine } = death;
  const scene = await prepared(death.seed, { sourceArgs });
  const { pipeline } = scene;
  await using _ = pipeline;
  const doomed = pipeline.worker(failpoint === undefined ? {} : { failpoint });
  if (failpoint !== undefined) await reaches(doomed, failpoint);
  else await until('it is there', () => (seen as (p: LivePipeline) => Promise<boolean>)(pipeline));
  await doomed.kill();
  expect(doomed.process.signalCode).toBe('SIGKILL');
  await removeAtSource(scene);
  await pipeline.source.client().config('SET', 'repl-diskless-sync-delay', 0, 'rdb-key-save-delay', 0);
  pipeline.worker({ machine });
  await endsEqual(scene);
  const ended = await pipeline.generation();
  const expected = machine === 'machine' ? death.hereIn : death.elsewhereIn;
  expect(ended).toBe(expected ?? ended);
}

describe.concurrent('a full sync goes on', () => {
  everyCase('when a lane worker is killed, another time with all the rest', async () => {
    const scene = await prepared(301);
    const { pipeline, traffic } = scene;
    await using _ = pipeline;
    pipeline.worker({ args: ['--roles', 'ingest'] });
    const lanes = ['--roles', 'lanes,gate'];
    const doomed = pipeline.worker({
      args: lanes,
      failpoint: 'after-exec-before-reply=kill@5',
    });
    await reaches(doomed, 'after-exec-before-reply');
    const rounds = HEAVY ? 12 : 2;
    for (let round = 0; round < rounds; round++) {
      const machine = `machine-${randomInt(2)}`;
      pipeline.worker({ args: lanes });
      pipeline.worker({ machine });
      await traffic.more(100 + randomInt(600));
      await Promise.all(pipeline.workers.map((worker) => worker.kill()));
      await removeAtSource(scene);
    }
    pipeline.worker({ machine: 'machine-0' });
    await endsEqual(scene);
  });

  test('behind a process that stood still in the middle of it, and comes back with what it had in hand', async () => {
    const scene = await prepared(302);
    const { pipeline } = scene;
    await using _ = pipeline;
    const zombie = pipeline.worker({ failpoint: 'between-multi-and-exec=stop@5' });
    await reaches(zombie, 'between-multi-and-exec');
    await removeAtSource(scene);
    pipeline.worker({ machine: 'other' });
    await until('another log is read', async () => (await pipeline.generation()) === 3, 30_000);
    zombie.signal('SIGCONT');
    await endsEqual(scene);
    expect(zombie.running).toBe(true);
  });

  everyCase("when the queue's Redis is emptied in the middle of it", async () => {
    const scene = await prepared(303);
    const { pipeline } = scene;
    await using _ = pipeline;
    const ingest = pipeline.worker({ failpoint: 'after-commit-before-announce=stop@4' });
    await reaches(ingest, 'after-commit-before-announce');
    await pipeline.queue.client().flushall();
    ingest.signal('SIGCONT');
    await endsEqual(scene);
  });

  everyCase(
    'when the target is killed in the middle of it and comes back without the end of its AOF',
    async () => {
      const scene = await prepared(304, { targetArgs: ['--appendonly', 'yes'] });
      const { pipeline } = scene;
      await using _ = pipeline;
      const { target } = pipeline;
      const ingest = pipeline.worker({
        args: ['--roles', 'ingest'],
        failpoint: 'after-commit-before-announce=stop@4',
      });
      await reaches(ingest, 'after-commit-before-announce');
      const bytes = await aofBytes(target);
      pipeline.worker({ args: ['--roles', 'lanes,gate'] });
      await until('keys are applied', async () => (await aofBytes(target)) > bytes + 500_000);
      await target.kill();
      expect(await loseAofBehind(target, bytes, { torn: false })).toBeGreaterThan(0);
      await target.restart();
      ingest.signal('SIGCONT');
      await endsEqual(scene);
    },
  );

  everyCase('through OOM, READONLY and cut connections at the target', async () => {
    let proxy: FaultyProxy | undefined;
    const scene = await prepared(305, {
      targetUrl: async ({ port }) => {
        proxy = await FaultyProxy.start(port);
        return proxy.url;
      },
    });
    const { pipeline } = scene;
    await using _ = pipeline;
    await using between = proxy as unknown as FaultyProxy;
    const target = pipeline.target.client();
    const ingest = pipeline.worker({
      args: ['--roles', 'ingest'],
      failpoint: 'after-commit-before-announce=stop@4',
    });
    await reaches(ingest, 'after-commit-before-announce');
    const waiting = (code: string) =>
      until(`somebody waits because of ${code}`, async () => {
        const all = await pipeline.queue.client().hvals('{lanegate-test}:waiting');
        return all.some((text) => (JSON.parse(text) as { code: string }).code === code);
      });
    await target.config('SET', 'maxmemory', 1);
    pipeline.worker({ args: ['--roles', 'lanes,gate'] });
    await waiting('OOM');
    await target.config('SET', 'maxmemory', 0);
    await target.replicaof('127.0.0.1', 1);
    await waiting('READONLY');
    await target.replicaof('NO', 'ONE');
    ingest.signal('SIGCONT');
    for (let cut = 0; cut < 8; cut++) {
      const { accepted } = between;
      between.cutAll();
      await until('they are there again', () => between.accepted > accepted);
    }
    await endsEqual(scene);
  });

  everyCase('when the link breaks in the middle of the snapshot, with another one', async () => {
    let proxy: FaultyProxy | undefined;
    const scene = await prepared(306, {
      sourceArgs: ['--rdb-key-save-delay', '1000'],
      sourceUrl: async ({ port }) => {
        proxy = await FaultyProxy.start(port);
        return proxy.url;
      },
    });
    const { pipeline } = scene;
    await using _ = pipeline;
    await using between = proxy as unknown as FaultyProxy;
    pipeline.worker();
    for (let cut = 0; cut < 3; cut++) {
      const [known] = pipeline.spooled().map(({ path }) => path);
      await until('some of it is here', () =>
        pipeline.spooled().some(({ path, bytes }) => path !== known && path.endsWith('.part') && bytes > 0),
      );
      between.cutAll();
      await removeAtSource(scene);
    }
    await pipeline.source.client().config('SET', 'rdb-key-save-delay', 0);
    await endsEqual(scene);
    expect(await pipeline.generation()).toBeGreaterThanOrEqual(4);
  });
});

everyCase('a spool that is full holds the source back, says so, and goes on when there is room', async () => {
  const spoolMax = 8 * 1024 * 1024;
  await using pipeline = await LivePipeline.start({
    args: ['--lanes', '4', '--budget-bytes', '1MiB', '--spool-max', '8MiB'],
    sourceArgs: ['--client-output-buffer-limit', 'replica 0 0 0', '--repl-backlog-size', '256mb'],
  });
  const redis = pipeline.source.client();
  await redis.call('DEBUG', 'POPULATE', 200, 'bulk', 5_000);
  pipeline.worker({ args: ['--roles', 'ingest'] });
  await until('another log is read', async () => (await pipeline.read()).startsWith('snap:'), 40_000);
  for (let i = 0; i < 80; i++) {
    const batch = redis.pipeline();
    for (let j = 0; j < 10; j++) batch.set(`big:${j}`, Buffer.alloc(100_000, i));
    await batch.exec();
  }
  await until('it says so', () => /--spool-max/.test(pipeline.logs()));
  expect(pipeline.spooled().reduce((sum, { bytes }) => sum + bytes, 0)).toBeLessThanOrEqual(spoolMax);
  pipeline.worker({ args: ['--roles', 'lanes,gate'] });
  await pipeline.equals();
});

test.runIf(HEAVY)(
  'a data set of 400 MB goes through a worker that may have a tenth of it',
  { timeout: 300_000 },
  async () => {
    await using pipeline = await LivePipeline.start({ args: ['--lanes', '4'] });
    const redis = pipeline.source.client();
    await redis.config('SET', 'rdbcompression', 'no');
    await redis.call('DEBUG', 'POPULATE', 400_000, 'bulk', 1_000);
    const traffic = new Traffic(pipeline.source, { seed: 400, global: 0 });
    const worker = pipeline.worker({ env: { NODE_OPTIONS: '--max-old-space-size=40' } });
    await until('the stream is read', () => pipeline.isStreaming(), 200_000);
    await traffic.more(500);
    await traffic.stop();
    await pipeline.caughtUp();
    const peakKiB = Number(
      /^VmHWM:\s*(\d+) kB/m.exec(readFileSync(`/proc/${worker.process.pid}/status`, 'utf8'))?.[1],
    );
    expect(peakKiB).toBeGreaterThan(0);
    expect(peakKiB).toBeLessThan(250 * 1024);
    await until('the spool is released', () =>
      pipeline.spooled().every(({ name }) => name !== 'snapshot.rdb'),
    );
    const both = ['--source', pipeline.source.url, '--target', pipeline.target.url, '--ttl-grace', '3600'];
    const { code, stdout, stderr } = await lanegate(['verify', ...both]);
    expect(code, stdout + stderr).toBe(0);
  },
);
