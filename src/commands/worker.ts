import { WorkerProcess } from '../roles/worker.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { openSource } from '../sources/open.ts';
import type { CommandContext } from './context.ts';
import { workerOptions } from './worker-options.ts';

export async function worker({ config, log, signal }: CommandContext): Promise<number> {
  const { target, queue } = config;
  if (!target || !queue) throw new ConfigurationError(['--target and --queue are needed']);
  const source =
    config.source === undefined
      ? undefined
      : openSource(config.source, {
          name: config.name,
          trimSource: config.trimSource,
          secrets: config.sourceSecrets,
          onNotice: (text) => log.warn(text),
        });
  const process = new WorkerProcess(workerOptions(config, { queue, target, source, log }));
  process.start();
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await process.stop(config.graceMs);
  return 0;
}
