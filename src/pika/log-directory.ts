// One database's binlog as Pika leaves it on disk: write2file<N>, and a manifest that says where the writer is.

import { type FileHandle, open, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StopError } from '../runtime/errors.ts';
import { BlockError, type BlockItem, BlockReader, RECORD_HEADER_BYTES } from './block-reader.ts';
import { uint64At } from './item.ts';

/** Behind an item: the file's number, and the offset in it. */
export interface LogPlace {
  readonly filenum: number;
  readonly offset: number;
}

export interface LogDirectory {
  readonly dir: string;
  /** Numbers of the files, ascending, at least one. */
  readonly files: readonly number[];
  readonly end: LogPlace;
  /** Without a manifest the last file may end inside an item: where that begins. */
  readonly tornAt: number | undefined;
}

const FILE_NAME = /^write2file(\d{1,10})$/;
const MANIFEST = 'manifest';
/** What counts of it; Pika maps 64 KiB. */
const MANIFEST_BYTES = 24;

/** Of a binlog file's name; undefined if it is none. */
export function filenumOf(name: string): number | undefined {
  const [, digits] = FILE_NAME.exec(name) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

export function logFilePath(dir: string, filenum: number): string {
  return join(dir, `write2file${filenum}`);
}

export function comparePlaces(a: LogPlace, b: LogPlace): number {
  return a.filenum - b.filenum || a.offset - b.offset;
}

/** Undefined if the directory holds no binlog, or not the only file that is asked for. @throws StopError */
export async function openLogDirectory(dir: string, only?: number): Promise<LogDirectory | undefined> {
  const names = await readdir(dir);
  const files = names
    .flatMap((name) => filenumOf(name) ?? [])
    .filter((filenum) => only === undefined || filenum === only)
    .sort((a, b) => a - b);
  const last = files.at(-1);
  if (last === undefined) return undefined;
  const end = names.includes(MANIFEST) ? await readManifest(dir) : undefined;
  if (end !== undefined && files.includes(end.filenum)) return { dir, files, end, tornAt: undefined };
  if (end !== undefined && only === undefined)
    throw missing(dir, end.filenum, 'the manifest says that the writer is in it');
  const { offset, torn } = await scanEnd(dir, last);
  return { dir, files, end: { filenum: last, offset }, tornAt: torn ? offset : undefined };
}

/** Filenum u32, offset u64, logic id u64, term u32, little-endian. */
async function readManifest(dir: string): Promise<LogPlace> {
  const path = join(dir, MANIFEST);
  const bytes = await readFile(path);
  if (bytes.length < MANIFEST_BYTES)
    throw malformed(path, bytes.length, `${MANIFEST_BYTES} bytes of a manifest`);
  return { filenum: bytes.readUInt32LE(0), offset: uint64At(bytes, 4) };
}

/** Where the whole items of a file end that nothing is said of. A crash may leave the header of an item without the rest. */
async function scanEnd(dir: string, filenum: number): Promise<{ offset: number; torn: boolean }> {
  const path = logFilePath(dir, filenum);
  await using file = await openLogFile(dir, filenum);
  const reader = new BlockReader({ file, from: 0, bound: undefined });
  let beforeLast = 0;
  let lastEnd = 0;
  let last: Buffer | undefined;
  try {
    for (let items = await reader.next(); items !== undefined; items = await reader.next()) {
      beforeLast = items.at(-2)?.end ?? lastEnd;
      ({ bytes: last, end: lastEnd } = items.at(-1) as BlockItem);
    }
  } catch (error) {
    throw explainBlock(path, error);
  }
  // The header of a record is written before its payload.
  const unwritten = last?.subarray(0, RECORD_HEADER_BYTES).every((byte) => byte === 0) ?? false;
  return unwritten
    ? { offset: beforeLast, torn: true }
    : { offset: reader.itemEnd, torn: reader.end === 'torn' };
}

/** @throws StopError if it is not there */
export async function openLogFile(dir: string, filenum: number): Promise<FileHandle> {
  try {
    return await open(logFilePath(dir, filenum), 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    throw missing(dir, filenum, 'the log goes through it');
  }
}

export function explainBlock(path: string, error: unknown): unknown {
  return error instanceof BlockError ? malformed(path, error.offset, error.expected) : error;
}

function malformed(path: string, offset: number, expected: string): StopError {
  return new StopError('MALFORMED', `${path}:${offset}: expected ${expected}`, {
    hint: 'copy the file again from the server (its manifest first, while it writes), or start behind the place: --from',
    facts: { file: path, offset },
  });
}

function missing(dir: string, filenum: number, why: string): StopError {
  return new StopError('SOURCE_LOST', `${logFilePath(dir, filenum)} is not there, and ${why}`, {
    hint: 'copy the missing file from the server; if it was purged there, start over: lanegate reset, then lanegate run --from beginning --target-data replace (or keep)',
    facts: { file: logFilePath(dir, filenum) },
  });
}
