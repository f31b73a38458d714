import type { CommandContext } from './context.ts';
import { locateQueue } from './open-pipeline.ts';
import { serve } from './serve.ts';

/** Bull Board and the HTTP API alone. */
export async function board(context: CommandContext): Promise<number> {
  return await serve(context, { queue: await locateQueue(context), work: false, board: true });
}
