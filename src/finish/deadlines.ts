// Puts the true deadlines back: the target's are held back by a grace while it follows a live source.
//
//   for each database:  scan the target -> its deadlines -> the source's, and the source's write mark -> PEXPIREAT
//
// Promises:
// 1. Only deadlines are written, each of them the one that the source has: a pass may be cut short and repeated at will.
// 2. 'complete' means that nothing was written at the source between `mark` and the end of the pass: if the target had
//    everything at `mark`, each deadline there is now the source's own.
// 3. 'written' means that a write came between. What was set last may have been renewed by it: those keys are looked at
//    again, and what changed is held back by the grace, as the lanes would.
// 4. A key that the source does not have (its deadline has passed, or it is a difference) is named in `lone`, never deleted.
// Memory: a batch of keys, and the lone keys up to LONE_KEYS_MAX and LONE_BYTES_MAX.

import { failpoint } from '../runtime/failpoints.ts';
import type { Link } from '../verify/link.ts';
import type { Argument } from '../wire/encode.ts';
import { ReplyError } from '../wire/replies.ts';
import { deadlinesAt, FieldDeadlines } from './field-deadlines.ts';
import { COMPUTED_MS, deadlinesOf, knowsConditions, knowsDeadlines, questionOf } from './key-deadlines.ts';
import type { Lone } from './lone.ts';
import { scanKeys } from './scan.ts';
import { MARK_QUESTION, type WriteMark, writeMark } from './writes.ts';

const LONE_KEYS_MAX = 50_000;
const LONE_BYTES_MAX = 8 * 1024 ** 2;

export interface DeadlineCounts {
  /** Keys of the target, without lanegate's own; SCAN may show one twice. */
  scanned: number;
  /** Those with a deadline. */
  volatile: number;
  restored: number;
  /** The source has no deadline for them: neither has the target now. */
  persisted: number;
  /** Of single hash fields. */
  fields: number;
}

export interface DeadlinesOptions {
  readonly source: Link;
  readonly target: Link;
  /** By how much the pipeline holds deadlines back. */
  readonly graceMs: number;
}

interface Batch {
  readonly db: number;
  readonly keys: readonly Buffer[];
  /** What the source said, and what is set; below 0: no deadline. */
  readonly deadlines: readonly number[];
}

const NOTHING: Batch = { db: 0, keys: [], deadlines: [] };

export class Deadlines {
  readonly #options: DeadlinesOptions;
  readonly #counts: DeadlineCounts = { scanned: 0, volatile: 0, restored: 0, persisted: 0, fields: 0 };
  #lone: Lone[] = [];
  #loneBytes = 0;
  #loneMore = 0;
  #last = NOTHING;
  #exact = { source: true, target: true };
  #conditions = true;

  constructor(options: DeadlinesOptions) {
    this.#options = options;
  }

  get counts(): Readonly<DeadlineCounts> {
    return this.#counts;
  }

  /** Of the last pass: keys with a deadline that the source does not have. */
  get lone(): readonly Lone[] {
    return this.#lone;
  }

  /** How many more of them there were than are remembered. */
  get loneMore(): number {
    return this.#loneMore;
  }

  /** @throws StopError, AbortedError */
  async pass(mark: WriteMark): Promise<'complete' | 'written'> {
    const { source, target } = this.#options;
    this.#begin();
    this.#exact = { source: await knowsDeadlines(source), target: await knowsDeadlines(target) };
    this.#conditions = await knowsConditions(target);
    const databases = [...(await target.databases()).keys()].sort((a, b) => a - b);
    for (const db of databases) {
      const there = await target.select(db);
      const here = await source.select(db);
      if (there && (await this.#passDatabase(db, here, mark)) === 'written') return 'written';
    }
    if (writeMark(source, await source.call(MARK_QUESTION)) === mark) return 'complete';
    await this.#takeBack();
    return 'written';
  }

  #begin(): void {
    Object.assign(this.#counts, { scanned: 0, volatile: 0, restored: 0, persisted: 0, fields: 0 });
    this.#lone = [];
    this.#loneBytes = 0;
    this.#loneMore = 0;
    this.#last = NOTHING;
  }

  async #passDatabase(db: number, isAtSource: boolean, mark: WriteMark): Promise<'complete' | 'written'> {
    const { source, target, graceMs } = this.#options;
    const fields = new FieldDeadlines(target, deadlinesAt(source, graceMs));
    for await (const keys of scanKeys(target)) {
      this.#counts.scanned += keys.length;
      if (!(await this.#restore(db, keys, isAtSource, mark))) return 'written';
      if (isAtSource && source.abilities.fieldTtl) this.#counts.fields += await fields.restore(keys);
    }
    return 'complete';
  }

  /** False when the source was written to since `mark`; then nothing of this batch is set. */
  async #restore(
    db: number,
    keys: readonly Buffer[],
    isAtSource: boolean,
    mark: WriteMark,
  ): Promise<boolean> {
    const { source, target } = this.#options;
    const theirs = deadlinesOf(await target.call(questionOf(keys, this.#exact.target)), keys.length);
    const volatile = keys.filter((_, at) => (theirs[at] ?? -2) >= 0);
    if (volatile.length === 0) return true;
    this.#counts.volatile += volatile.length;
    if (!isAtSource) {
      for (const key of volatile) this.#putLone(db, key);
      return true;
    }
    const asked = questionOf(volatile, this.#exact.source);
    const replies = await source.call([...asked, ...MARK_QUESTION]);
    if (writeMark(source, replies.slice(asked.length)) !== mark) {
      await this.#takeBack();
      return false;
    }
    const ours = deadlinesOf(replies, volatile.length);
    await this.#set(
      db,
      volatile,
      ours,
      theirs.filter((deadline) => deadline >= 0),
    );
    return true;
  }

  async #set(
    db: number,
    keys: readonly Buffer[],
    ours: readonly number[],
    theirs: readonly number[],
  ): Promise<void> {
    const commands: Argument[][] = [];
    const exact = this.#exact.source && this.#exact.target;
    for (const [at, key] of keys.entries()) {
      const deadline = ours[at] ?? -2;
      if (deadline === -2) this.#putLone(db, key);
      else if (deadline === -1) {
        commands.push(['PERSIST', key]);
        this.#counts.persisted++;
      } else if (Math.abs(deadline - (theirs[at] ?? 0)) > (exact ? 0 : COMPUTED_MS)) {
        commands.push(this.#expireAt(key, deadline));
        this.#counts.restored++;
      }
    }
    this.#last = { db, keys, deadlines: ours };
    if (commands.length === 0) return;
    for (const reply of await this.#options.target.call(commands))
      if (reply instanceof ReplyError) throw reply;
    await failpoint('finish-after-batch');
  }

  /** What a write has renewed meanwhile must not end at a deadline that is no longer true. */
  async #takeBack(): Promise<void> {
    const { source, target, graceMs } = this.#options;
    const { db, keys, deadlines } = this.#last;
    this.#last = NOTHING;
    if (keys.length === 0) return;
    await source.select(db);
    await target.select(db);
    const now = deadlinesOf(await source.call(questionOf(keys, this.#exact.source)), keys.length);
    const commands = keys.flatMap((key, at) => {
      const [before = -2, after = -2] = [deadlines[at], now[at]];
      if (before < 0 || after === -2 || after === before) return [];
      // Without a deadline now: the command that took it away is on its way.
      return [this.#expireAt(key, (after === -1 ? Date.now() : after) + graceMs)];
    });
    if (commands.length > 0) await target.call(commands);
  }

  #expireAt(key: Buffer, deadline: number): Argument[] {
    // A key whose deadline a lane has just taken away is to keep none.
    return this.#conditions ? ['PEXPIREAT', key, deadline, 'XX'] : ['PEXPIREAT', key, deadline];
  }

  #putLone(db: number, key: Buffer): void {
    if (this.#lone.length >= LONE_KEYS_MAX || this.#loneBytes + key.length > LONE_BYTES_MAX) this.#loneMore++;
    else {
      this.#lone.push({ db, key });
      this.#loneBytes += key.length;
    }
  }
}
