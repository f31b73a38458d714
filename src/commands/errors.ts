import type { CommandContext } from './context.ts';

export async function errors(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate errors: not there yet\n');
  return 1;
}
