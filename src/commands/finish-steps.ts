// Steps of `lanegate finish` that do not depend on the source.

import { waitUntilCaughtUp } from '../roles/caught-up.ts';
import { aliveWorkers, type Registration } from '../roles/registration.ts';
import { sleep } from '../runtime/backoff.ts';
import { StopError } from '../runtime/errors.ts';
import { ControlKeys } from '../target/control.ts';
import type { Link } from '../verify/link.ts';
import { bufferOf, buffersOf, listOf } from '../verify/values/pair.ts';
import { ReplyError } from '../wire/replies.ts';
import type { CommandContext } from './context.ts';
import { stopCommands } from './finish-view.ts';
import type { OpenPipeline } from './open-pipeline.ts';
import { confirmed } from './reset.ts';

const POLL_MS = 200;
const REDRAW_MS = 250;
const CLEAR_LINE = '\r\u001b[K';

export function say({ stderr }: CommandContext, what: string): void {
  stderr.write(`finish: ${what}\n`);
}

/** Draws `text` on a terminal while `work` is under way. */
export async function telling<T>(
  { stderr }: CommandContext,
  text: () => string,
  work: () => Promise<T>,
): Promise<T> {
  if ((stderr as { isTTY?: boolean }).isTTY !== true) return await work();
  const timer = setInterval(() => stderr.write(`${CLEAR_LINE}finish: ${text()}`), REDRAW_MS);
  try {
    return await work();
  } finally {
    clearInterval(timer);
    stderr.write(CLEAR_LINE);
  }
}

/** Returns the position up to which all is applied. @throws StopError, AbortedError */
export async function untilApplied(
  { config, signal }: CommandContext,
  { observer, source }: OpenPipeline,
  timeoutS = config.timeout,
): Promise<string> {
  const end = await waitUntilCaughtUp({ observer, source, timeoutMs: timeoutS * 1000, signal });
  if (end.kind === 'caught up') return end.status.head.position ?? 'unknown';
  if (end.kind === 'timeout') {
    const what = `not caught up after ${timeoutS} s, waiting for ${end.waitingFor}`;
    throw new StopError('NOT_CAUGHT_UP', what, { hint: 'look at lanegate status; --timeout waits longer' });
  }
  const { place, stop } = end;
  throw new StopError('STOPPED', `${place} is stopped at seq ${stop.seq}: ${stop.reason}`, {
    hint: stop.hint,
  });
}

export async function workersOf(
  { config }: CommandContext,
  { redis, journal }: OpenPipeline,
): Promise<readonly Registration[]> {
  // The embedded server of a run goes with it.
  if (config.queue === undefined && redis.status !== 'ready') return [];
  return await aliveWorkers(redis, journal.keys, Date.now());
}

/** Waits for their end for at most --timeout; those that are left. */
export async function untilNoWorkers(
  context: CommandContext,
  pipeline: OpenPipeline,
  why: string,
): Promise<readonly Registration[]> {
  const { config, signal } = context;
  const beganMs = performance.now();
  for (let first = true; ; first = false) {
    const alive = await workersOf(context, pipeline);
    if (alive.length === 0 || performance.now() - beganMs > config.timeout * 1000) return alive;
    if (first) say(context, `${why}: ${stopCommands(alive)}`);
    await sleep(POLL_MS, signal);
  }
}

/** How many of the pipeline's keys are removed from `db` of the target; undefined when that was not confirmed. */
export async function removeControlKeys(
  context: CommandContext,
  target: Link,
  db: number,
): Promise<number | undefined> {
  const keys = await controlKeys(context.config.name, target, db);
  context.stderr.write(keys.map((key) => `  ${key}\n`).join(''));
  if (!context.config.yes && !(await confirmed(context, 'finish'))) return undefined;
  if (keys.length > 0) await target.call([['DEL', ...keys]]);
  return keys.length;
}

async function controlKeys(name: string, target: Link, db: number): Promise<string[]> {
  const { prefix } = new ControlKeys(name);
  await target.select(db);
  const found = new Set<string>();
  let cursor = '0';
  do {
    const [reply] = await target.call([['SCAN', cursor, 'MATCH', `${prefix}*`, 'COUNT', 1_000]]);
    if (reply instanceof ReplyError) throw reply;
    const [next, keys] = listOf(reply);
    cursor = bufferOf(next).toString();
    for (const key of buffersOf(keys)) found.add(key.toString());
  } while (cursor !== '0');
  return [...found].sort();
}
