import type { CommandContext } from './context.ts';

export async function demo(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate demo: not there yet\n');
  return 1;
}
