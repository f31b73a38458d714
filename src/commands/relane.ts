import type { CommandContext } from './context.ts';

export async function relane(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate relane: not there yet\n');
  return 1;
}
