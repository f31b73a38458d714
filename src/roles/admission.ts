// What a process must know before it takes part: that this is its pipeline, and that its options say the same as the
// pipeline's. Checked once at the start, so that a mistake ends the process and not the pipeline. Servers that do not
// answer yet are waited for.

import type { PipelineContext } from '../../processors/context.ts';
import { settleFlush } from '../../processors/flush-gate.ts';
import { Raced } from '../../processors/generation.ts';
import { admitTarget, checkIdentity, emptiedTarget } from '../../processors/startup.ts';
import { NO_GENERATION } from '../journal/records.ts';
import { Backoff, sleep } from '../runtime/backoff.ts';
import { AbortedError, ConfigurationError, StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import type { Source } from '../sources/source.ts';
import { parseIdentity } from '../target/control.ts';
import { refusalHint } from '../target/refusal.ts';
import type { FencedSession } from '../target/session.ts';
import { guaranteeOf, traitsOf } from '../target/traits.ts';
import { ReplyError, refusalCode } from '../wire/replies.ts';
import { keepProblem, preflight } from './preflight.ts';
import { aliveWorkers, policyFingerprint, REGISTRATION_MS_MAX, type Registration } from './registration.ts';

export interface AdmissionOptions {
  readonly from?: string | undefined;
  readonly lanes?: number | undefined;
  readonly targetData: 'refuse' | 'keep' | 'replace';
  readonly acceptWeakerGuarantee: boolean;
  /** Of a process that may ingest: what decides which commands are applied. */
  readonly policy: Readonly<Record<string, unknown>> | undefined;
}

/** The target is there and takes no writes: passes as it does later on. */
class ReadOnlyTarget extends Error {}

/** How long a process that says otherwise is waited for: one that was killed counts as alive for a while. */
const OTHERS_MS = REGISTRATION_MS_MAX + 2_000;
const OTHERS_POLL_MS = 200;

/** A stop of an earlier start-up is decided anew by this one: its options may be others. */
async function forgetStartUpStop({ records }: PipelineContext): Promise<void> {
  if ((await records.stops()).get('ingest')?.generation === NO_GENERATION) await records.clearStop('ingest');
}

/** The checks of servers that `lanegate check` shows; what they say of the pipeline itself is judged by `admit`. */
async function checkServers(
  context: PipelineContext,
  session: FencedSession,
  source: Source | undefined,
  options: AdmissionOptions,
): Promise<void> {
  const start = { from: options.from, lanes: options.lanes, targetData: options.targetData };
  const { acceptWeakerGuarantee } = options;
  const parts = { name: context.name, queue: context.redis, target: session, source };
  const found = await preflight({ ...parts, start, acceptWeakerGuarantee });
  const servers = found.filter(({ what, passes }) => what !== 'pipeline' && passes !== true);
  const readOnly = found.some(({ what, passes }) => what === 'target' && passes === true);
  const errors = servers.filter(({ level }) => level === 'error');
  if (errors.length > 0) {
    const hint = errors.map((error) => error.hint).join('; ');
    throw new StopError('PREFLIGHT', errors.map(({ text }) => text).join('; '), { hint });
  }
  if (readOnly) throw new ReadOnlyTarget();
  for (const { level, text, hint } of servers) if (level === 'warning') context.log.warn(`${text}: ${hint}`);
}

/** Processes that may ingest and would apply other commands than this one does, or write another journal. */
async function othersThatDiffer(
  { redis, journal, workerId, now }: PipelineContext,
  { policy }: AdmissionOptions,
): Promise<Registration[]> {
  if (policy === undefined) return [];
  const own = policyFingerprint(policy);
  const alive = await aliveWorkers(redis, journal.keys, now());
  // Of two that are not admitted yet, one has to give way.
  return alive.filter(
    ({ id, roles, policy: theirs }) =>
      id !== workerId && theirs !== undefined && theirs !== own && (roles.length > 0 || id < workerId),
  );
}

/** Whichever of them ingested would decide what is applied, and each would begin a generation of its own. @throws StopError */
async function agreeWithOthers(
  context: PipelineContext,
  options: AdmissionOptions,
  signal: AbortSignal,
): Promise<void> {
  const beganMs = performance.now();
  for (let first = true; ; first = false) {
    const [other] = await othersThatDiffer(context, options);
    if (other === undefined) return;
    const who = `the process ${other.pid} on ${other.host}`;
    const what = `${who} has other options for which commands are applied (--allow, --deny, --publish, --script-keys, --split-multi-key), or is of a version that writes the journal in another way`;
    if (performance.now() - beganMs > OTHERS_MS) {
      const hint =
        'give all processes of a pipeline the same ones; to change them or the version, stop the others first';
      throw new StopError('OPTIONS_DIFFER', what, { hint });
    }
    if (first) context.log.warn(`waiting for its end: ${what}`);
    await sleep(OTHERS_POLL_MS, signal);
  }
}

/** @throws StopError; Raced to look again; anything else is trouble with a connection */
async function checkPipeline(
  context: PipelineContext,
  session: FencedSession,
  source: Source | undefined,
  options: AdmissionOptions,
): Promise<void> {
  const { name, control, journal } = context;
  const [text] = await session.read([control.identity]);
  const identity = parseIdentity(text ?? '');
  if (!identity && (await settleFlush(context, session, { finish: true })) === 'look again')
    throw new Raced('a gate is under way');
  await forgetStartUpStop(context);
  if (identity) return checkIdentity(identity, source, options);
  if (!source) return;
  const known = [
    ...((await journal.inForce()) ? ["the queue's journal"] : []),
    ...(await source.forget(false)),
  ];
  if (known.length > 0) {
    // Another process may have begun the pipeline between the two looks.
    const [again] = await session.read([control.identity]);
    if (again === null) throw emptiedTarget(name, known);
    throw new Raced('another process initialised the target');
  }
  const problem = keepProblem(source, options);
  if (problem) throw new StopError('KEEP_IMPOSSIBLE', problem.text, { hint: problem.hint });
  // Says at once what is wrong with a position that somebody typed.
  if (options.from !== undefined) await source.resolve(options.from);
  if (options.targetData !== 'replace') await admitTarget(context, session, options.targetData);
}

/** Says once, and where status can see it, what a start waits for. @throws what the queue says that takes no writes */
async function waitsFor({ waits, log, now, sessions }: PipelineContext, error: unknown): Promise<void> {
  const readOnly = error instanceof ReadOnlyTarget;
  if (!readOnly && !(error instanceof ReplyError)) {
    // The target itself is waited for by the sessions.
    if (await waits.begin('ingest', 'START', `waiting for the servers: ${safeMessage(error)}`, now()))
      log.warn(`waiting for the servers: ${safeMessage(error)}`);
    return;
  }
  const code = readOnly ? 'READONLY' : refusalCode(error);
  if (await waits.begin('target', code, refusalHint(code), now()))
    log.warn({ target: sessions.endpoint.display, code }, `waiting for the target: ${refusalHint(code)}`);
}

/** @throws StopError, AbortedError */
export async function admit(
  context: PipelineContext,
  source: Source | undefined,
  options: AdmissionOptions,
  signal: AbortSignal,
): Promise<void> {
  const { sessions, control, records, waits, log } = context;
  const backoff = new Backoff({ minMs: 50, maxMs: 2_000 });
  let queueRefuses = false;
  for (;;) {
    const session = await sessions.acquire('target', signal);
    try {
      sessions.traits = await traitsOf(sessions.endpoint, control.prefix);
      await checkServers(context, session, source, options);
      await records.guarantee(guaranteeOf(sessions.traits));
      await checkPipeline(context, session, source, options);
      await agreeWithOthers(context, options, signal);
      for (const place of ['target', 'ingest'] as const) await waits.end(place);
      return;
    } catch (error) {
      if (error instanceof StopError || error instanceof ConfigurationError) throw error;
      if (error instanceof Raced) continue;
      if (signal.aborted) throw new AbortedError();
      await waitsFor(context, error).catch((refusal: unknown) => {
        // Out of memory, its disk is full, or a replica: nothing can be written down, and it passes as it does later on.
        if (!queueRefuses) log.warn(`waiting for the queue's Redis: ${safeMessage(refusal)}`);
        queueRefuses = true;
      });
      await sleep(backoff.next(), signal);
    } finally {
      sessions.release(session);
    }
  }
}
