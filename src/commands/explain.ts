import type { CommandContext } from './context.ts';

export async function explain(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate explain: not there yet\n');
  return 1;
}
