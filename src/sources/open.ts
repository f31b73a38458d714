import type { RestoreRules } from '../rdb/rdb-log.ts';
import type { EndpointSecrets } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { openAof } from './aof.ts';
import { pathOf } from './file-url.ts';
import { parseNode, parsePikaUrl } from './pika/url.ts';
import { PikaSource } from './pika.ts';
import { parseDatabaseMap } from './pika-binlog/databases.ts';
import { parseBinlogUrl } from './pika-binlog/url.ts';
import { PikaBinlogSource } from './pika-binlog.ts';
import { positionRules } from './positions.ts';
import { openRdbFile } from './rdb-file.ts';
import { parseLinkUrl } from './redis-link/url.ts';
import { RedisLinkSource } from './redis-link.ts';
import { parseStreamUrl } from './redis-stream/url.ts';
import { RedisStreamSource } from './redis-stream.ts';
import type { Source } from './source.ts';

export interface OpenSourceOptions {
  /** The pipeline. */
  readonly name: string;
  readonly trimSource?: boolean;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  /** What to call the URL in a complaint. */
  readonly option?: string;
  /** `name=number`: which of Pika's databases goes where. */
  readonly dbMap?: readonly string[];
  /** What is kept out of the URL. */
  readonly secrets?: EndpointSecrets;
  readonly onNotice?: (text: string) => void;
  /** Where a replication link keeps its spool, and how much that may hold. */
  readonly dataDir?: string;
  readonly spoolBytesMax?: number;
  /** Largest MULTI ... EXEC that is put into one entry. */
  readonly transactionBytesMax?: number;
  /** Port that a replication link shows at the source; 0 for none. */
  readonly announcePort?: number;
  /** What the target's RESTORE takes; asked for when a snapshot begins. */
  readonly restoreRules?: () => Promise<RestoreRules>;
  /** Read no further than this, ms since 1970: only what has timestamps can be. */
  readonly untilMs?: number | undefined;
  /** Pika: whom the master takes us for, `ip:port`. */
  readonly pikaNode?: string | undefined;
  /** Pika: what its log gets wrong is read at the master; undefined: if that can be read. */
  readonly repair?: boolean | undefined;
}

const TRANSACTION_BYTES_MAX = 64 * 1024 * 1024;
/** Redis 7.0, as it is without configuration. */
const RESTORE_RULES: RestoreRules = { rdbVersion: 10, bulkBytesMax: 512 * 1024 * 1024 };

type Open = (url: string, options: OpenSourceOptions) => Source;

/** scheme -> source; a new kind of source is a line here. */
const SOURCES: Readonly<Record<string, Open>> = {
  'redis-stream': openRedisStream,
  'rediss-stream': openRedisStream,
  redis: openRedisLink,
  rediss: openRedisLink,
  pika: openPika,
  'pika-binlog': openPikaBinlog,
  aof: (url, options) =>
    openAof({ path: pathOf(options.option ?? '--source', url), ...fileOptions(options) }),
  rdb: (url, options) =>
    openRdbFile({ path: pathOf(options.option ?? '--source', url), ...fileOptions(options) }),
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
    throw new ConfigurationError([`${options.option ?? '--source'}: ${what}; there is ${known}://`]);
  }
  if (options.untilMs !== undefined && scheme !== 'aof')
    throw new ConfigurationError([
      `--until-time: only an AOF (aof://) has timestamps, ${scheme}:// has none`,
    ]);
  return open(url, options);
}

/** What is wrong with a URL, and with a position for the source that it names. Connects to nothing. */
export function sourceProblems(
  url: string,
  options: {
    readonly option: string;
    readonly secrets: EndpointSecrets;
    readonly from: string | undefined;
  },
): { readonly url: readonly string[]; readonly from: readonly string[] } {
  const { option, secrets, from } = options;
  let kind: string | undefined;
  const inUrl = problemsIn(() => {
    kind = openSource(url, { name: 'default', option, secrets }).kind;
  });
  const inFrom = problemsIn(() => {
    // Reading a position is all that it takes to compare it.
    if (from !== undefined && from !== 'beginning' && from !== 'now') positionRules(kind)?.covers(from, from);
  });
  return { url: inUrl, from: inFrom };
}

function problemsIn(work: () => void): readonly string[] {
  try {
    work();
    return [];
  } catch (error) {
    if (error instanceof ConfigurationError) return error.problems;
    throw error;
  }
}

function fileOptions({ untilMs, transactionBytesMax, restoreRules, onNotice }: OpenSourceOptions) {
  return {
    untilMs,
    transactionBytesMax: transactionBytesMax ?? TRANSACTION_BYTES_MAX,
    restoreRules: restoreRules ?? (async () => RESTORE_RULES),
    onNotice: onNotice ?? (() => {}),
  };
}

function openRedisStream(url: string, options: OpenSourceOptions): Source {
  const { key, endpoint } = parseStreamUrl(options.option ?? '--source', url, options.secrets);
  return new RedisStreamSource({ ...options, endpoint, key });
}

function openRedisLink(url: string, options: OpenSourceOptions): Source {
  const { endpoint, name: logName } = parseLinkUrl(options.option ?? '--source', url, options.secrets);
  const { dataDir = '.lanegate', restoreRules = async () => RESTORE_RULES } = options;
  return new RedisLinkSource({ ...options, endpoint, logName, dataDir, restoreRules });
}

function openPika(url: string, options: OpenSourceOptions): Source {
  const node = options.pikaNode === undefined ? undefined : parseNode('--pika-node', options.pikaNode);
  const databaseMap = parseDatabaseMap(options.dbMap ?? []);
  return new PikaSource({
    ...options,
    ...parsePikaUrl(options.option ?? '--source', url, options.secrets),
    node,
    databaseMap,
  });
}

function openPikaBinlog(url: string, options: OpenSourceOptions): Source {
  const map = parseDatabaseMap(options.dbMap ?? []);
  return new PikaBinlogSource({ ...options, ...parseBinlogUrl(options.option ?? '--source', url), map });
}
