import { expect } from 'vitest';
import { SmallDisk } from '../chaos/disk.ts';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// More than fits: into the queue's memory, which ingest must not fill up, and onto the disks of queue and target.

const MIB = 1024 * 1024;
const JOURNAL = '{lanegate-test}:journal';

everyCase(
  '24: a backlog larger than the memory of the queue: ingest stops in time, and goes on when the target does',
  async () => {
    await using pipeline = await Pipeline.start({
      lanes: 2,
      queueArgs: ['--maxmemory', '24mb'],
      args: ['--budget-bytes', '4MiB', '--retention-bytes', '2MiB', '--round-bytes', '262144'],
    });
    const [queue, oracle] = [pipeline.queue.client(), pipeline.oracle.client()];
    pipeline.worker({ env: { NODE_OPTIONS: '--max-old-space-size=128' } });
    await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'first', '1']] }]);
    await oracle.set('first', '1');
    await pipeline.caughtUp();
    pipeline.target.stop();
    const value = 'v'.repeat(16_384);
    for (let entry = 0; entry < 200; entry++) {
      const commands = Array.from({ length: 16 }, (_, at) => ['APPEND', `k:${(entry + at) % 97}`, value]);
      await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
      for (const [, key = '', text = ''] of commands) await oracle.append(key, text);
    }
    const memory = async (field: string) =>
      Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(await queue.info('memory'))?.[1]);
    expect(await pipeline.source.client().memory('USAGE', 'binlog', 'SAMPLES', 0)).toBeGreaterThan(40 * MIB);
    await until('ingest waits for room', async () => (await queue.hget(JOURNAL, 'backpressure')) === '1');
    const head = await queue.hget(JOURNAL, 'head');
    expect(await memory('used_memory')).toBeLessThan(20 * MIB);
    expect(await queue.info('errorstats')).not.toMatch(/errorstat_OOM/);
    pipeline.target.cont();
    await pipeline.caughtUp();
    expect(Number(await queue.hget(JOURNAL, 'head'))).toBeGreaterThan(Number(head));
    expect(await pipeline.differences()).toEqual([]);
    expect(await queue.hgetall('{lanegate-test}:stops')).toEqual({});
    // Now nothing at all can be written: what is applied goes, though it should be kept for a while; what is not stays.
    const log = async (commands: string[][]) => {
      await pipeline.append([{ db: 0, timeMs: Date.now(), commands }]);
      for (const [name = '', ...args] of commands) await oracle.call(name, ...args);
    };
    await log(Array.from({ length: 64 }, (_, at) => ['SET', `k:${at}`, value]));
    await pipeline.caughtUp();
    const id = await queue.hget(JOURNAL, 'id');
    const lane = async (verb: string) =>
      expect(await lanegate(['lane', verb, '0', ...pipeline.urls])).toMatchObject({ code: 0 });
    await lane('pause');
    const before = Number(await queue.hget(JOURNAL, 'head'));
    await log(Array.from({ length: 40 }, (_, at) => ['APPEND', `k:${at}`, 'more']));
    await until(
      'it is in the journal',
      async () => Number(await queue.hget(JOURNAL, 'head')) === before + 40,
    );
    await queue.config('SET', 'maxmemory', (await memory('used_memory')) - 256 * 1024);
    await until('what is applied is dropped', () => pipeline.logs().includes('is out of memory'));
    await queue.config('SET', 'maxmemory', '24mb');
    await lane('resume');
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    // Nothing had to be read again.
    expect(await queue.hget(JOURNAL, 'id')).toBe(id);
  },
);

everyCase(
  '25: the disk of the queue is full, then that of the target: nothing is stopped, and it goes on when there is room',
  {
    timeout: 180_000,
  },
  async ({ skip }) => {
    await using queueDisk = await SmallDisk.mount(24);
    await using targetDisk = await SmallDisk.mount(24);
    if (queueDisk === undefined || targetDisk === undefined) return skip('no right to mount a tmpfs here');
    await using pipeline = await Pipeline.start({
      lanes: 4,
      queueArgs: ['--dir', queueDisk.dir],
      targetArgs: ['--dir', targetDisk.dir, '--appendonly', 'yes'],
    });
    const options = { seed: 2501, commands: 900, global: 8, crossing: 60 };
    const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), options));
    pipeline.worker();
    pipeline.worker();
    await feed.next(0.2);
    await pipeline.caughtUp(60_000);
    const refuses = async (server: 'queue' | 'target') =>
      /^errorstat_MISCONF:count=[1-9]/m.test(await pipeline[server].client().info('errorstats'));
    for (const [server, disk] of [
      ['queue', queueDisk],
      ['target', targetDisk],
    ] as const) {
      await disk.fill();
      await feed.while(0.3, () => until(`the ${server} refuses to write`, () => refuses(server)));
      await until('it is said', () => /MISCONF/.test(pipeline.logs()));
      disk.free();
      await feed.next(0.05);
      await pipeline.caughtUp(60_000);
    }
    await feed.rest();
    await pipeline.caughtUp(60_000);
    expect(await pipeline.queue.client().hgetall('{lanegate-test}:stops')).toEqual({});
    expect(await pipeline.differences()).toEqual([]);
  },
);
