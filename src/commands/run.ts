import type { CommandContext } from './context.ts';

export async function run(context: CommandContext): Promise<number> {
  context.stderr.write('lanegate run: not there yet\n');
  return 1;
}
