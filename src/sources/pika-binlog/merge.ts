// Several databases' logs as one: always the item with the lowest time, and of several the one of the first database.
//
// Pika keeps no order between its databases, and the log must have one that depends on the files alone: what is read
// again behind any position must be the same commands. So the choice looks at nothing but the next item of each
// database, and ends where the position says, however much the files have grown since.

import type { LogItem, LogReader } from '../../pika/log-reader.ts';

interface Cursor {
  readonly reader: LogReader;
  items: readonly LogItem[];
  at: number;
  ended: boolean;
}

export interface MergedItem {
  /** Which of the readers. */
  readonly database: number;
  readonly item: LogItem;
}

export class Merge {
  readonly #cursors: readonly Cursor[];

  constructor(readers: readonly LogReader[]) {
    this.#cursors = readers.map((reader) => ({ reader, items: [], at: 0, ended: false }));
  }

  /** Reads where an item is missing. False at the end of all. @throws StopError */
  async fill(): Promise<boolean> {
    for (const cursor of this.#cursors) {
      if (cursor.ended || cursor.at < cursor.items.length) continue;
      cursor.items = (await cursor.reader.next()) ?? [];
      cursor.at = 0;
      cursor.ended = cursor.items.length === 0;
    }
    return this.#cursors.some(({ ended }) => !ended);
  }

  /** The next item; undefined when `fill` must be asked first. */
  next(): MergedItem | undefined {
    let chosen: Cursor | undefined;
    let item: LogItem | undefined;
    let database = -1;
    for (let i = 0; i < this.#cursors.length; i++) {
      const cursor = this.#cursors[i] as Cursor;
      if (cursor.ended) continue;
      const candidate = cursor.items[cursor.at];
      if (candidate === undefined) return undefined;
      if (item !== undefined && timeOf(candidate) >= timeOf(item)) continue;
      chosen = cursor;
      item = candidate;
      database = i;
    }
    if (chosen === undefined || item === undefined) return undefined;
    chosen.at++;
    return { database, item };
  }

  async close(): Promise<void> {
    await Promise.all(this.#cursors.map(({ reader }) => reader.close()));
  }
}

/** What is no item has no time: it comes at once. */
function timeOf({ item }: LogItem): number {
  return item?.execTimeS ?? 0;
}
