import { expect, test } from 'vitest';
import { until } from '../support/faults.ts';
import { LivePipeline } from '../support/live-pipeline.ts';
import { Traffic } from '../support/live-traffic.ts';

// lanegate as a replica of a live server, seen from outside: real workers between real servers, compared with a real
// replica of the same source.

test('what many applications do at once is at the target as it is at a replica', async () => {
  await using pipeline = await LivePipeline.start();
  const traffic = new Traffic(pipeline.source, { seed: 1 });
  await traffic.more(3_000);
  pipeline.worker({ args: ['--lanes', '4'] });
  pipeline.worker();
  await until('the stream is read', () => pipeline.isStreaming());
  await traffic.more(10_000);
  await traffic.stop();
  await pipeline.equals();
  expect((await pipeline.counters()).divergences ?? 0).toBe(0);
});
