// The files of an AOF, opened all at once: a live server that rewrites its AOF meanwhile takes the names away, not the
// bytes. Their sizes at that moment are the end of the log.

import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readdirSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { StopError } from '../../runtime/errors.ts';
import { type ManifestFile, parseManifest } from './manifest.ts';

const MANIFEST_SUFFIX = '.manifest';
const MANIFEST_BYTES_MAX = 16 * 1024 * 1024;
const HEAD_BYTES = 64 * 1024;
/** Of a file that may still grow, only what even a short one has. */
const GROWING_HEAD_BYTES = 256;
const MAGIC = /^(?:REDIS|VALKEY)/;
const MAGIC_BYTES = 6;
/** A server that rewrites its AOF replaces the manifest before it removes a file. */
const ATTEMPTS_MAX = 3;

export interface LogFile {
  /** `base.<seq>`, `incr.<seq>` or `file`: its name in positions. */
  readonly id: string;
  readonly path: string;
  readonly fd: number;
  /** When it was opened. */
  readonly bytes: number;
  readonly modifiedMs: number;
  /** It begins with an RDB. */
  readonly hasRdb: boolean;
}

export interface LogFiles {
  /** In the order of the log; at least one. */
  readonly files: readonly LogFile[];
  /** Stays the same when the log grows or its directory is moved. */
  readonly fingerprint: string;
}

/** @throws StopError for what is not there or is no AOF */
export function openLog(path: string): LogFiles {
  const manifest = manifestOf(path);
  for (let attempt = 1; ; attempt++) {
    const files: LogFile[] = [];
    try {
      if (manifest === undefined) files.push(openFile('file', path));
      else {
        for (const named of parseManifest(readManifest(manifest), manifest))
          files.push(openNamed(manifest, named));
      }
      return { files, fingerprint: fingerprintOf(files) };
    } catch (error) {
      closeLog({ files });
      if (!(error instanceof MissingFile)) throw error;
      if (attempt === ATTEMPTS_MAX) throw error.stop;
    }
  }
}

export function closeLog({ files }: Pick<LogFiles, 'files'>): void {
  for (const { fd } of files) closeSync(fd);
}

class MissingFile extends Error {
  readonly stop: StopError;
  constructor(stop: StopError) {
    super(stop.message);
    this.stop = stop;
  }
}

/** Undefined where `path` is a file of the log itself. */
function manifestOf(path: string): string | undefined {
  const stat = statOf(path);
  if (!stat.isDirectory()) return path.endsWith(MANIFEST_SUFFIX) ? path : undefined;
  const names = readdirSync(path).filter(
    (name) => name.endsWith(MANIFEST_SUFFIX) && !name.startsWith('temp-'),
  );
  const [name, another] = names;
  if (name === undefined) {
    throw unusable(
      path,
      `the directory ${path} holds no *.manifest`,
      'name the directory that appenddirname says, or one AOF file',
    );
  }
  if (another !== undefined)
    throw unusable(
      path,
      `the directory ${path} holds several manifests: ${names.join(', ')}`,
      'name one of them',
    );
  return join(path, name);
}

function statOf(path: string) {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function readManifest(path: string): Buffer {
  if (statOf(path).size > MANIFEST_BYTES_MAX)
    throw unusable(
      path,
      `${path} is larger than any manifest`,
      'name the file whose name ends with .manifest',
    );
  try {
    return readFileSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function openNamed(manifest: string, { name, type, seq, line }: ManifestFile): LogFile {
  try {
    return openFile(`${type}.${seq}`, join(dirname(manifest), name));
  } catch (error) {
    if (!(error instanceof StopError)) throw error;
    const message = `${manifest}, line ${line}: ${error.message}`;
    throw new MissingFile(
      new StopError(error.code, message, {
        hint: 'the files of an AOF belong together: copy or restore the whole directory',
        facts: { line },
        cause: error,
      }),
    );
  }
}

/** @throws StopError SOURCE_FILE */
export function openFile(id: string, path: string): LogFile {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw unreadable(path, error);
  }
  const stat = fstatSync(fd);
  if (!stat.isFile()) {
    closeSync(fd);
    throw unusable(path, `${path} is not a file`, 'name a file or a directory with a manifest');
  }
  const hasRdb = MAGIC.test(readHead(fd, MAGIC_BYTES).toString('latin1'));
  return { id, path, fd, bytes: stat.size, modifiedMs: Math.floor(stat.mtimeMs), hasRdb };
}

/** A base is complete and never changes; of anything else only the beginning stays. */
function fingerprintOf(files: readonly LogFile[]): string {
  const [first] = files as [LogFile];
  const isWhole = first.id.startsWith('base.') && first.bytes > 0;
  const hash = createHash('sha256');
  if (isWhole) hash.update(readHead(first.fd, HEAD_BYTES));
  else {
    const begun = files.find(({ bytes }) => bytes > 0);
    if (begun !== undefined) hash.update(readHead(begun.fd, GROWING_HEAD_BYTES));
  }
  return hash.digest('hex').slice(0, 16);
}

export function readHead(fd: number, bytes: number, at = 0): Buffer {
  const buffer = Buffer.alloc(bytes);
  return buffer.subarray(0, readSync(fd, buffer, 0, bytes, at));
}

function unreadable(path: string, error: unknown): StopError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  const what = code === 'ENOENT' ? 'does not exist' : `cannot be read (${code})`;
  return unusable(
    path,
    `${path} ${what}`,
    'name a file or directory that this process may read, on this host',
    error,
  );
}

function unusable(path: string, message: string, hint: string, cause?: unknown): StopError {
  return new StopError('SOURCE_FILE', message, { hint, facts: { file: basename(path) }, cause });
}
