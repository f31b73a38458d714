// Binlog files of Pika as source: one database's directory, or the log-path with one for each.
//
// The log is finite: it ends where the files ended when this source first looked. Of one database what is written later
// is read by the next start. Of several the end is part of every position (merge.ts), and there is no going on behind it.
// Behind the end `read` waits for its abort.

import { once } from 'node:events';
import { comparePlaces, type LogPlace, logFilePath } from '../pika/log-directory.ts';
import { type LogItem, LogReader } from '../pika/log-reader.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import { type BatchedEntry, EntryBatch } from './pika-binlog/batch.ts';
import { type LogDatabase, openDatabases } from './pika-binlog/databases.ts';
import { Merge } from './pika-binlog/merge.ts';
import {
  coversVector,
  type DatabasePlace,
  formatVector,
  parseVector,
  type Vector,
} from './pika-binlog/position.ts';
import type { Entry, From, Position, Source, SourceHead, SourceStart } from './source.ts';

const CHUNK_BYTES = 1024 * 1024;
const BARE_PLACE = /^\d{1,10}:\d{1,16}$/;

export interface PikaBinlogOptions {
  /** The pipeline. */
  readonly name: string;
  /** Absolute. */
  readonly dir: string;
  /** Databases to read; undefined: all. */
  readonly only?: readonly string[] | undefined;
  /** name -> number at the target. */
  readonly map?: ReadonlyMap<string, number>;
  /** About how much a chunk weighs. */
  readonly chunkBytes?: number;
  readonly onNotice?: (text: string) => void;
}

export class PikaBinlogSource implements Source {
  readonly kind = 'pika-binlog';
  readonly identity: string;
  readonly display: string;
  readonly replication = false;
  readonly finite = true;
  readonly #options: PikaBinlogOptions;
  readonly #chunkBytes: number;
  #databases: Promise<readonly LogDatabase[]> | undefined;

  constructor(options: PikaBinlogOptions) {
    this.#options = options;
    this.#chunkBytes = options.chunkBytes ?? CHUNK_BYTES;
    const only = options.only === undefined ? '' : `?db=${options.only.join(',')}`;
    const map = [...(options.map ?? [])].map(([name, db]) => `${name}=${db}`).sort();
    // Another mapping sends the same commands to other databases: it is another log.
    this.identity = `pika-binlog:${options.dir}${only}${map.length === 0 ? '' : `#${map.join(',')}`}`;
    this.display = `pika-binlog://${options.dir}${only}`;
  }

  async resolve(from: From): Promise<SourceStart> {
    const databases = await this.#open();
    if (from === 'now') return this.head();
    if (from === 'beginning') {
      const start = databases.map(({ name, log }) =>
        placeOf(name, { filenum: log.files[0] as number, offset: 0 }),
      );
      return { position: formatVector(this.#ended(start, databases)) };
    }
    const [only] = databases;
    const isBare = databases.length === 1 && only !== undefined && BARE_PLACE.test(from);
    const vector = this.#placed(isBare ? `${only.name}=${from}` : from, databases);
    return { position: formatVector(this.#ended(vector, databases)) };
  }

  async head(): Promise<SourceHead> {
    const databases = await this.#open();
    const vector = databases.map(({ name, log }) => placeOf(name, log.end));
    return { position: formatVector(this.#ended(vector, databases)) };
  }

  async *read(position: Position, signal: AbortSignal): AsyncIterable<readonly Entry[]> {
    if (signal.aborted) return;
    const databases = await this.#open();
    let at: Vector = this.#checked(this.#placed(position, databases), databases);
    const merge = this.#merge(at, databases);
    const batch = new EntryBatch<Vector>(formatVector);
    try {
      while (!signal.aborted && (await merge.fill())) {
        for (let next = merge.next(); next !== undefined; next = merge.next()) {
          const { database, item } = next;
          const { db } = databases[database] as LogDatabase;
          const behind = moved(at, database, item);
          batch.add({ db, ...item }, at, behind);
          at = behind;
          if (batch.bytes < this.#chunkBytes) continue;
          yield batch.take();
          if (signal.aborted) return;
        }
      }
      const rest = batch.take();
      if (rest.length > 0 && !signal.aborted) yield rest;
    } catch (error) {
      // What is whole in front of the place goes first.
      const rest = batch.take();
      if (rest.length > 0 && !signal.aborted) yield rest;
      throw error;
    } finally {
      await merge.close();
    }
    this.#checkGrown(at, databases);
    if (!signal.aborted) await once(signal, 'abort');
  }

  positionInside(entry: Entry, taken: number): Position {
    const { places } = entry as BatchedEntry<Vector>;
    return formatVector(places[taken] as Vector);
  }

  async acknowledge(_position: Position): Promise<void> {}

  covers(position: Position, head: Position): boolean {
    return coversVector(position, head);
  }

  entriesBehind(): undefined {
    return undefined;
  }

  async timeBehind(position: Position): Promise<number | undefined> {
    const databases = await this.#open();
    const merge = this.#merge(this.#placed(position, databases), databases);
    try {
      if (!(await merge.fill())) return undefined;
      const time = merge.next()?.item.item?.execTimeS;
      return time === undefined ? undefined : time * 1000;
    } finally {
      await merge.close();
    }
  }

  async serverId(): Promise<string | undefined> {
    return undefined;
  }

  async forget(): Promise<readonly string[]> {
    return [];
  }

  async close(): Promise<void> {}

  /** Looks once: head and reading agree on where the log ends. */
  #open(): Promise<readonly LogDatabase[]> {
    this.#databases ??= this.#look().catch((error) => {
      this.#databases = undefined;
      throw error;
    });
    return this.#databases;
  }

  async #look(): Promise<readonly LogDatabase[]> {
    const { dir, only, map = new Map(), onNotice } = this.#options;
    const databases = await openDatabases({ dir, only, map });
    for (const { log } of databases) {
      if (log.tornAt === undefined) continue;
      const path = logFilePath(log.dir, log.end.filenum);
      onNotice?.(
        `${path}:${log.tornAt}: what follows is no whole item and is left out (there is no manifest beside it)`,
      );
    }
    return databases;
  }

  #merge(vector: Vector, databases: readonly LogDatabase[]): Merge {
    return new Merge(
      databases.map(({ log }, i) => {
        const place = vector[i] as DatabasePlace;
        return new LogReader(log, place, place.until ?? log.end);
      }),
    );
  }

  /** The position's places in the order of the databases. @throws ConfigurationError */
  #placed(position: Position, databases: readonly LogDatabase[]): Vector {
    const vector = parseVector(position);
    const names = databases.map(({ name }) => name);
    const places = new Map(vector.map((place) => [place.db, place]));
    if (vector.length === names.length && names.every((name) => places.has(name)))
      return names.map((name) => places.get(name) as DatabasePlace);
    const named = [...places.keys()].join(', ');
    throw new ConfigurationError([
      `the position names ${named}, and the databases of ${this.display} are ${names.join(', ')}`,
    ]);
  }

  /** Of several databases the position says where reading ends. */
  #ended(vector: Vector, databases: readonly LogDatabase[]): Vector {
    if (databases.length === 1) return vector;
    return vector.map((place, i) => ({
      ...place,
      until: place.until ?? (databases[i] as LogDatabase).log.end,
    }));
  }

  /** @throws StopError if the files end before the position */
  #checked(vector: Vector, databases: readonly LogDatabase[]): Vector {
    for (const [i, place] of vector.entries()) {
      const { log } = databases[i] as LogDatabase;
      const needed = place.until ?? place;
      if (comparePlaces(needed, log.end) <= 0) continue;
      throw new StopError(
        'SOURCE_REWOUND',
        `the binlog of ${place.db} ends at ${log.end.filenum}:${log.end.offset}, and the position is ${formatVector([place])}`,
        { hint: this.#startOver(), facts: { dir: log.dir } },
      );
    }
    return vector;
  }

  /** @throws StopError if files of several databases have grown behind the end that the position names */
  #checkGrown(vector: Vector, databases: readonly LogDatabase[]): void {
    for (const [i, { until }] of vector.entries()) {
      const { name, log } = databases[i] as LogDatabase;
      if (until === undefined || comparePlaces(until, log.end) >= 0) continue;
      const end = formatVector(vector.map((place) => ({ ...place, until: undefined })));
      throw new StopError(
        'SOURCE_GROWN',
        `the binlog of ${name} was read to the end that it had at the start, ${until.filenum}:${until.offset}, and has grown`,
        {
          hint: `once all of it is applied (lanegate status), go on: lanegate reset --name ${this.#options.name}, then lanegate run --from ${end} --target-data keep`,
          facts: { dir: log.dir },
        },
      );
    }
  }

  #startOver(): string {
    return `bring the files back, or start over: lanegate reset --name ${this.#options.name}, then lanegate run --from beginning --target-data replace (or keep)`;
  }
}

function placeOf(db: string, { filenum, offset }: LogPlace): DatabasePlace {
  return { db, filenum, offset, until: undefined };
}

function moved(vector: Vector, database: number, { filenum, end: offset }: LogItem): Vector {
  const { db, until } = vector[database] as DatabasePlace;
  const place = { db, filenum, offset, until };
  return vector.length === 1 ? [place] : vector.with(database, place);
}
