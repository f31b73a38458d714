import { firstStop } from '../roles/caught-up.ts';
import { sleep } from '../runtime/backoff.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import type { PipelineStatus } from '../status.ts';
import type { CommandContext } from './context.ts';
import { type OpenPipeline, withPipeline } from './open-pipeline.ts';
import { stopText } from './stop-text.ts';

const POLL_MS = 200;
const NO_INGEST_MS = 10_000;
const LANES_MAX = 256;

/** Asks the ingest for another number of lanes, and waits until target and journal have it. */
export async function relane(context: CommandContext): Promise<number> {
  const { positionals, config, stdout, stderr } = context;
  const lanes = readLanes(positionals[0] ?? '');
  return await withPipeline(context, async (pipeline) => {
    const { redis, journal } = pipeline;
    const inForce = await journal.inForce();
    if (inForce === undefined) {
      throw new StopError('NOT_BEGUN', `the queue knows nothing of pipeline "${config.name}"`, {
        hint: `the first start takes the number of lanes: lanegate run --lanes ${lanes}`,
      });
    }
    // Also when it has that number already: an earlier request may be waiting, and this one takes its place.
    await redis.hset(journal.keys.control, 'relane', lanes);
    const done = await waitFor(context, pipeline, lanes);
    if (done) {
      stdout.write(`pipeline ${config.name} has ${lanes} lanes\n`);
      return 0;
    }
    stderr.write(
      `lanegate relane: still ${inForce.lanes} lanes after ${config.timeout} s; the request stands: ` +
        `ingest follows it once all lanes are drained\n  to take it back: lanegate relane ${inForce.lanes}\n`,
    );
    return 1;
  });
}

function readLanes(text: string): number {
  const lanes = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (lanes >= 1 && lanes <= LANES_MAX) return lanes;
  throw new ConfigurationError([
    `relane: ${JSON.stringify(text)} is not a number of lanes from 1 to ${LANES_MAX}`,
  ]);
}

async function waitFor(
  { config, signal, stderr }: CommandContext,
  { redis, journal, observer }: OpenPipeline,
  lanes: number,
): Promise<boolean> {
  const beganMs = performance.now();
  let said = '';
  for (;;) {
    const waitedMs = performance.now() - beganMs;
    const { status, identity } = await observer.observe();
    const pending = await redis.hexists(journal.keys.control, 'relane');
    const atTarget = identity === undefined || identity.lanes === lanes;
    if (pending === 0 && atTarget && status.lanes.length === lanes) return true;
    const progress = progressText(status, waitedMs);
    if (progress !== said && progress !== '') stderr.write(progress);
    said = progress;
    if (waitedMs >= config.timeout * 1000) return false;
    await sleep(POLL_MS, signal);
  }
}

function progressText(status: PipelineStatus, waitedMs: number): string {
  const stop = firstStop(status);
  if (stop !== undefined) return stopText(stop.place, stop.stop);
  if (status.ingest.holder === null) {
    if (waitedMs < NO_INGEST_MS) return '';
    return 'no ingest is alive to follow: start one (lanegate run, or lanegate worker --source ...)\n';
  }
  const behind = status.lanes.filter((lane) => lane.appliedThrough < lane.tail).map(({ lane }) => lane);
  return behind.length === 0 ? '' : `waiting until these lanes are drained: ${behind.join(', ')}\n`;
}
