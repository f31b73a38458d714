// The files of an AOF as one log, from a place in it to the end that was there when they were opened.
//
// Every file begins in database 0, as a server that loads it does. A torn tail of the last file is left out; anywhere
// else, and for anything that no server writes, reading stops at the offset, behind everything that is whole.

import { basename } from 'node:path';
import { RdbError } from '../../rdb/rdb-error.ts';
import { type RestoreRules, readRdb } from '../../rdb/rdb-log.ts';
import { StopError } from '../../runtime/errors.ts';
import { BlockReader, blocksOf } from './blocks.ts';
import { type Cut, Cutter, type FileEntry } from './cutter.ts';
import type { LogFile } from './files.ts';
import { formatPlace, type Place, startOf } from './place.ts';

/** An entry costs the pipeline little; more bytes in one would only make rounds coarser. */
const ENTRY_BYTES = 64 * 1024;
/** Room for one command; more than a server takes from a client by default. */
const COMMAND_BYTES_MAX = 1024 * 1024 * 1024;
const FIX = 'make a copy, and let redis-check-aof --fix cut the file there, or restore it from a backup';

export interface LogOptions {
  readonly files: readonly LogFile[];
  readonly transactionBytesMax: number;
  /** The log ends in front of the first command after this time, ms since 1970. */
  readonly untilMs: number | undefined;
  /** For an RDB that is begun anew. */
  readonly restoreRules: () => Promise<RestoreRules>;
  readonly onNotice: (text: string) => void;
}

export type Entries = AsyncGenerator<readonly FileEntry[], Place>;

/** Yields chunks of entries behind `from`, never an empty one; returns the end. @throws StopError */
export async function* readLog(from: Place, options: LogOptions): Entries {
  const { files, untilMs } = options;
  let place = from;
  for (let i = indexOf(from, files); ; i++) {
    const file = files[i] as LogFile;
    if (file.hasRdb && (place.rdb !== undefined || place.offset === 0))
      place = yield* readPreamble(file, place, options);
    const isLast = i === files.length - 1;
    const end = yield* readText(file, place, { ...options, isLast });
    if (isLast || end.reached === 'until') return { ...end.place, untilMs };
    place = { ...startOf((files[i + 1] as LogFile).id), seconds: end.place.seconds };
  }
}

/** @throws StopError SOURCE_LOST where the file of `place` is not, or no longer, part of the log */
export function indexOf(place: Place, files: readonly LogFile[]): number {
  const index = files.findIndex(({ id }) => id === place.file);
  const there = files.map(({ path }) => basename(path)).join(', ');
  const hint = 'start over: lanegate reset, then --from beginning --target-data replace (or keep)';
  if (index < 0) {
    const message = `the log was read up to ${formatPlace(place)}, and ${place.file} is not part of it now (${there}): the server has rewritten its AOF`;
    throw new StopError('SOURCE_LOST', message, { hint, facts: { from: formatPlace(place) } });
  }
  const { bytes, path, hasRdb } = files[index] as LogFile;
  if (place.offset > bytes || (place.rdb !== undefined && !hasRdb)) {
    const message = `the log was read up to ${formatPlace(place)}, and ${path} is another file: it has ${bytes} bytes`;
    throw new StopError('SOURCE_REWOUND', message, { hint, facts: { from: formatPlace(place) } });
  }
  return index;
}

async function* readPreamble(file: LogFile, from: Place, options: LogOptions): Entries {
  const { path, fd, bytes, id, modifiedMs } = file;
  const rules = from.rdb?.rules ?? (await options.restoreRules());
  let skip = from.taken;
  let before: Place = { ...from, taken: 0 };
  const blocks = blocksOf({ path, fd, from: from.offset, to: bytes });
  try {
    const chunks = readRdb(blocks, {
      rules,
      ...(from.rdb === undefined || from.offset === 0 ? {} : { from: from.rdb.place }),
      onNotice: options.onNotice,
    });
    for (;;) {
      const { value, done } = await chunks.next();
      if (done === true) return { ...startOf(id), offset: value.offset };
      const entries: FileEntry[] = [];
      for (const { place, db, resp } of value.entries) {
        const behind: Place = { ...startOf(id), offset: place.offset, db: place.db, rdb: { rules, place } };
        const position = formatPlace(behind);
        entries.push({
          from: before,
          isMade: true,
          position,
          resp,
          skip,
          db,
          timeMs: modifiedMs,
          malformed: undefined,
        });
        before = behind;
        skip = 0;
      }
      yield entries;
    }
  } catch (error) {
    throw error instanceof RdbError ? malformedRdb(path, error) : error;
  } finally {
    await blocks.return(undefined);
  }
}

export function malformedRdb(path: string, error: RdbError): StopError {
  return new StopError('MALFORMED', `${path}: ${error.message}`, {
    hint: 'redis-check-rdb says what is left of it; restore the file from a backup',
    cause: error,
  });
}

interface TextEnd {
  readonly place: Place;
  readonly reached: 'end' | 'until';
}

async function* readText(
  file: LogFile,
  from: Place,
  options: LogOptions & { readonly isLast: boolean },
): AsyncGenerator<readonly FileEntry[], TextEnd> {
  const { path, fd, bytes, modifiedMs } = file;
  const { transactionBytesMax, untilMs } = options;
  const cutter = new Cutter(from, {
    entryBytes: ENTRY_BYTES,
    transactionBytesMax,
    untilMs,
    timeMsDefault: modifiedMs,
  });
  const reader = new BlockReader({ path, fd, from: from.offset, to: bytes });
  let rest: Buffer = Buffer.alloc(0);
  let inTransaction = false;
  try {
    for (;;) {
      const block = await reader.next(rest);
      if (block === undefined) break;
      const cut = cutter.cut(block);
      if (cut.entries.length > 0) yield cut.entries;
      if (cut.stop?.kind === 'until') return { place: cutter.place, reached: 'until' };
      if (cut.stop !== undefined) throw stopAt(path, cut.stop, transactionBytesMax);
      rest = block.subarray(cut.consumed);
      inTransaction = cut.inTransaction;
      if (rest.length > COMMAND_BYTES_MAX)
        throw tooLarge(path, cutter.place.offset, 'command', COMMAND_BYTES_MAX);
    }
  } finally {
    await reader.close();
  }
  return { place: leaveOut(path, cutter.place, rest.length, { ...options, inTransaction }), reached: 'end' };
}

/** A torn tail: `bytes` behind `place` that are no whole command or transaction. */
function leaveOut(
  path: string,
  place: Place,
  bytes: number,
  options: {
    readonly isLast: boolean;
    readonly inTransaction: boolean;
    readonly onNotice: (text: string) => void;
  },
): Place {
  if (bytes === 0) return place;
  const { offset } = place;
  const what = options.inTransaction ? 'a MULTI without its EXEC' : 'a command that is cut short';
  if (!options.isLast) {
    const message = `${path}: ends with ${what}, from byte ${offset}, and is not the last file of the log`;
    throw new StopError('MALFORMED', message, { hint: FIX, facts: { offset, bytes } });
  }
  options.onNotice(`${path} ends with ${what}: the last ${bytes} bytes, from byte ${offset}, are left out`);
  return { ...place, leftOut: bytes };
}

function stopAt(
  path: string,
  stop: Exclude<Cut['stop'], { kind: 'until' } | undefined>,
  bytesMax: number,
): StopError {
  const { offset } = stop;
  if (stop.kind === 'transaction too large') return tooLarge(path, offset, 'MULTI ... EXEC', bytesMax);
  return new StopError('MALFORMED', `${path}: expected ${stop.expected} at byte ${offset}`, {
    hint: FIX,
    facts: { offset },
  });
}

function tooLarge(path: string, offset: number, what: string, bytesMax: number): StopError {
  return new StopError(
    'TRANSACTION_TOO_LARGE',
    `${path}: a ${what} of more than ${bytesMax} bytes at byte ${offset}`,
    {
      hint: what === 'command' ? FIX : 'allow it, if this process has the memory for it: --transaction-bytes',
      facts: { offset },
    },
  );
}
