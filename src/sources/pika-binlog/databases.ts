import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { filenumOf, type LogDirectory, openLogDirectory } from '../../pika/log-directory.ts';
import { ConfigurationError, StopError } from '../../runtime/errors.ts';

/** Pika has db0 to db7. */
const DATABASES_MAX = 8;
const DIRECTORY_NAME = /^log_([\w.-]{1,24})$/;
const MAPPED = /^([\w.-]{1,24})=(\d{1,5})$/;

export interface LogDatabase {
  /** As Pika calls it: db0. */
  readonly name: string;
  /** Number at the target. */
  readonly db: number;
  readonly log: LogDirectory;
}

export interface DatabaseChoice {
  readonly dir: string;
  /** Names of those to read; undefined: all. */
  readonly only: readonly string[] | undefined;
  /** name -> number at the target; others keep the number in their name. */
  readonly map: ReadonlyMap<string, number>;
}

/** `db0=0` and so on. @throws ConfigurationError */
export function parseDatabaseMap(items: readonly string[]): ReadonlyMap<string, number> {
  const map = new Map<string, number>();
  const problems: string[] = [];
  for (const item of items) {
    const [, name, db] = MAPPED.exec(item) ?? [];
    if (name === undefined)
      problems.push(`--db-map: must be such as db0=0,db1=1, not ${JSON.stringify(item)}`);
    else if (map.has(name)) problems.push(`--db-map: names ${name} twice`);
    else map.set(name, Number(db));
  }
  if (problems.length > 0) throw new ConfigurationError(problems);
  return map;
}

/**
 * The binlogs in a directory: one database's own (`write2file0`), or Pika's log-path with a `log_<database>` for each.
 * In the order of their names.
 * @throws StopError
 */
export async function openDatabases({ dir, only, map }: DatabaseChoice): Promise<readonly LogDatabase[]> {
  const found: LogDatabase[] = [];
  for (const [name, path] of await directoriesOf(dir)) {
    if (only !== undefined && !only.includes(name)) continue;
    const log = await openLogDirectory(path);
    if (log === undefined) continue;
    const db = map.get(name) ?? Number(/\d{1,5}$/.exec(name)?.[0] ?? 0);
    found.push({ name, db, log });
  }
  const names = found.map(({ name }) => name);
  const absent = [...new Set([...(only ?? []), ...map.keys()])].filter((name) => !names.includes(name));
  if (found.length === 0 || absent.length > 0) {
    const what =
      absent.length > 0
        ? `no binlog of ${absent.join(', ')}`
        : 'no binlog (write2file0, log_db0/write2file0)';
    throw new StopError('SOURCE_MISSING', `${dir} holds ${what}`, {
      hint: "name the directory log_db0 of Pika's log-path, or the log-path itself: --source pika-binlog:///DIR",
      facts: { dir },
    });
  }
  if (found.length > DATABASES_MAX)
    throw new ConfigurationError([
      `--source: ${dir} holds more than ${DATABASES_MAX} databases; choose with ?db=`,
    ]);
  return found;
}

/** By the name that Pika gives to the directory of its log. */
export function databaseOf(dir: string): string {
  return DIRECTORY_NAME.exec(basename(resolve(dir)))?.[1] ?? 'db0';
}

async function directoriesOf(dir: string): Promise<[string, string][]> {
  let names: string[];
  try {
    names = await readdir(dir);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'ENOTDIR') throw error;
    throw new StopError('SOURCE_MISSING', `${dir} is ${code === 'ENOENT' ? 'not there' : 'no directory'}`, {
      hint: 'name the directory that holds the binlog: --source pika-binlog:///DIR',
      cause: error,
    });
  }
  if (names.some((name) => filenumOf(name) !== undefined)) return [[databaseOf(dir), dir]];
  return names
    .flatMap((name): [string, string][] => {
      const [, database] = DIRECTORY_NAME.exec(name) ?? [];
      return database === undefined ? [] : [[database, join(dir, name)]];
    })
    .sort(([a], [b]) => (a < b ? -1 : 1));
}
