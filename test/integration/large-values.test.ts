import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { encodeCommand } from '../../src/binlog/resp.ts';
import { parseLaneHeader } from '../../src/journal/item.ts';
import { Journal } from '../../src/journal/journal.ts';
import { everyCase } from '../support/cases.ts';
import { until } from '../support/faults.ts';
import { LivePipeline } from '../support/live-pipeline.ts';
import { Pipeline, type WorkerChild } from '../support/pipeline.ts';
import { FaultyProxy } from '../support/proxy.ts';
import type { RedisServer } from '../support/redis-server.ts';

// A minute and gigabytes each: LANEGATE_HEAVY=1 runs them.
const HEAVY = process.env.LANEGATE_HEAVY === '1';
const MIB = 1024 * 1024;
/** RESP's limit for a value, less what an item of the journal holds besides it. */
const LARGEST = 508 * MIB;
/** What the README says of a worker and of the queue's Redis: so many times the largest command. */
const WORKER_COPIES_MAX = 4;
const QUEUE_COPIES_MAX = 5;

interface Running {
  readonly source: RedisServer;
  readonly queue: RedisServer;
  readonly target: RedisServer;
  worker(): WorkerChild;
}

/** The most that a process has had in memory. */
function peakBytes(pid: number | undefined): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

/** Writes a value of so many bytes at the source of an idle pipeline, and waits until it is applied. */
async function apply(
  pipeline: Running,
  bytes: number,
  write: (key: string, value: Buffer) => Promise<unknown>,
): Promise<void> {
  const target = pipeline.target.client();
  const worker = pipeline.worker();
  // Behind the second one a live source streams.
  for (const key of ['a', 'b']) {
    await write(key, Buffer.from('1'));
    await until(`${key} is applied`, async () => (await target.exists(key)) === 1, 60_000);
  }
  const before = peakBytes(worker.process.pid);
  const sinceMs = performance.now();
  await write('big', Buffer.alloc(bytes, 'v'));
  await until('it is applied', async () => (await target.strlen('big')) === bytes, 400_000);
  const seconds = Math.round((performance.now() - sinceMs) / 1000);
  const more = peakBytes(worker.process.pid) - before;
  const queue = peakBytes(pipeline.queue.pid);
  const figures = `${bytes / MIB} MiB in ${seconds} s; more for the worker: ${Math.round(more / MIB)} MiB; the queue's Redis: ${Math.round(queue / MIB)} MiB`;
  if (HEAVY) console.log(figures);
  expect(more).toBeLessThan(WORKER_COPIES_MAX * bytes);
  expect(queue).toBeLessThan(QUEUE_COPIES_MAX * bytes);
  // Else the bytes went another way than the one that is measured.
  expect(more).toBeGreaterThan(bytes);
}

async function throughStream(bytes: number): Promise<void> {
  await using pipeline = await Pipeline.start({ lanes: 2 });
  const source = pipeline.source.client();
  await apply(pipeline, bytes, async (key, value) => {
    // First and last entry at once: XINFO STREAM sends both along.
    await source.xadd('binlog', 'MAXLEN', '=', 1, '*', 'resp', encodeCommand(['SET', key, value]));
  });
  await pipeline.caughtUp(60_000);
}

async function throughLink(bytes: number): Promise<void> {
  // A source drops its replicas over more than 256 MiB that they have not read, and sends a snapshot then.
  const sourceArgs = ['--client-output-buffer-limit', 'replica 0 0 0'];
  await using pipeline = await LivePipeline.start({ sourceArgs });
  const source = pipeline.source.client();
  await apply(pipeline, bytes, (key, value) => source.set(key, value));
}

everyCase('a value of 64 MiB in a stream takes a few times its memory', { timeout: 90_000 }, () =>
  throughStream(64 * MIB),
);

everyCase('a value of 64 MiB from a live source takes a few times its memory', { timeout: 90_000 }, () =>
  throughLink(64 * MIB),
);

test.runIf(HEAVY)('so does the largest value in a stream', { timeout: 420_000 }, () =>
  throughStream(LARGEST),
);

test.runIf(HEAVY)('so does the largest value from a live source', { timeout: 420_000 }, () =>
  throughLink(LARGEST),
);

test('the header of a huge item is known without a script that reads the item', async () => {
  await using pipeline = await Pipeline.start({ lanes: 1 });
  const queue = pipeline.queue.client();
  const journal = new Journal(pipeline.name, queue);
  const append = (value: string) =>
    pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'k', value]] }]);
  const notes = async () => (await queue.hget(journal.keys.state, 'heavy:0')) ?? '';
  const ingest = pipeline.worker({ args: ['--roles', 'ingest'] });
  await append('small');
  for (const letter of 'abc') await append(letter.repeat(5 * MIB));
  await until('they are in the journal', async () => (await queue.xlen(journal.keys.log(0))) === 4);
  await ingest.kill();

  const items = await queue.xrange(journal.keys.log(0), '-', '+');
  expect((await notes()).trim().split('\n')).toHaveLength(3);
  for (const [at, [id, fields]] of items.entries()) {
    await queue.config('RESETSTAT');
    const behind = at === 0 ? 0 : Number.parseInt(items[at - 1]?.[0] ?? '', 10);
    const [view] = (await journal.snapshot(1, [behind]))?.views ?? [];
    expect(view?.next).toEqual(parseLaneHeader(id, String(fields[1])));
    expect((await queue.info('commandstats')).includes('cmdstat_xrange')).toBe(at === 0);
  }

  // Where the log is gone the note must not hide it.
  await queue.rename(journal.keys.log(0), 'elsewhere');
  expect((await journal.snapshot(1, [1]))?.views[0]?.next).toBeUndefined();
  await queue.rename('elsewhere', journal.keys.log(0));

  pipeline.worker();
  await pipeline.caughtUp();
  await append('d'.repeat(5 * MIB));
  await pipeline.caughtUp();
  expect((await notes()).trim().split('\n')).toEqual([expect.stringMatching(/^4 5 b .* 4 5 1 0 0 0 /)]);
});

test('a lane whose items take longer to arrive than a turn is long goes on', async () => {
  let proxy: FaultyProxy | undefined;
  await using pipeline = await Pipeline.start({
    lanes: 1,
    queueUrl: async (queue) => {
      proxy = await FaultyProxy.start(queue.port);
      return proxy.url;
    },
  });
  await using slow = proxy as unknown as FaultyProxy;
  pipeline.worker();
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'a', '1']] }]);
  await pipeline.caughtUp();
  slow.latency(200);
  await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'b', '1']] }]);
  await until('it is applied', async () => (await pipeline.target.client().exists('b')) === 1, 40_000);
});
