import type { CommandContext } from './context.ts';

export async function worker(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate worker: not there yet\n');
  return 1;
}
