import type { RestoreRules } from '../rdb/rdb-log.ts';
import type { EndpointSecrets } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { openAof } from './aof.ts';
import { pathOf } from './file-url.ts';
import { openRdbFile } from './rdb-file.ts';
import { parseStreamUrl } from './redis-stream/url.ts';
import { RedisStreamSource } from './redis-stream.ts';
import type { Source } from './source.ts';

export interface OpenSourceOptions {
  /** The pipeline. */
  readonly name: string;
  readonly trimSource?: boolean;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  /** What is kept out of the URL. */
  readonly secrets?: EndpointSecrets;
  readonly onNotice?: (text: string) => void;
  /** Read no further than this, ms since 1970: only what has timestamps can be. */
  readonly untilMs?: number | undefined;
  /** Largest MULTI ... EXEC. */
  readonly transactionBytesMax?: number;
  /** What the target's RESTORE takes. */
  readonly restore?: RestoreRules;
}

const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;
/** Redis 7.0, as it is without configuration. */
const RESTORE_RULES: RestoreRules = { rdbVersion: 10, bulkBytesMax: 512 * 1024 * 1024 };

type Open = (url: string, options: OpenSourceOptions) => Source;

/** scheme -> source; a new kind of source is a line here. */
const SOURCES: Readonly<Record<string, Open>> = {
  'redis-stream': openRedisStream,
  'rediss-stream': openRedisStream,
  aof: (url, options) => openAof({ path: pathOf('--source', url), ...fileOptions(options) }),
  rdb: (url, options) => openRdbFile({ path: pathOf('--source', url), ...fileOptions(options) }),
};

/**
 * Chooses the source by the URL's scheme. Connects to nothing.
 * @throws ConfigurationError for what the URL gets wrong, all of it at once.
 */
export function openSource(url: string, options: OpenSourceOptions): Source {
  const scheme = /^([a-z][a-z0-9+.-]*):(?:\/\/|(?=[./]))/i.exec(url)?.[1]?.toLowerCase();
  const open = scheme === undefined || !Object.hasOwn(SOURCES, scheme) ? undefined : SOURCES[scheme];
  if (open === undefined) {
    const known = Object.keys(SOURCES).join('://, ');
    const what = scheme === undefined ? 'not a URL' : `nothing reads ${scheme}://`;
    throw new ConfigurationError([`--source: ${what}; there is ${known}://`]);
  }
  if (options.untilMs !== undefined && scheme !== 'aof')
    throw new ConfigurationError([
      `--until-time: only an AOF (aof://) has timestamps, ${scheme}:// has none`,
    ]);
  return open(url, options);
}

function fileOptions({ untilMs, transactionBytesMax, restore, onNotice }: OpenSourceOptions) {
  return {
    untilMs,
    transactionBytesMax: transactionBytesMax ?? TRANSACTION_BYTES_MAX,
    restore: restore ?? RESTORE_RULES,
    onNotice: onNotice ?? (() => {}),
  };
}

function openRedisStream(url: string, options: OpenSourceOptions): Source {
  const { key, endpoint } = parseStreamUrl('--source', url, options.secrets);
  return new RedisStreamSource({ ...options, endpoint, key });
}
