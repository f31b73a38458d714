import { ConfigurationError } from '../runtime/errors.ts';
import type { CommandContext } from './context.ts';
import { locateQueue } from './open-pipeline.ts';
import { serve } from './serve.ts';

/** Bull Board and the HTTP API alone. */
export async function board(context: CommandContext): Promise<number> {
  if (context.config.boardPort === 0) throw new ConfigurationError(['--board-port: 0 is no board']);
  return await serve(context, { queue: await locateQueue(context), work: false, board: true });
}
