import type { EndpointSecrets } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { parseNode, parsePikaUrl } from './pika/url.ts';
import { PikaSource } from './pika.ts';
import { parseDatabaseMap } from './pika-binlog/databases.ts';
import { parseBinlogUrl } from './pika-binlog/url.ts';
import { PikaBinlogSource } from './pika-binlog.ts';
import { parseStreamUrl } from './redis-stream/url.ts';
import { RedisStreamSource } from './redis-stream.ts';
import type { Source } from './source.ts';

export interface OpenSourceOptions {
  /** The pipeline. */
  readonly name: string;
  readonly trimSource?: boolean;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  /** `name=number`: which of Pika's databases goes where. */
  readonly dbMap?: readonly string[];
  /** What is kept out of the URL. */
  readonly secrets?: EndpointSecrets;
  readonly onNotice?: (text: string) => void;
  /** Pika: whom the master takes us for, `ip:port`. */
  readonly pikaNode?: string | undefined;
}

type Open = (url: string, options: OpenSourceOptions) => Source;

/** scheme -> source; a new kind of source is a line here. */
const SOURCES: Readonly<Record<string, Open>> = {
  'redis-stream': openRedisStream,
  'rediss-stream': openRedisStream,
  pika: openPika,
  'pika-binlog': openPikaBinlog,
};

/**
 * Chooses the source by the URL's scheme. Connects to nothing.
 * @throws ConfigurationError for what the URL gets wrong, all of it at once.
 */
export function openSource(url: string, options: OpenSourceOptions): Source {
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(url)?.[1]?.toLowerCase();
  const open = scheme === undefined || !Object.hasOwn(SOURCES, scheme) ? undefined : SOURCES[scheme];
  if (open === undefined) {
    const known = Object.keys(SOURCES).join('://, ');
    const what = scheme === undefined ? 'not a URL' : `nothing reads ${scheme}://`;
    throw new ConfigurationError([`--source: ${what}; there is ${known}://`]);
  }
  return open(url, options);
}

function openRedisStream(url: string, options: OpenSourceOptions): Source {
  const { key, endpoint } = parseStreamUrl('--source', url, options.secrets);
  return new RedisStreamSource({ ...options, endpoint, key });
}

function openPika(url: string, options: OpenSourceOptions): Source {
  const node = options.pikaNode === undefined ? undefined : parseNode('--pika-node', options.pikaNode);
  const databaseMap = parseDatabaseMap(options.dbMap ?? []);
  return new PikaSource({
    ...options,
    ...parsePikaUrl('--source', url, options.secrets),
    node,
    databaseMap,
  });
}

function openPikaBinlog(url: string, options: OpenSourceOptions): Source {
  const map = parseDatabaseMap(options.dbMap ?? []);
  return new PikaBinlogSource({ ...options, ...parseBinlogUrl('--source', url), map });
}
