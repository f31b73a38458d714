import { resolve } from 'node:path';
import { ConfigurationError } from '../../runtime/errors.ts';

export interface BinlogAddress {
  /** Absolute. */
  readonly dir: string;
  /** Databases to read; undefined: all. */
  readonly only: readonly string[] | undefined;
}

/**
 * Reads `pika-binlog:///dir[?db=db0,db1]`; a path that begins with a dot counts from the working directory.
 * @throws ConfigurationError naming the option.
 */
export function parseBinlogUrl(option: string, url: string): BinlogAddress {
  const [, path = '', query = ''] = /^[^:]*:\/\/([^?#]*)(?:\?([^#]*))?/.exec(url) ?? [];
  const problems: string[] = [];
  const parameters = new URLSearchParams(query);
  for (const name of parameters.keys()) {
    if (name !== 'db') problems.push(`${option}: the URL has ?${name}=, but only ?db= is known`);
  }
  const dir = decoded(path);
  if (dir === undefined || !/^(\/|\.\.?(\/|$))/.test(dir))
    problems.push(`${option}: must be a directory such as pika-binlog:///path/to/log_db0 (three slashes)`);
  const only = parameters.getAll('db').flatMap((names) => names.split(','));
  const names = [...new Set(only.filter((name) => name !== ''))].sort();
  if (dir === undefined || problems.length > 0) throw new ConfigurationError(problems);
  return { dir: resolve(dir), only: names.length === 0 ? undefined : names };
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
