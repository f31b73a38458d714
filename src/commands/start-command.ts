import type { Config } from '../config.ts';

/** What to type to start a process for the pipeline that `config` names; what is not known stays a word to replace. */
export function startCommand(config: Pick<Config, 'name' | 'source' | 'target' | 'queue'>): string {
  const { name, source, target, queue } = config;
  return [
    'lanegate',
    // Without --queue the server is the embedded one, which comes and goes with `run`.
    queue === undefined ? 'run' : 'worker',
    ...(name === 'default' ? [] : ['--name', name]),
    '--source',
    source === undefined ? 'URL' : `'${withoutPassword(source)}'`,
    '--target',
    target?.display ?? 'URL',
    ...(queue === undefined ? [] : ['--queue', queue.display]),
  ].join(' ');
}

function withoutPassword(url: string): string {
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)[^/?#]*@/i, '$1').replaceAll("'", '%27');
}
