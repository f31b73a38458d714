// What a process must know before it takes part: that this is its pipeline, and that its options say the same as the
// pipeline's. Checked once at the start, so that a mistake ends the process and not the pipeline. Servers that do not
// answer yet are waited for.

import type { PipelineContext } from '../../processors/context.ts';
import { Raced } from '../../processors/generation.ts';
import { admitTarget, checkIdentity, emptiedTarget } from '../../processors/startup.ts';
import { NO_GENERATION } from '../journal/records.ts';
import { Backoff, sleep } from '../runtime/backoff.ts';
import { AbortedError, ConfigurationError, StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import type { Source } from '../sources/source.ts';
import { parseIdentity } from '../target/control.ts';
import type { FencedSession } from '../target/session.ts';
import { keepProblem, preflight } from './preflight.ts';

export interface AdmissionOptions {
  readonly from?: string | undefined;
  readonly lanes?: number | undefined;
  readonly targetData: 'refuse' | 'keep' | 'replace';
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
  const found = await preflight({ name: context.name, queue: context.redis, target: session, source, start });
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
      await checkServers(context, session, source, options);
      const [text] = await session.read([context.control.identity]);
      const identity = parseIdentity(text ?? '');
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
