import type { CommandContext } from './context.ts';

export async function board(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate board: not there yet\n');
  return 1;
}
