import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';

// Minutes and gigabytes: LANEGATE_HEAVY=1 runs it.
const HEAVY = process.env.LANEGATE_HEAVY === '1';
const MIB = 1024 * 1024;
/** RESP's limit for a value, less the bytes that the stream entry puts around the command. */
const VALUE_BYTES = 512 * MIB - 4096;
/** The value in the source's reply, in the round, in the lane's item and on its way to the target, and a process. */
const RSS_BYTES_MAX = 6 * 512 * MIB;

/** The most that the process has had in memory. */
function peakRssBytes(pid: number): number {
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;
}

test.runIf(HEAVY)(
  'a value of 512 MiB is applied within bounded memory, or refused by a limit that is named',
  { timeout: 420_000 },
  async () => {
    await using pipeline = await Pipeline.start({ lanes: 2 });
    const worker = pipeline.worker();
    const value = Buffer.alloc(VALUE_BYTES, 'v');
    const head = Buffer.from(`*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$${value.length}\r\n`);
    const resp = Buffer.concat([head, value, Buffer.from('\r\n')]);
    await pipeline.source.client().call('XADD', 'binlog', '*', 'resp', resp);
    await pipeline.append([{ db: 0, timeMs: Date.now(), commands: [['SET', 'small', '1']] }]);
    const env = { LANEGATE_NAME: pipeline.name, LANEGATE_QUEUE: pipeline.queue.url };
    const end = await until(
      'it is applied or refused',
      async () => {
        if ((await pipeline.target.client().strlen('big')) === value.length) return 'applied';
        const { stdout } = await lanegate(['errors', '--json'], { env });
        const { stops } = JSON.parse(stdout) as { stops: { reason: string; hint: string }[] };
        return stops[0] === undefined ? undefined : `refused: ${stops[0].reason} (${stops[0].hint})`;
      },
      400_000,
    );
    const rss = peakRssBytes(worker.process.pid as number);
    console.log(`${end}; the worker had ${Math.round(rss / MIB)} MiB at most`);
    expect(end).toMatch(/^applied$|more than \d+ bytes/);
    expect(rss).toBeLessThan(RSS_BYTES_MAX);
    if (end === 'applied') await pipeline.caughtUp(60_000);
  },
);
