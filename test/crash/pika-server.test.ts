import { expect, test } from 'vitest';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { PIKA_PROGRAM, RealPika } from '../support/real-pika.ts';
import type { LoggedEntry } from '../support/workload.ts';

// The gate's recorded intent on a real Pika, where there is one (support/real-pika).

test.skipIf(PIKA_PROGRAM === undefined)(
  'rounds of SET, SET, FLUSHDB, SET into a real Pika, with a worker that dies at every step of a flush, end as they must',
  async () => {
    await using pika = await RealPika.start();
    const targetUrl = async () => `redis://127.0.0.1:${pika.port}`;
    await using pipeline = await Pipeline.start({ lanes: 3, args: ['--accept-weaker-guarantee'], targetUrl });
    const rounds = 40;
    const entries = Array.from({ length: rounds }, (_, round): LoggedEntry => {
      const before = [
        ['SET', 'key1', `a${round}`],
        ['SET', 'key1', 'b'],
        ['INCR', `n${round % 5}`],
        ['FLUSHDB'],
      ];
      const behind = [
        ['SET', 'key1', `c${round}`],
        ['INCR', 'n'],
        ['RPUSH', 'l', `${round}`],
      ];
      const more = [
        ['SADD', 'x', `${round}`],
        ['SUNIONSTORE', 'y', 'x', 'z'],
        ['SET', 'e', 'v', 'EX', '5000'],
      ];
      return { db: 0, timeMs: Date.now(), commands: [...before, ...behind, ...more] };
    });
    const feed = new Feed(pipeline, entries);
    for (const step of ['recorded', 'placed', 'fenced', 'sent', 'restored']) {
      const doomed = pipeline.worker({ failpoint: `flush-${step}=kill@2` });
      await feed.next(0.19);
      await until(`flush-${step} is reached`, () => doomed.reached.length > 0, 60_000).catch((cause) => {
        throw new Error(pipeline.logs(), { cause });
      });
      await doomed.exit();
    }
    pipeline.worker();
    await feed.rest();
    const mark = async () =>
      JSON.parse((await pika.client.get('lanegate:test:mark')) ?? '{"mark":0}').mark as number;
    const last = rounds * 10;
    await until('all of it is applied', async () => (await mark()) >= last, 120_000);
    const end = rounds - 1;
    expect(await pika.client.get('key1')).toBe(`c${end}`);
    expect(await pika.client.get('n')).toBe('1');
    expect(await pika.client.lrange('l', 0, -1)).toEqual([String(end)]);
    expect(await pika.client.smembers('y')).toEqual([String(end)]);
    expect(await pika.client.ttl('e')).toBeGreaterThan(4_000);
    const left = (await pika.client.keys('*')).filter((key) => !key.startsWith('lanegate:'));
    expect(left.sort()).toEqual(['e', 'key1', 'l', 'n', 'x', 'y']);
    expect(pika.isRunning).toBe(true);
  },
  300_000,
);
