import type { CommandContext } from './context.ts';

export async function reset(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate reset: not there yet\n');
  return 1;
}
