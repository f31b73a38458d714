// What the parser of records writes out as text: deadlines, names of modules, refusals.

import { formatKey } from '../binlog/quoting.ts';
import { StopError } from '../runtime/errors.ts';
import { OversizedError } from './value-reader.ts';

/** Milliseconds since 1970; RESTORE takes none below 1. */
export function deadlineText(buffer: Buffer, at: number): string {
  const high = buffer.readInt32LE(at + 4);
  const ms = high * 2 ** 32 + buffer.readUInt32LE(at);
  return String(Math.max(1, ms));
}

const MODULE_LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** Nine letters of 6 bits each, above 10 bits of the encoding's version. */
export function moduleName(id: bigint): string {
  let name = '';
  for (let shift = 58n; shift >= 10n; shift -= 6n) name += MODULE_LETTERS[Number((id >> shift) & 63n)];
  return name;
}

/** What stops the pipeline for a key or value that the target cannot have; any other error stays what it is. */
export function refusal(error: unknown, what: string, key: Buffer, db: number, offset: number): unknown {
  if (error !== undefined && !(error instanceof OversizedError)) return error;
  const size = error === undefined ? '' : ` with ${error.message}`;
  return new StopError(
    'SNAPSHOT_VALUE_REFUSED',
    `the snapshot holds ${what}${size} that the target takes in no way: key ${formatKey(key)} of db ${db}, byte ${offset} of the RDB`,
    {
      hint: 'raise proto-max-bulk-len at the target, load the module there, or remove the key at the source',
    },
  );
}
