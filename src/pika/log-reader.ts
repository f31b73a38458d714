import type { FileHandle } from 'node:fs/promises';
import { BlockError, type BlockItem, BlockReader } from './block-reader.ts';
import { decodeItem, ItemError, type PikaItem } from './item.ts';
import { explainBlock, type LogDirectory, type LogPlace, logFilePath, openLogFile } from './log-directory.ts';

export interface LogItem {
  readonly filenum: number;
  /** Where its first record begins. */
  readonly start: number;
  /** Behind its last record: with `filenum` the place to resume at. */
  readonly end: number;
  /** Undefined if the bytes are none: see `malformed`. */
  readonly item: PikaItem | undefined;
  readonly malformed: string | undefined;
  readonly bytes: Buffer;
}

/** The items of one database's log behind a place, through its files. Memory: as block-reader.ts says. */
export class LogReader {
  readonly #log: LogDirectory;
  readonly #until: LogPlace;
  #place: LogPlace;
  #file: FileHandle | undefined;
  #reader: BlockReader | undefined;
  /** The end of the file before this one, until this one's first item is read. */
  #left: LogPlace | undefined;

  constructor(log: LogDirectory, from: LogPlace, until: LogPlace) {
    this.#log = log;
    this.#place = from;
    this.#until = until;
  }

  /** The next items, of one file, never none; undefined at `until`. @throws StopError naming file and offset */
  async next(): Promise<readonly LogItem[] | undefined> {
    for (;;) {
      const { filenum } = this.#place;
      const isLast = filenum >= this.#until.filenum;
      if (isLast && this.#place.offset >= this.#until.offset) return undefined;
      this.#reader ??= await this.#open(isLast ? this.#until.offset : undefined);
      let found: readonly BlockItem[] | undefined;
      try {
        found = await this.#reader.next();
      } catch (error) {
        throw explainBlock(logFilePath(this.#log.dir, filenum), error);
      }
      if (found !== undefined) {
        const items = found.map((one) => this.#decoded(filenum, one));
        this.#checkRoll(items[0] as LogItem);
        this.#place = { filenum, offset: this.#reader.itemEnd };
        return items;
      }
      await this.#leave(filenum, isLast);
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#reader = undefined;
    await file?.close();
  }

  async #open(bound: number | undefined): Promise<BlockReader> {
    this.#file = await openLogFile(this.#log.dir, this.#place.filenum);
    return new BlockReader({ file: this.#file, from: this.#place.offset, bound });
  }

  async #leave(filenum: number, isLast: boolean): Promise<void> {
    const torn = this.#reader?.end === 'torn';
    const at = this.#reader?.itemEnd ?? 0;
    await this.close();
    if (torn) {
      const path = logFilePath(this.#log.dir, filenum);
      throw explainBlock(path, new BlockError(at, `a whole item, since write2file${filenum + 1} follows`));
    }
    this.#left = { filenum, offset: at };
    this.#place = isLast ? this.#until : { filenum: filenum + 1, offset: 0 };
  }

  /** A file's first item tells where the file before it ended: a copy that lacks its tail shows here alone. */
  #checkRoll({ item }: LogItem): void {
    const left = this.#left;
    this.#left = undefined;
    if (left === undefined || item === undefined || item.startFilenum !== left.filenum) return;
    if (item.startOffset <= left.offset) return;
    const path = logFilePath(this.#log.dir, left.filenum);
    throw explainBlock(path, new BlockError(left.offset, `items up to byte ${item.startOffset}`));
  }

  #decoded(filenum: number, { bytes, start, end }: BlockItem): LogItem {
    try {
      return { filenum, start, end, item: decodeItem(bytes), malformed: undefined, bytes };
    } catch (error) {
      if (!(error instanceof ItemError)) throw error;
      const malformed = `${logFilePath(this.#log.dir, filenum)}:${start}: ${error.message}`;
      return { filenum, start, end, item: undefined, malformed, bytes };
    }
  }
}
