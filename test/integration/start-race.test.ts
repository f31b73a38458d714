import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';

describe('a fresh pipeline', () => {
  everyCase(
    'three workers that start at once with one command line: one begins it, none is refused',
    async () => {
      for (let round = 0; round < 3; round++) {
        await using pipeline = await Pipeline.start({ lanes: 4 });
        await pipeline.append([
          { db: 0, timeMs: Date.now(), commands: [['SET', 'a', '1'], ['FLUSHDB'], ['SET', 'a', '2']] },
        ]);
        for (let at = 0; at < 3; at++) pipeline.worker({ args: ['--from', 'beginning'] });
        await pipeline.caughtUp();
        const registered = () => pipeline.queue.client().hlen('{lanegate-test}:workers');
        await until('all three work', async () => (await registered()) === 3);
        expect(
          pipeline.workers.every(({ running }) => running),
          pipeline.logs(),
        ).toBe(true);
        expect(pipeline.logs()).not.toMatch(/"level":(50|60)/);
        expect(await pipeline.target.client().get('a')).toBe('2');
        expect(pipeline.logs().split('the pipeline begins').length).toBe(2);
      }
    },
  );

  test('a worker that waits for the queue at its start ends at the first SIGTERM', async () => {
    await using pipeline = await Pipeline.start();
    await pipeline.queue.kill();
    const worker = pipeline.worker();
    await until('it waits', () => worker.output.includes("waiting for the queue's Redis"));
    await worker.kill('SIGTERM');
    expect(worker.process.exitCode, worker.output).toBe(0);
  });

  test('ingest, lanes and gate in three processes apply a workload with gates', async () => {
    await using pipeline = await Pipeline.start({ lanes: 4 });
    for (const role of ['ingest', 'lanes', 'gate']) pipeline.worker({ args: ['--roles', role] });
    const commands = Array.from({ length: 200 }, (_, at) => {
      if (at % 25 === 24) return ['FLUSHDB'];
      return at % 10 === 9 ? ['RENAME', `k${at - 1}`, `r${at}`] : ['SET', `k${at}`, `${at}`];
    });
    const oracle = pipeline.oracle.client();
    for (const [name = '', ...args] of commands) await oracle.call(name, ...args);
    await pipeline.append(commands.map((command) => ({ db: 0, timeMs: Date.now(), commands: [command] })));
    await pipeline.caughtUp();
    expect(await pipeline.differences()).toEqual([]);
    expect((await pipeline.counters()).gates).toBeGreaterThan(0);
    const { stdout } = await lanegate(['status', '--json', ...pipeline.urls]);
    const { workers } = JSON.parse(stdout) as { workers: { roles: string[] }[] };
    expect(workers.flatMap(({ roles }) => roles).sort()).toEqual(['gate', 'ingest', 'lanes']);
  });
});
