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
import type { FencedSession } from '../target/session.ts';
import { guaranteeOf, traitsOf } from '../target/traits.ts';
import { keepProblem, preflight } from './preflight.ts';

export interface AdmissionOptions {
  readonly from?: string | undefined;
  readonly lanes?: number | undefined;
  readonly targetData: 'refuse' | 'keep' | 'replace';
  readonly acceptWeakerGuarantee: boolean;
}

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
  const errors = servers.filter(({ level }) => level === 'error');
  if (errors.length > 0) {
    const hint = errors.map((error) => error.hint).join('; ');
    throw new StopError('PREFLIGHT', errors.map(({ text }) => text).join('; '), { hint });
  }
  for (const { level, text, hint } of servers) if (level === 'warning') context.log.warn(`${text}: ${hint}`);
}

/** @throws StopError, AbortedError */
export async function admit(
  context: PipelineContext,
  source: Source | undefined,
  options: AdmissionOptions,
  signal: AbortSignal,
): Promise<void> {
  const backoff = new Backoff({ minMs: 50, maxMs: 2_000 });
  let said = false;
  for (;;) {
    const session = await context.sessions.acquire('target', signal);
    try {
      const { sessions, control } = context;
      sessions.traits = await traitsOf(sessions.endpoint, control.prefix);
      await checkServers(context, session, source, options);
      await context.records.guarantee(guaranteeOf(sessions.traits));
      const [text] = await session.read([context.control.identity]);
      const identity = parseIdentity(text ?? '');
      if (!identity && (await settleFlush(context, session, { finish: true })) === 'look again') continue;
      await forgetStartUpStop(context);
      if (identity) checkIdentity(identity, source, options);
      else if (source) {
        const known = [
          ...((await context.journal.inForce()) ? ["the queue's journal"] : []),
          ...(await source.forget(false)),
        ];
        if (known.length > 0) {
          // Another process may have begun the pipeline between the two looks.
          const [again] = await session.read([context.control.identity]);
          if (again === null) throw emptiedTarget(context.name, known);
          continue;
        }
        const problem = keepProblem(source, options);
        if (problem) throw new StopError('KEEP_IMPOSSIBLE', problem.text, { hint: problem.hint });
        // Says at once what is wrong with a position that somebody typed.
        if (options.from !== undefined) await source.resolve(options.from);
        if (options.targetData !== 'replace') await admitTarget(context, session, options.targetData);
      }
      return;
    } catch (error) {
      if (error instanceof StopError || error instanceof ConfigurationError) throw error;
      if (error instanceof Raced) continue;
      if (signal.aborted) throw new AbortedError();
      if (!said) context.log.warn(`waiting for the servers: ${safeMessage(error)}`);
      said = true;
      await sleep(backoff.next(), signal);
    } finally {
      context.sessions.release(session);
    }
  }
}
