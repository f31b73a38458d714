import { EmbeddedQueue } from '../roles/embedded-queue.ts';
import type { CommandContext } from './context.ts';
import { serve } from './serve.ts';

/** Everything in one process, with an embedded queue server when --queue is absent. */
export async function run(context: CommandContext): Promise<number> {
  const { config, log } = context;
  if (config.queue) return await serve(context, { queue: config.queue, work: true, board: true });
  const embedded = await EmbeddedQueue.start({ dataDir: config.dataDir, log });
  try {
    return await serve(context, { queue: embedded.endpoint, work: true, board: true });
  } finally {
    await embedded.stop();
  }
}
