import { createInterface } from 'node:readline/promises';
import type { Redis } from 'ioredis';
import { JournalKeys } from '../journal/keys.ts';
import { connectQueue } from '../roles/queue-connection.ts';
import { aliveWorkers } from '../roles/registration.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import type { Source } from '../sources/source.ts';
import { ControlKeys } from '../target/control.ts';
import { FencedSession } from '../target/session.ts';
import type { CommandContext } from './context.ts';
import { formatCount } from './format.ts';
import { reachQueue } from './open-pipeline.ts';
import { sourceOf } from './source-of.ts';

const SCAN_COUNT = 1_000;
const TIMEOUT_MS = 10_000;

/** Where the pipeline has left something. */
interface Places {
  readonly queue: Redis | undefined;
  readonly queueName: string;
  readonly target: FencedSession;
  readonly source: Source | undefined;
}

interface Findings {
  readonly queueKeys: readonly string[];
  readonly targetKeys: readonly string[];
  readonly atSource: readonly string[];
}

/**
 * Removes every trace of the pipeline, data at the target excepted. The target's keys go last: cut short before that, the
 * pipeline simply goes on from its low-water mark.
 */
export async function reset(context: CommandContext): Promise<number> {
  const { config, stdout, stderr } = context;
  if (config.target === undefined) throw new ConfigurationError(['--target is missing']);
  return await withPlaces(context, config.target, async (places) => {
    await refuseWhileAlive(context, places);
    const found = await look(context, places);
    const lines = describe(context, places, found);
    if (lines.length === 0) {
      stdout.write(`nothing is left of pipeline "${config.name}"\n`);
      return 0;
    }
    stdout.write(`${lines.join('\n')}\n`);
    if (!config.yes && !(await confirmed(context, 'reset'))) {
      stderr.write('lanegate reset: nothing was removed\n');
      return 1;
    }
    await refuseWhileAlive(context, places);
    await remove(places, found);
    stdout.write(`pipeline "${config.name}" is removed; the data at the target stays\n`);
    return 0;
  });
}

async function withPlaces(
  context: CommandContext,
  target: Endpoint,
  work: (places: Places) => Promise<number>,
): Promise<number> {
  const { config } = context;
  const source = sourceOf(context.config, (text) => context.stderr.write(`lanegate: ${text}\n`));
  const closers: (() => Promise<unknown>)[] = [async () => source?.close()];
  try {
    const session = await openTarget(config.name, target);
    closers.push(async () => session.close());
    const reached = await reachQueue(context);
    if (reached) closers.push(reached.close);
    const endpoint = reached?.endpoint;
    const queue = endpoint && (await connectQueue(endpoint, `lanegate:${config.name}:reset`));
    if (queue) closers.push(async () => queue.disconnect());
    const queueName = endpoint?.display ?? 'none';
    return await work({ queue, queueName, target: session, source });
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

async function openTarget(name: string, endpoint: Endpoint): Promise<FencedSession> {
  return await FencedSession.open(endpoint, {
    name: `lanegate:${name}:reset`,
    connectTimeoutMs: TIMEOUT_MS,
    replyTimeoutMs: TIMEOUT_MS,
  });
}

async function refuseWhileAlive({ config }: CommandContext, { queue }: Places): Promise<void> {
  if (queue === undefined) return;
  const alive = await aliveWorkers(queue, new JournalKeys(config.name), Date.now());
  if (alive.length === 0) return;
  const names = alive.map(({ host, pid }) => `pid ${pid} on ${host}`).join(', ');
  throw new StopError('WORKERS_ALIVE', `processes of pipeline "${config.name}" are running: ${names}`, {
    hint: 'stop them first; one that was killed is forgotten after 10 s',
  });
}

async function look({ config }: CommandContext, { queue, target, source }: Places): Promise<Findings> {
  const prefix = new JournalKeys(config.name).prefix;
  const control = new ControlKeys(config.name).prefix;
  return {
    queueKeys:
      queue === undefined
        ? []
        : await scan((cursor) => queue.scan(cursor, 'MATCH', `${prefix}:*`, 'COUNT', SCAN_COUNT)),
    targetKeys: await scan((cursor) =>
      target.call(['SCAN', cursor, 'MATCH', `${control}*`, 'COUNT', SCAN_COUNT]),
    ),
    atSource: (await source?.forget(false)) ?? [],
  };
}

/** Every key that a SCAN finds, once. */
async function scan(step: (cursor: string) => Promise<unknown>): Promise<string[]> {
  const found = new Set<string>();
  for (let cursor = '0', first = true; first || cursor !== '0'; first = false) {
    const [next, keys] = (await step(cursor)) as [unknown, readonly unknown[]];
    for (const key of keys) found.add(String(key));
    cursor = String(next);
  }
  return [...found].sort();
}

function describe({ config }: CommandContext, places: Places, found: Findings): string[] {
  const { queueKeys, targetKeys, atSource } = found;
  const lines: string[] = [];
  if (queueKeys.length > 0) {
    lines.push(`at the queue ${places.queueName}:`);
    for (const [kind, count] of kindsOf(queueKeys)) lines.push(`  ${kind}: ${formatCount(count)}`);
  }
  if (targetKeys.length > 0) lines.push(`at the target ${config.target?.display}:`);
  lines.push(...targetKeys.map((key) => `  ${key}`));
  if (atSource.length > 0) lines.push('at the source:');
  lines.push(...atSource.map((what) => `  ${what}`));
  if (lines.length > 0 && places.source === undefined) lines.push('--source is not given: its group stays');
  if (lines.length > 0 && places.queue === undefined)
    lines.push('there is no queue: neither --queue nor an embedded one');
  return lines;
}

/** `{lanegate-x}:lane-3:meta` -> `{lanegate-x}:lane-3:*`, counted. */
function kindsOf(keys: readonly string[]): Map<string, number> {
  const kinds = new Map<string, number>();
  for (const key of keys) {
    const parts = key.split(':');
    const kind = parts.length > 2 ? `${parts[0]}:${parts[1]}:*` : key;
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return kinds;
}

/** Asks on a terminal for the pipeline's name. */
export async function confirmed(
  { config, stdin, stderr, signal }: CommandContext,
  verb: string,
): Promise<boolean> {
  if ((stdin as { isTTY?: boolean }).isTTY !== true) {
    stderr.write(`lanegate ${verb}: asks on a terminal; elsewhere give --yes\n`);
    return false;
  }
  const terminal = createInterface({ input: stdin, output: stderr });
  try {
    const question = `type the pipeline's name (${config.name}) to remove it: `;
    // Ctrl-D and Ctrl-C end the dialogue; the question alone would then wait for ever.
    const ended = new Promise<string>((resolve) => {
      terminal.once('close', () => resolve(''));
    });
    const answer = await Promise.race([terminal.question(question, { signal }), ended]);
    return answer.trim() === config.name;
  } finally {
    terminal.close();
  }
}

async function remove({ queue, target, source }: Places, { queueKeys, targetKeys }: Findings): Promise<void> {
  for (let at = 0; at < queueKeys.length; at += SCAN_COUNT) {
    await queue?.unlink(...queueKeys.slice(at, at + SCAN_COUNT));
  }
  await source?.forget(true);
  if (targetKeys.length > 0) await target.call(['DEL', ...targetKeys]);
}
