import type { Redis } from 'ioredis';
import { connectionHint } from '../roles/connection-hint.ts';
import { EmbeddedQueue } from '../roles/embedded-queue.ts';
import { inspect } from '../roles/inspection.ts';
import { type Finding, preflight } from '../roles/preflight.ts';
import { findQueueBinary } from '../roles/queue-binary.ts';
import { connectQueue } from '../roles/queue-connection.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import type { Stopped } from '../status.ts';
import { ControlKeys } from '../target/control.ts';
import { FencedSession } from '../target/session.ts';
import { traitsOf } from '../target/traits.ts';
import type { CommandContext } from './context.ts';
import { escapeControl } from './format.ts';
import { sourceOf } from './source-of.ts';
import { stopPlaceText } from './stop-text.ts';
import { routingPolicy } from './worker-options.ts';

const TIMEOUT_MS = 5_000;

/** Connects to all that is named, runs every start-up check and changes nothing. Exit code 1 if one is an error. */
export async function check(context: CommandContext): Promise<number> {
  const { config, stdout } = context;
  if (config.target === undefined) throw new ConfigurationError(['--target is missing']);
  const found = await findings(context, config.target);
  if (config.json) stdout.write(`${JSON.stringify(found)}\n`);
  else stdout.write(found.map(text).join(''));
  return found.some(({ level }) => level === 'error') ? 1 : 0;
}

async function findings(context: CommandContext, endpoint: Endpoint): Promise<Finding[]> {
  const { config } = context;
  const { name, from, lanes, targetData, acceptWeakerGuarantee } = config;
  const source = sourceOf(context.config, (text) => context.stderr.write(`lanegate: ${text}\n`));
  const queue = await openQueue(context);
  const target = await openTarget(name, endpoint);
  try {
    const found = [...queue.findings, ...target.findings];
    if (target.session === undefined) return found;
    const start = { from, lanes, targetData };
    const parts = { name, queue: queue.redis, target: target.session, source };
    const describeStop = (place: string, stop: Stopped) =>
      `${place} is stopped ${stopPlaceText(stop)}: ${stop.reason}`;
    const tried = await preflight({ ...parts, start, acceptWeakerGuarantee });
    // A target that can be none is not read.
    if (tried.some(({ what, level, passes }) => what === 'target' && level === 'error' && passes !== true))
      return [...found, ...tried];
    return [
      ...found,
      ...tried,
      ...(await inspect({ ...parts, policy: routingPolicy(config), describeStop })),
    ];
  } finally {
    queue.redis?.disconnect();
    target.session?.close();
    await source?.close();
  }
}

interface OpenedQueue {
  readonly redis: Redis | undefined;
  readonly findings: readonly Finding[];
}

async function openQueue({ config }: CommandContext): Promise<OpenedQueue> {
  const finding = (level: Finding['level'], what: string, hint = ''): Finding => ({
    level,
    what: 'queue',
    text: what,
    hint,
  });
  try {
    const endpoint = config.queue ?? (await EmbeddedQueue.find(config.dataDir));
    if (endpoint === undefined) {
      const binary = await findQueueBinary(process.env);
      const told = `no --queue: lanegate run brings its own server (${binary}) and keeps it in ${config.dataDir}`;
      return { redis: undefined, findings: [finding('ok', told)] };
    }
    const redis = await connectQueue(endpoint, `lanegate:${config.name}:check`);
    const own = config.queue === undefined ? 'the embedded queue server' : "the queue's Redis";
    return { redis, findings: [finding('ok', `${own} answers at ${endpoint.display}`)] };
  } catch (error) {
    if (error instanceof StopError)
      return { redis: undefined, findings: [finding('error', error.message, error.hint)] };
    throw error;
  }
}

async function openTarget(
  name: string,
  endpoint: Endpoint,
): Promise<{ readonly session: FencedSession | undefined; readonly findings: readonly Finding[] }> {
  try {
    const traits = await traitsOf(endpoint, new ControlKeys(name).prefix);
    const session = await FencedSession.open(endpoint, {
      traits: () => traits,
      name: `lanegate:${name}:check`,
      connectTimeoutMs: TIMEOUT_MS,
      replyTimeoutMs: TIMEOUT_MS,
    });
    return { session, findings: [] };
  } catch (error) {
    const why = safeMessage(error);
    const hint = connectionHint('target', why);
    return {
      session: undefined,
      findings: [{ level: 'error', what: 'target', text: `the target cannot be used: ${why}`, hint }],
    };
  }
}

function text({ level, what, text: told, hint }: Finding): string {
  const line = `${level.padEnd(8)} ${what.padEnd(9)} ${escapeControl(told)}\n`;
  return hint === '' ? line : `${line}${' '.repeat(19)}${escapeControl(hint)}\n`;
}
