// Are two servers equal? Every database, in both directions, key by key; nothing is written on either side.
//
//   for each database:  scan the source  -> quick pass (batch.ts) -> suspects -> careful look (look.ts) -> candidates
//                       scan the target  -> keys that the source lacks        -> careful look           -> candidates
//   rounds 2 .. n:      a pause that grows, then the careful look at the candidates alone
//
// Promises:
// 1. A key that rests is judged rightly: SCAN returns what is there from its beginning to its end, and a scan whose server
//    process was replaced begins anew.
// 2. A difference is reported only if each of the rounds has found one: what lags by less than the pauses is no
//    difference, nor is a key whose time came, nor one that is gone on both sides.
// 3. Memory is bounded whatever the data: by the batches in flight (batch.ts), LOOKS_MAX pieces of values (values/piece.ts),
//    the candidates (candidates.ts: when they are too many, they are settled before the scan goes on), and the largest
//    single element of a value.

import { sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { BATCH_KEYS, lackingAt, suspectsOf } from './batch.ts';
import { type Candidate, Candidates, type Difference } from './candidates.ts';
import { Limit } from './limit.ts';
import { Link } from './link.ts';
import { type Kind, lookAtKey, type TtlRule } from './look.ts';
import { isReserved, Sample } from './sample.ts';
import { bufferOf, buffersOf, checked, listOf } from './values/pair.ts';

const BATCHES_MAX = 4;
const LOOKS_MAX = 24;
const PAUSE_MS_MAX = 30_000;

export interface VerifyOptions {
  readonly source: Endpoint;
  readonly target: Endpoint;
  /** The share of the keys that is compared, from 0 to 1. */
  readonly sample: number;
  /** How often a key must be found to differ. */
  readonly rounds: number;
  readonly ttl: TtlRule;
  /** Between the first rounds; doubles from then on. */
  readonly pauseMs: number;
  /** How long a server may be away. */
  readonly patienceMs: number;
  /** Keys to look at again that are remembered at most. */
  readonly candidatesMax?: number;
  /** Keys of the target that the source need not have: their time has come there. */
  readonly pardon?: (db: number, key: Buffer) => boolean;
  readonly signal: AbortSignal;
  readonly onTrouble?: (side: 'source' | 'target', what: string) => void;
}

export interface VerifyResult {
  /** Keys of the source, without lanegate's own; SCAN may show a key twice while a table grows. */
  readonly keys: number;
  /** Those of them that were looked at, and those that only the target has. */
  readonly compared: number;
  readonly equal: number;
  readonly differences: Readonly<Record<Kind, number>>;
  readonly first: readonly Difference[];
  /** Rounds that were needed. */
  readonly rounds: number;
}

export interface VerifyProgress {
  readonly phase: 'scanning' | 'looking again';
  /** Keys scanned and to be scanned, both sides together. */
  readonly done: number;
  readonly total: number;
  /** Keys that differed when they were looked at last. */
  readonly candidates: number;
  readonly round: number;
}

interface Counts {
  keys: number;
  compared: number;
  gone: number;
}

export class Verification {
  readonly #options: VerifyOptions;
  readonly #source: Link;
  readonly #target: Link;
  readonly #sample: Sample;
  readonly #candidates: Candidates;
  readonly #total: Counts = { keys: 0, compared: 0, gone: 0 };
  readonly #looks = new Limit(LOOKS_MAX);
  #done = 0;
  #expected = 0;
  #round = 1;
  #rounds = 1;

  constructor(options: VerifyOptions) {
    const { source, target, signal, patienceMs } = options;
    this.#options = options;
    const link = (side: 'source' | 'target', endpoint: Endpoint) =>
      new Link({ side, endpoint, signal, patienceMs, onTrouble: (what) => options.onTrouble?.(side, what) });
    this.#source = link('source', source);
    this.#target = link('target', target);
    this.#sample = new Sample(options.sample);
    this.#candidates = new Candidates(options.candidatesMax);
  }

  get progress(): VerifyProgress {
    return {
      phase: this.#round === 1 ? 'scanning' : 'looking again',
      done: this.#done,
      // Keys come and go meanwhile.
      total: Math.max(this.#expected, this.#done),
      candidates: this.#candidates.size + this.#candidates.settled,
      round: this.#round,
    };
  }

  /** Once. @throws StopError, AbortedError; ConfigurationError when both sides are one server */
  async run(): Promise<VerifyResult> {
    const [source, target] = [this.#source, this.#target];
    try {
      await Promise.all([source.open(), target.open()]);
      if (source.run !== '' && source.run === target.run) {
        throw new ConfigurationError(['--source and --target are the same server']);
      }
      const [ours, theirs] = await Promise.all([source.databases(), target.databases()]);
      for (const keys of [...ours.values(), ...theirs.values()]) this.#expected += keys;
      const databases = new Set([...ours.keys(), ...theirs.keys()]);
      for (const db of [...databases].sort((a, b) => a - b)) await this.#compareDatabase(db);
      await this.#settle();
      return this.#result();
    } finally {
      source.close();
      target.close();
    }
  }

  #result(): VerifyResult {
    const { keys, compared, gone } = this.#total;
    const { counts, first, settled } = this.#candidates;
    const equal = Math.max(0, compared - gone - settled);
    return { keys, compared, equal, differences: { ...counts }, first, rounds: this.#rounds };
  }

  async #compareDatabase(db: number): Promise<void> {
    const here = await this.#source.select(db);
    const there = await this.#target.select(db);
    const pair = { source: this.#source, target: this.#target };
    const lone =
      (side: 'missing' | 'extra', of: string) => async (keys: readonly Buffer[], counts: Counts) => {
        counts.compared += keys.length;
        const detail = `database ${db} does not exist at the ${of}`;
        for (const key of keys) this.#candidates.put({ db, key, kind: side, detail });
      };
    if (here)
      await this.#scan(db, this.#source, there ? this.#compareBatch(db, pair) : lone('missing', 'target'));
    if (there) await this.#scan(db, this.#target, here ? this.#findExtra(db, pair) : lone('extra', 'source'));
  }

  #compareBatch(db: number, pair: { source: Link; target: Link }): Work {
    return async (keys, counts) => {
      counts.compared += keys.length;
      const { suspects, gone } = await suspectsOf(pair, keys, this.#options.ttl);
      counts.gone += gone;
      await this.#lookAt(
        suspects.map((key) => ({ db, key, kind: 'value', detail: '' })),
        counts,
      );
    };
  }

  #findExtra(db: number, pair: { source: Link; target: Link }): Work {
    return async (keys, counts) => {
      const { pardon } = this.#options;
      const lacking = (await lackingAt(pair, keys)).filter((key) => pardon?.(db, key) !== true);
      counts.compared += lacking.length;
      await this.#lookAt(
        lacking.map((key) => ({ db, key, kind: 'extra', detail: '' })),
        counts,
      );
    };
  }

  /** Scans one side and gives its keys to `work`, several batches at a time. */
  async #scan(db: number, from: Link, work: Work): Promise<void> {
    const batches = new Limit(BATCHES_MAX);
    const isSource = from === this.#source;
    for (;;) {
      const { run } = from;
      const doneBefore = this.#done;
      const counts: Counts = { keys: 0, compared: 0, gone: 0 };
      let cursor = '0';
      do {
        const [reply] = await from.call([['SCAN', cursor, 'COUNT', BATCH_KEYS]]);
        const [next, found] = listOf(checked(reply));
        if (from.run !== run) break;
        cursor = bufferOf(next).toString();
        const keys = this.#chosen(buffersOf(found), isSource ? counts : undefined);
        // The cursor's server may return far more at once than it was asked for.
        for (let at = 0; at < keys.length; at += BATCH_KEYS) {
          const batch = keys.slice(at, at + BATCH_KEYS);
          await batches.start(() => work(batch, counts));
        }
        if (this.#candidates.full) {
          await batches.drain();
          await this.#settle();
          await this.#source.select(db);
          await this.#target.select(db);
        }
      } while (cursor !== '0');
      await batches.drain();
      if (from.run === run) {
        this.#add(counts);
        return;
      }
      this.#done = doneBefore;
    }
  }

  /** Without lanegate's own keys, and of the rest the sample. */
  #chosen(found: readonly Buffer[], counts: Counts | undefined): Buffer[] {
    this.#done += found.length;
    const chosen: Buffer[] = [];
    for (const key of found) {
      if (isReserved(key)) continue;
      if (counts !== undefined) counts.keys++;
      if (this.#sample.has(key)) chosen.push(key);
    }
    return chosen;
  }

  #add(counts: Counts): void {
    this.#total.keys += counts.keys;
    this.#total.compared += counts.compared;
    this.#total.gone += counts.gone;
  }

  /** Judges each, in the database that is selected. */
  async #lookAt(suspects: readonly Candidate[], counts: Counts): Promise<void> {
    const pair = { source: this.#source, target: this.#target };
    const look = async (suspect: Candidate) => {
      const verdict = await lookAtKey(pair, suspect.key, this.#options.ttl);
      if (verdict === 'gone') counts.gone++;
      if (typeof verdict === 'string') this.#candidates.remove(suspect);
      else this.#candidates.put({ ...suspect, ...verdict });
    };
    for (let at = 0; at < suspects.length; at += BATCH_KEYS) {
      const some = suspects.slice(at, at + BATCH_KEYS);
      await Promise.all(some.map((suspect) => this.#looks.run(() => look(suspect))));
    }
  }

  /** The rounds behind the first one, for what differs now. */
  async #settle(): Promise<void> {
    const { rounds, pauseMs, signal } = this.#options;
    for (this.#round = 2; this.#round <= rounds && this.#candidates.size > 0; this.#round++) {
      this.#rounds = Math.max(this.#rounds, this.#round);
      await sleep(Math.min(PAUSE_MS_MAX, pauseMs * 2 ** (this.#round - 2)), signal);
      for (const [db, candidates] of this.#candidates.byDatabase()) {
        const here = await this.#source.select(db);
        const there = await this.#target.select(db);
        if (here && there) await this.#lookAt(candidates, this.#total);
      }
    }
    this.#round = 1;
    this.#candidates.settle();
  }
}

type Work = (keys: readonly Buffer[], counts: Counts) => Promise<void>;
