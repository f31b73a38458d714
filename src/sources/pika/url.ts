import { type Endpoint, type EndpointSecrets, parseEndpoint } from '../../runtime/endpoint.ts';
import { ConfigurationError } from '../../runtime/errors.ts';
import type { Node } from './messages.ts';
import { DATABASE_NAME, DATABASES_MAX } from './position.ts';

export interface PikaAddress {
  readonly endpoint: Endpoint;
  /** In the order of their names; empty: all that the master has. */
  readonly databases: readonly string[];
}

const PORT = 9221;

/**
 * Reads `pika://[user:password@]host[:port][?db=db0,db1]`.
 * @throws ConfigurationError naming the option.
 */
export function parsePikaUrl(option: string, url: string, secrets: EndpointSecrets = {}): PikaAddress {
  const endpoint = parseEndpoint(option, url, secrets);
  const { port, pathname, searchParams } = new URL(url);
  const problems: string[] = [];
  if (pathname.length > 1) problems.push(`${option}: the databases of a Pika are named as ?db=db0,db1`);
  const databases: string[] = [];
  for (const [name, value] of searchParams) {
    if (name === 'db') databases.push(...value.split(','));
    else problems.push(`${option}: the URL has ?${name}=, but only ?db= is known`);
  }
  const bad = databases.find((db) => !DATABASE_NAME.test(db));
  if (bad !== undefined) problems.push(`${option}: "${bad}" is not the name of a database such as db0`);
  if (new Set(databases).size < databases.length) problems.push(`${option}: ?db= names a database twice`);
  if (databases.length > DATABASES_MAX)
    problems.push(`${option}: a Pika has at most ${DATABASES_MAX} databases`);
  if (problems.length > 0) throw new ConfigurationError(problems);
  const display = port === '' ? endpoint.display.replace(/:6379(?=\?|$)/, `:${PORT}`) : endpoint.display;
  return {
    endpoint: { ...endpoint, port: port === '' ? PORT : endpoint.port, db: 0, display },
    databases: databases.sort(),
  };
}

/** Reads `ip:port`. @throws ConfigurationError naming the option */
export function parseNode(option: string, text: string): Node {
  const [, ip, port] = /^([\w.-]{1,64}):(\d{1,5})$/.exec(text) ?? [];
  const isPort = Number(port) >= 1 && Number(port) <= 65_535;
  if (ip === undefined || !isPort)
    throw new ConfigurationError([`${option}: must be ip:port, unique among the master's slaves`]);
  return { ip, port: Number(port) };
}

/** Database of the target for each one of the source: as `map` says, else the number in its name. */
export function databaseNumbers(
  databases: Iterable<string>,
  map: ReadonlyMap<string, number>,
): ReadonlyMap<string, number> {
  const problems: string[] = [];
  const numbers = new Map<string, number>();
  for (const db of databases) {
    const number = map.get(db) ?? numberIn(db);
    if (number === undefined) problems.push(`--db-map: says nothing of the source's database ${db}`);
    else numbers.set(db, number);
  }
  if (problems.length > 0) throw new ConfigurationError(problems);
  return numbers;
}

function numberIn(db: string): number | undefined {
  const [, number] = /^db(\d{1,5})$/.exec(db) ?? [];
  return number === undefined ? undefined : Number(number);
}
