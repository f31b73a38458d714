import { formatKey } from '../binlog/quoting.ts';
import { type Finding, KINDS, type Kind } from './look.ts';

const FIRST_MAX = 100;
const KEY_BYTES_MAX = 256;
/** What is remembered of keys to look at again: so many, and about so many bytes of keys. */
const CANDIDATES_MAX = 100_000;
const CANDIDATE_BYTES_MAX = 32 * 1024 ** 2;

export interface Candidate extends Finding {
  readonly db: number;
  readonly key: Buffer;
}

export interface Difference {
  readonly db: number;
  /** As redis-cli would print it, shortened. */
  readonly key: string;
  readonly kind: Kind;
  readonly detail: string;
}

/** The keys that differed when they were looked at last, and those that still did after the last round. Bounded memory. */
export class Candidates {
  readonly #open = new Map<string, Candidate>();
  readonly #counts: Record<Kind, number> = { missing: 0, extra: 0, type: 0, ttl: 0, value: 0 };
  readonly #first: Difference[] = [];
  readonly #max: number;
  #bytes = 0;

  constructor(max = CANDIDATES_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Those in hand must be settled before more are taken. */
  get full(): boolean {
    return this.#open.size >= this.#max || this.#bytes >= CANDIDATE_BYTES_MAX;
  }

  get counts(): Readonly<Record<Kind, number>> {
    return this.#counts;
  }

  get settled(): number {
    return KINDS.reduce((sum, kind) => sum + this.#counts[kind], 0);
  }

  /** The first ones, in the order in which they were found. */
  get first(): readonly Difference[] {
    return this.#first;
  }

  put(candidate: Candidate): void {
    const name = nameOf(candidate);
    if (!this.#open.has(name)) this.#bytes += candidate.key.length;
    this.#open.set(name, candidate);
  }

  remove(candidate: Candidate): void {
    if (this.#open.delete(nameOf(candidate))) this.#bytes -= candidate.key.length;
  }

  /** By database, so that each is selected once. */
  byDatabase(): Map<number, Candidate[]> {
    const found = new Map<number, Candidate[]>();
    for (const candidate of this.#open.values()) {
      const list = found.get(candidate.db);
      if (list === undefined) found.set(candidate.db, [candidate]);
      else list.push(candidate);
    }
    return found;
  }

  /** Whatever is still here differs. */
  settle(): void {
    for (const { db, key, kind, detail } of this.#open.values()) {
      this.#counts[kind]++;
      if (this.#first.length < FIRST_MAX)
        this.#first.push({ db, key: formatKey(key, KEY_BYTES_MAX), kind, detail });
    }
    this.#open.clear();
    this.#bytes = 0;
  }
}

function nameOf({ db, key }: Candidate): string {
  return `${db}:${key.toString('latin1')}`;
}
