import type { CommandContext } from './context.ts';

export async function check(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate check: not there yet\n');
  return 1;
}
