import type { Config } from '../config.ts';
import { openSource } from '../sources/open.ts';
import type { Source } from '../sources/source.ts';
import { restoreRulesOf } from '../target/restore-rules.ts';

/** The source that the configuration names; connects to nothing. `onNotice` is told what an operator should know. */
export function sourceOf(config: Config, onNotice: (text: string) => void): Source | undefined {
  const { source, target } = config;
  if (source === undefined) return undefined;
  return openSource(source, {
    name: config.name,
    trimSource: config.trimSource,
    // A chunk of the source makes a round.
    chunkBytes: config.roundBytes,
    secrets: config.sourceSecrets,
    onNotice,
    pikaNode: config.pikaNode,
    repair: config.repair === undefined ? undefined : config.repair === 'on',
    dbMap: config.dbMap,
    untilMs: config.untilTime,
    dataDir: config.dataDir,
    spoolBytesMax: config.spoolMax,
    transactionBytesMax: config.transactionBytes,
    announcePort: config.announcePort,
    ...(target === undefined ? {} : { restoreRules: () => restoreRulesOf(target) }),
  });
}
