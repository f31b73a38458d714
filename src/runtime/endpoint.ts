import { readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { ConfigurationError } from './errors.ts';

/** Where a Redis-protocol server is reached. `db` is the database named by the URL's path, 0 without one. */
export interface Endpoint {
  readonly host: string;
  readonly port: number;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly db: number;
  /** Options for node:tls; undefined for a plain connection. Verification is on unless the operator says otherwise. */
  readonly tls: ConnectionOptions | undefined;
  /** For logs and errors: never holds a password. */
  readonly display: string;
}

/** Secrets and TLS files that are kept out of the URL. */
export interface EndpointSecrets {
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly tlsCa?: string | undefined;
  readonly tlsCert?: string | undefined;
  readonly tlsKey?: string | undefined;
  readonly tlsServerName?: string | undefined;
  readonly tlsInsecure?: boolean | undefined;
}

/**
 * Reads `<scheme>://[user:password@]host[:port][/db]`; a scheme that starts with `rediss` means TLS.
 * @throws ConfigurationError naming the option, never the password.
 */
export function parseEndpoint(option: string, text: string, secrets: EndpointSecrets = {}): Endpoint {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new ConfigurationError([`${option}: not a URL such as redis://host:6379/0`]);
  }
  // A / ? or # in a password ends the host for the parser: its rest would be shown as path or query.
  const isMisplaced = url.pathname.includes('@') || url.hash.includes('@') || /^\?[^=&]*@/.test(url.search);
  if (isMisplaced) {
    throw new ConfigurationError([
      `${option}: a password with / ? or # in it must be percent-encoded, or come from its variable or file`,
    ]);
  }
  const path = url.pathname.replace(/^\//, '');
  if (path !== '' && !/^\d{1,5}$/.test(path)) {
    throw new ConfigurationError([`${option}: the path of the URL must be a database number, not "${path}"`]);
  }
  const host = url.hostname.replace(/^\[|\]$/g, '');
  if (host === '') throw new ConfigurationError([`${option}: the URL names no host`]);
  const port = url.port === '' ? 6379 : Number(url.port);
  const decoded = (part: string) => {
    if (part === '') return undefined;
    try {
      return decodeURIComponent(part);
    } catch {
      throw new ConfigurationError([`${option}: user or password is not valid percent-encoding`]);
    }
  };
  const scheme = url.protocol.replace(/:$/, '');
  return {
    host,
    port,
    username: secrets.username ?? decoded(url.username),
    password: secrets.password ?? decoded(url.password),
    db: path === '' ? 0 : Number(path),
    tls: scheme.startsWith('rediss') ? tlsOptions(option, host, secrets) : undefined,
    display: `${scheme}://${url.hostname}:${port}${path === '' ? '' : `/${path}`}${url.search}`,
  };
}

function tlsOptions(option: string, host: string, secrets: EndpointSecrets): ConnectionOptions {
  const read = (what: string, path: string | undefined) => {
    if (path === undefined) return {};
    try {
      return { [what]: readFileSync(path) };
    } catch (cause) {
      throw new ConfigurationError([
        `${option}: cannot read ${path}: ${(cause as NodeJS.ErrnoException).code}`,
      ]);
    }
  };
  return {
    ...read('ca', secrets.tlsCa),
    ...read('cert', secrets.tlsCert),
    ...read('key', secrets.tlsKey),
    servername: secrets.tlsServerName ?? (/^[\d.:]+$/.test(host) ? '' : host),
    rejectUnauthorized: secrets.tlsInsecure !== true,
  };
}
