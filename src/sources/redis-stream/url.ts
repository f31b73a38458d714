import { type Endpoint, type EndpointSecrets, parseEndpoint } from '../../runtime/endpoint.ts';
import { ConfigurationError } from '../../runtime/errors.ts';

export interface StreamAddress {
  readonly endpoint: Endpoint;
  readonly key: Buffer;
}

/**
 * Reads `redis-stream://[user:password@]host[:port][/db]?key=KEY`. The key may be percent-encoded, byte by byte; a plus
 * sign is a plus sign.
 * @throws ConfigurationError naming the option.
 */
export function parseStreamUrl(option: string, url: string, secrets: EndpointSecrets = {}): StreamAddress {
  const problems: string[] = [];
  let endpoint: Endpoint | undefined;
  try {
    endpoint = parseEndpoint(option, url, secrets);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    problems.push(...error.problems);
  }
  let key: Buffer | undefined;
  for (const parameter of queryOf(url)) {
    const [name = '', value = ''] = splitOnce(parameter, '=');
    // Part of a password, which the endpoint has complained about.
    if (name.includes('@')) continue;
    if (name !== 'key') problems.push(`${option}: the URL has ?${name}=, but only ?key= is known`);
    else if (key !== undefined) problems.push(`${option}: the URL names two keys`);
    else key = percentDecoded(value);
  }
  if (key === undefined || key.length === 0)
    problems.push(`${option}: the URL names no stream: add ?key=NAME`);
  if (endpoint === undefined || key === undefined || problems.length > 0)
    throw new ConfigurationError(problems);
  return { endpoint, key };
}

function queryOf(url: string): string[] {
  const [, query = ''] = splitOnce(url.replace(/#.*$/s, ''), '?');
  return query.split('&').filter((parameter) => parameter !== '');
}

function splitOnce(text: string, at: string): string[] {
  const i = text.indexOf(at);
  return i < 0 ? [text] : [text.slice(0, i), text.slice(i + 1)];
}

/** Not decodeURIComponent: a key need not be UTF-8. */
function percentDecoded(text: string): Buffer {
  const parts = text.split(/(%[0-9a-f]{2})/i).map((part) => {
    return /^%[0-9a-f]{2}$/i.test(part) ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part);
  });
  return Buffer.concat(parts);
}
