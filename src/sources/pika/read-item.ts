// An item of the log as a command of an entry.

import { formatKey } from '../../binlog/quoting.ts';
import { encodeCommand } from '../../binlog/resp.ts';
import { decodeItem, ItemError } from '../../pika/item.ts';
import { translateItem } from '../../pika/translate.ts';
import type { Entry } from '../source.ts';

/** Ignored and counted where every command is judged. */
export const NOTHING = encodeCommand(['PING']);

export interface ReadItem {
  readonly resp: Buffer;
  readonly timeS: number;
  readonly malformed: string | undefined;
  readonly refused?: Entry['refused'];
  readonly empties?: 'db' | 'everything' | undefined;
  /** The key that it changed in a way that the log does not tell, or the target does not know. A view of the item. */
  readonly untold?: Buffer | undefined;
}

export function readItem(bytes: Buffer): ReadItem {
  // The master could not read a record, and sent its end.
  if (bytes.length === 0) return { resp: bytes, timeS: 0, malformed: 'the master sent an empty item' };
  try {
    const item = decodeItem(bytes);
    const timeS = item.execTimeS;
    const translated = translateItem(item);
    if (translated.kind === 'commands') {
      const { resp, empties } = translated;
      return { resp, timeS, malformed: undefined, empties };
    }
    if (translated.kind === 'nothing') return { resp: NOTHING, timeS, malformed: undefined };
    const { command, why, key: untold } = translated;
    const refused = {
      code: 'NOT_CARRIED',
      command,
      key: untold === undefined ? null : formatKey(untold),
    };
    return { resp: item.resp, timeS, malformed: why, refused, untold };
  } catch (error) {
    if (!(error instanceof ItemError)) throw error;
    return { resp: bytes, timeS: 0, malformed: error.message };
  }
}
