// A log in files as source: what was there when it was opened, and no more.
//
// The end is known only when it is reached (a torn tail, the time of --until-time), and a position must say so: the last
// entry is held back until then, and its position covers the head. Where nothing is left behind a position, the source
// remembers that position instead.

import { AbortedError } from '../runtime/errors.ts';
import { placeInside } from './aof/context.ts';
import type { FileEntry } from './aof/cutter.ts';
import { closeLog, type LogFile, type LogFiles, openLog } from './aof/files.ts';
import { type Entries, indexOf, type LogOptions, readLog } from './aof/log.ts';
import { coversPlace, formatPlace, type Place, parsePlace, startOf, untilHead } from './aof/place.ts';
import { checkUntilTime } from './aof/until.ts';
import type { Entry, From, Position, Source, SourceHead, SourceStart } from './source.ts';

export interface FileSourceOptions extends Omit<LogOptions, 'files' | 'onNotice'> {
  readonly kind: 'aof' | 'rdb';
  /** A file, a directory with a manifest, or a manifest. */
  readonly path: string;
  /** Something an operator should know. */
  readonly onNotice: (text: string) => void;
  /** What must hold before the first entry is yielded. @throws StopError */
  readonly check?: (files: readonly LogFile[], signal: AbortSignal) => Promise<void>;
}

export class FileSource implements Source {
  readonly kind: string;
  readonly display: string;
  readonly finite = true;
  readonly replication: boolean;
  readonly #options: FileSourceOptions;
  #opened: LogFiles | undefined;
  #readers = 0;
  #closed = false;
  /** Behind this position nothing is left to yield. */
  #exhausted: Position | undefined;
  #toldTorn = '';

  constructor(options: FileSourceOptions) {
    this.#options = options;
    this.kind = options.kind;
    this.display = `${options.kind}://${options.path}`;
    this.replication = options.kind === 'aof';
  }

  /** Opens the files. @throws StopError */
  get identity(): string {
    return `${this.kind}:${this.#log().fingerprint}`;
  }

  async resolve(from: From): Promise<SourceStart> {
    const { files } = this.#log();
    if (from === 'beginning') return { position: formatPlace(await this.#beginning(files[0] as LogFile)) };
    if (from === 'now') return { position: formatPlace(await this.#end()) };
    const place = parsePlace(from);
    indexOf(place, files);
    return { position: formatPlace(place) };
  }

  /** The end that was there when the files were opened, or where the commands up to the wanted time end. */
  async head(): Promise<SourceHead> {
    const { untilMs } = this.#options;
    if (untilMs !== undefined) return { position: untilHead(untilMs) };
    const last = this.#log().files.at(-1) as LogFile;
    return { position: formatPlace({ ...startOf(last.id), offset: last.bytes }) };
  }

  covers(position: Position, head: Position): boolean {
    return position === this.#exhausted || coversPlace(position, head);
  }

  entriesBehind(): undefined {
    return undefined;
  }

  /** By the last timestamp in front of it. */
  async timeBehind(position: Position): Promise<number | undefined> {
    const { seconds } = parsePlace(position);
    const { position: head } = await this.head();
    return seconds === undefined || this.covers(position, head) ? undefined : seconds * 1000;
  }

  positionInside(entry: Entry, taken: number): Position {
    return formatPlace(placeInside(entry as FileEntry, taken));
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    const from = parsePlace(position);
    const { files } = this.#log();
    this.#readers++;
    try {
      const begins = from.taken === 0 && indexOf(from, files) === 0 && from.offset === 0;
      if (begins) await this.#options.check?.(files, signal);
      const options = this.#logOptions(files);
      await checkUntilTime(from, options, signal);
      yield* this.#holdLast(position, readLog(from, options), signal);
      await untilAborted(signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      this.#readers--;
      this.#closeWhenIdle();
    }
  }

  async acknowledge(): Promise<void> {}

  async serverId(): Promise<undefined> {
    return undefined;
  }

  async forget(): Promise<readonly string[]> {
    return [];
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#closeWhenIdle();
  }

  async *#holdLast(
    position: Position,
    chunks: Entries,
    signal: AbortSignal,
  ): AsyncGenerator<readonly Entry[]> {
    let held: FileEntry | undefined;
    try {
      for (;;) {
        const step = await chunks.next();
        if (signal.aborted) return;
        if (step.done === true) {
          if (held === undefined) this.#exhausted = position;
          else yield [{ ...held, position: formatPlace(step.value) }];
          return;
        }
        const ready = held === undefined ? [...step.value] : [held, ...step.value];
        held = ready.pop();
        if (ready.length > 0) yield ready;
        if (signal.aborted) return;
      }
    } catch (error) {
      // What is whole in front of the trouble is the pipeline's.
      if (held !== undefined && !signal.aborted) yield [held];
      throw error;
    } finally {
      await chunks.return(startOf(''));
    }
  }

  async #beginning(first: LogFile): Promise<Place> {
    const start = startOf(first.id);
    if (!first.hasRdb) return start;
    const place = { offset: 0, db: 0, piece: 0, version: 0, crc: '' };
    return { ...start, rdb: { rules: await this.#options.restoreRules(), place } };
  }

  async #end(): Promise<Place> {
    const { files } = this.#log();
    const last = files.at(-1) as LogFile;
    const chunks = readLog(await this.#beginning(last), { ...this.#logOptions(files), onNotice: () => {} });
    for (;;) {
      const { done, value } = await chunks.next();
      if (done === true) return value;
    }
  }

  #logOptions(files: readonly LogFile[]): LogOptions {
    return { ...this.#options, files, onNotice: (text) => this.#tell(text) };
  }

  /** Reading on from another place meets the same end again. */
  #tell(text: string): void {
    if (text === this.#toldTorn) return;
    this.#toldTorn = text;
    this.#options.onNotice(text);
  }

  #log(): LogFiles {
    if (this.#closed) throw new AbortedError('the source is closed');
    this.#opened ??= openLog(this.#options.path);
    return this.#opened;
  }

  /** Not under a read that is still under way: the number of a closed file may soon be another file's. */
  #closeWhenIdle(): void {
    if (!this.#closed || this.#readers > 0 || this.#opened === undefined) return;
    closeLog(this.#opened);
    this.#opened = undefined;
  }
}

async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
