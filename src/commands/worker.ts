import { ConfigurationError } from '../runtime/errors.ts';
import type { CommandContext } from './context.ts';
import { serve } from './serve.ts';

/** Ingest, lanes and gate, or some of them; any number of processes. */
export async function worker(context: CommandContext): Promise<number> {
  const { queue } = context.config;
  if (!queue) throw new ConfigurationError(['--queue is needed']);
  return await serve(context, { queue, work: true, board: false });
}
