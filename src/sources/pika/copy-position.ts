// copy                          only a copy of the data can start here
// copy:<spool>:<offset>[+<n>]   in the log of a copy: behind its first <offset> bytes, and <n> commands of what follows

import { ConfigurationError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';

export const COPY_WANTED = 'copy';
const PATTERN = /^copy:([0-9a-z-]{1,40}):(\d{1,15})(?:\+(\d{1,9}))?$/;

export interface CopyPlace {
  /** Names the spool that holds the copy's log; undefined before there is one. */
  readonly spool: string | undefined;
  readonly offset: number;
  readonly taken: number;
}

export function isCopyPosition(position: Position): boolean {
  return position === COPY_WANTED || position.startsWith(`${COPY_WANTED}:`);
}

/** @throws ConfigurationError, because a position that a person types comes through here. */
export function parseCopyPosition(position: Position): CopyPlace {
  if (position === COPY_WANTED) return { spool: undefined, offset: 0, taken: 0 };
  const [, spool, offset, taken = '0'] = PATTERN.exec(position) ?? [];
  if (spool === undefined)
    throw new ConfigurationError([`"${position.slice(0, 64)}" is not a position in a copy`]);
  return { spool, offset: Number(offset), taken: Number(taken) };
}

export function formatCopyPosition(spool: string, offset: number, taken = 0): Position {
  return `copy:${spool}:${offset}${taken > 0 ? `+${taken}` : ''}`;
}
