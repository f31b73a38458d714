import { type Endpoint, type EndpointSecrets, parseEndpoint } from '../../runtime/endpoint.ts';
import { ConfigurationError } from '../../runtime/errors.ts';

export interface LinkAddress {
  readonly endpoint: Endpoint;
  /** What the log is called in the pipeline's identity. */
  readonly name: string;
}

/**
 * Reads `redis://[user:password@]host[:port][?name=NAME]`. A replica is told the commands of all databases: none can be
 * named.
 * @throws ConfigurationError naming the option.
 */
export function parseLinkUrl(option: string, url: string, secrets: EndpointSecrets = {}): LinkAddress {
  const endpoint = parseEndpoint(option, url, secrets);
  const problems: string[] = [];
  let name = 'replication';
  const parsed = new URL(url);
  if (parsed.pathname.replace(/^\//, '') !== '')
    problems.push(`${option}: a replication link carries all databases: leave the database out of the URL`);
  for (const [key, value] of parsed.searchParams) {
    if (key !== 'name') problems.push(`${option}: the URL has ?${key}=, but only ?name= is known`);
    else if (!/^[A-Za-z0-9_.-]{1,64}$/.test(value))
      problems.push(`${option}: ?name= takes letters, digits and _.-, at most 64`);
    else name = value;
  }
  if (problems.length > 0) throw new ConfigurationError(problems);
  return { endpoint, name };
}
