import type { CommandContext } from './context.ts';

export async function status(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate status: not there yet\n');
  return 1;
}
