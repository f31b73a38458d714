import type { CommandContext } from './context.ts';

export async function lane(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate lane: not there yet\n');
  return 1;
}
