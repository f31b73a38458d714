import { resolve } from 'node:path';
import { ConfigurationError } from '../runtime/errors.ts';

/** `aof:///path`, `aof:/path` or `aof:./path`, percent-encoded where it must be. @throws ConfigurationError naming the option */
export function pathOf(option: string, url: string): string {
  const refuse = (what: string): never => {
    throw new ConfigurationError([`${option}: ${what}`]);
  };
  const [, scheme = '', host, path = ''] = /^([^:]+):(?:\/\/([^/]*))?(.*)$/s.exec(url) ?? [];
  if (host !== undefined && host !== '')
    return refuse(
      `${scheme}://${host} names a host, but a file has none: ${scheme}:///path (three slashes) or ${scheme}:./path`,
    );
  if (/[?#]/.test(path)) return refuse(`${scheme}: takes no ?parameters; write ? in a path as %3F, # as %23`);
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    return refuse('the path is not valid percent-encoding; write % as %25');
  }
  if (decoded === '' || decoded.includes('\0')) return refuse(`the URL names no file: ${scheme}:///path`);
  return resolve(decoded);
}
