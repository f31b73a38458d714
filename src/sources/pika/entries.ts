// Items of the log become entries: each item is one command and takes one seq, also one that is nothing to the target.

import { formatKey } from '../../binlog/quoting.ts';
import { encodeCommand } from '../../binlog/resp.ts';
import { decodeItem, ItemError } from '../../pika/item.ts';
import { translateItem } from '../../pika/translate.ts';
import type { Entry, Position } from '../source.ts';
import type { ReceivedItem } from './link.ts';
import { formatPikaPosition, type PikaPosition, type Place } from './position.ts';

/** An entry ends behind the item that reaches this. */
const ENTRY_BYTES = 32 * 1024;
/** Ignored and counted where every command is judged. */
const NOTHING = encodeCommand(['PING']);

interface Cut {
  readonly before: PikaPosition;
  readonly db: string;
  /** End of the item of each command. */
  readonly ends: readonly Place[];
}

export class EntryMaker {
  readonly #numbers: ReadonlyMap<string, number>;
  readonly #cuts = new WeakMap<Entry, Cut>();

  /** `numbers`: the target's database for each one of the source. */
  constructor(numbers: ReadonlyMap<string, number>) {
    this.#numbers = numbers;
  }

  /** `items` follow upon `before` in the log of `db`. Returns the place behind them. */
  add(entries: Entry[], before: PikaPosition, db: string, items: readonly ReceivedItem[]): PikaPosition {
    let batch = new Batch();
    let at = before;
    const close = () => {
      if (batch.ends.length > 0) at = this.#close(entries, at, db, batch);
      batch = new Batch();
    };
    for (const { end, bytes } of items) {
      const read = readItem(bytes);
      const isMalformed = read.malformed !== undefined;
      if (isMalformed || (batch.ends.length > 0 && read.timeS !== batch.timeS)) close();
      batch.add(read, end);
      if (isMalformed || batch.bytes >= ENTRY_BYTES) close();
    }
    close();
    return at;
  }

  /** An entry without effect, for its position alone. */
  announce(before: PikaPosition, window: PikaPosition['window'], timeMs: number): Entry {
    const behind = { ...before, window, announced: true };
    const position = formatPikaPosition(behind);
    const entry: Entry = {
      position,
      resp: NOTHING,
      skip: 0,
      db: 0,
      timeMs,
      beginsOrder: true,
      malformed: undefined,
    };
    this.#cuts.set(entry, { before, db: '', ends: [] });
    return entry;
  }

  positionInside(entry: Entry, taken: number): Position {
    const cut = this.#cuts.get(entry);
    if (cut === undefined) throw new Error('the entry is not of this source');
    if (taken === 0) return formatPikaPosition(cut.before);
    const end = cut.ends[taken - 1];
    return end === undefined ? entry.position : formatPikaPosition(behindOf(cut.before, cut.db, end));
  }

  #close(entries: Entry[], before: PikaPosition, db: string, batch: Batch): PikaPosition {
    const behind = behindOf(before, db, batch.ends.at(-1) as Place);
    const entry: Entry = {
      position: formatPikaPosition(behind),
      resp: batch.parts.length === 1 ? (batch.parts[0] as Buffer) : Buffer.concat(batch.parts, batch.bytes),
      skip: 0,
      db: this.#numbers.get(db) ?? 0,
      timeMs: batch.timeS * 1000,
      malformed: batch.malformed,
      ...(batch.refused === undefined ? {} : { refused: batch.refused }),
    };
    this.#cuts.set(entry, { before, db, ends: batch.ends });
    entries.push(entry);
    return behind;
  }
}

interface Read {
  readonly resp: Buffer;
  readonly timeS: number;
  readonly malformed: string | undefined;
  readonly refused?: Entry['refused'];
}

class Batch {
  readonly parts: Buffer[] = [];
  readonly ends: Place[] = [];
  bytes = 0;
  timeS = 0;
  malformed: string | undefined;
  refused: Entry['refused'];

  add({ resp, timeS, malformed, refused }: Read, end: Place): void {
    this.parts.push(resp);
    this.ends.push(end);
    this.bytes += resp.length;
    this.timeS = timeS;
    this.malformed = malformed;
    this.refused = refused;
  }
}

function readItem(bytes: Buffer): Read {
  // The master could not read a record, and sent its end.
  if (bytes.length === 0) return { resp: bytes, timeS: 0, malformed: 'the master sent an empty item' };
  try {
    const item = decodeItem(bytes);
    const timeS = item.execTimeS;
    const translated = translateItem(item);
    if (translated.kind === 'commands') return { resp: translated.resp, timeS, malformed: undefined };
    if (translated.kind === 'nothing') return { resp: NOTHING, timeS, malformed: undefined };
    const { command, why } = translated;
    const key = translated.key === undefined ? null : formatKey(translated.key);
    const refused = { code: 'NOT_CARRIED', command, key };
    return { resp: item.resp, timeS, malformed: why, refused };
  } catch (error) {
    if (!(error instanceof ItemError)) throw error;
    return { resp: bytes, timeS: 0, malformed: error.message };
  }
}

function behindOf(before: PikaPosition, db: string, end: Place): PikaPosition {
  return { ...before, places: new Map(before.places).set(db, end), announced: false };
}
