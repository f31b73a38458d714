// Whether the log of a master is repaired as it is read, and how much was.

import { formatKey } from '../../binlog/quoting.ts';
import type { Endpoint } from '../../runtime/endpoint.ts';
import { StopError } from '../../runtime/errors.ts';
import type { LeftOutKey, SourceTally } from '../source.ts';
import { KeyReader } from './key-reader.ts';
import { comparePlaces, type PikaPosition, type Places } from './position.ts';
import { Repair } from './repair.ts';

/** Between two looks; the others are counted. */
const NAMED_MAX = 1_000;

export interface RepairingOptions {
  readonly endpoint: Endpoint;
  /** Undefined: if the master can be read. */
  readonly wanted: boolean | undefined;
  readonly onNotice: (text: string) => void;
  readonly ends: () => Promise<Places>;
  readonly now: () => number;
}

export class Repairing {
  readonly #options: RepairingOptions;
  #tally = { repaired: 0, leftOut: 0 };
  readonly #leftOut: LeftOutKey[] = [];
  #noticed = '';

  constructor(options: RepairingOptions) {
    this.#options = options;
  }

  get tally(): SourceTally {
    return this.#tally;
  }

  leaveOut(db: string, bytes: Buffer, reason: string): void {
    const { onNotice, now } = this.#options;
    const key = formatKey(bytes);
    this.#tally.leftOut++;
    if (this.#leftOut.length < NAMED_MAX) this.#leftOut.push({ db, key, reason, atMs: now() });
    onNotice(`${db}: the key ${key} is left out: ${reason}`);
  }

  takeLeftOut(): readonly LeftOutKey[] {
    return this.#leftOut.splice(0);
  }

  /**
   * A reader for each database; undefined: nothing is repaired.
   * @throws StopError when repair is wanted, or under way, and the master cannot be read
   */
  async readers(
    from: PikaPosition,
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, KeyReader> | undefined> {
    const { endpoint, wanted } = this.#options;
    if (wanted === false) {
      if (from.through.size > 0)
        this.#notice(
          `--repair off: a repair was under way in ${[...from.through.keys()].join(', ')}; keys there may differ from the source: lanegate verify`,
        );
      return undefined;
    }
    const readers = new Map([...from.places.keys()].map((db) => [db, new KeyReader(endpoint, db)]));
    const close = () => {
      for (const reader of readers.values()) void reader.close();
    };
    signal.addEventListener('abort', close, { once: true });
    try {
      for (const reader of readers.values()) await reader.probe();
      return readers;
    } catch (error) {
      signal.removeEventListener('abort', close);
      close();
      if (!(error instanceof StopError) || signal.aborted) throw error;
      if (wanted === true || from.through.size > 0) throw refused(error);
      this.#notice(`what the log gets wrong is not repaired: ${error.message}`);
      return undefined;
    }
  }

  /** For a log whose `since` the master has accepted. */
  repairOf(start: PikaPosition, readers: ReadonlyMap<string, KeyReader>): Repair {
    const { ends, now } = this.#options;
    return new Repair({
      start,
      reader: (db) => readers.get(db) as KeyReader,
      ends,
      onRepaired: (db, { repaired, lost }) => {
        this.#tally.repaired += repaired;
        for (const [key, why] of lost) this.leaveOut(db, Buffer.from(key, 'latin1'), why);
      },
      now,
    });
  }

  #notice(text: string): void {
    if (text !== this.#noticed) this.#options.onNotice(text);
    this.#noticed = text;
  }
}

/** Places where the log is to be read from: in front of `at` as far as a repair must know of it. */
export function originsOf(at: PikaPosition, repairs: boolean): PikaPosition['since'] {
  if (!repairs) return new Map();
  return new Map(
    [...at.places].map(([db, place]) => {
      const since = at.since.get(db) ?? place;
      return [db, comparePlaces(since, place) < 0 ? since : place];
    }),
  );
}

function refused({ message }: StopError): StopError {
  return new StopError('PIKA_REPAIR', message, {
    hint: 'let it answer clients, give it its password; or start with --repair off: then keys may differ (lanegate verify)',
  });
}
