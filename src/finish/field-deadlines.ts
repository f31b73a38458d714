import type { Link } from '../verify/link.ts';
import { bufferOf, buffersOf, listOf } from '../verify/values/pair.ts';
import { ReplyError } from '../wire/replies.ts';

const FIELDS = 256;
const NO_DEADLINE = -1;
const NO_FIELD = -2;

/** True deadlines of fields, absolute ms, for those that are `held` at the target; NO_DEADLINE and NO_FIELD leave one as it is. */
export type TrueDeadlines = (
  key: Buffer,
  fields: readonly Buffer[],
  held: readonly number[],
) => Promise<readonly number[]>;

/** The same for single fields of hashes, where servers know such deadlines (Redis 7.4, Valkey 9). Links are in the database. */
export class FieldDeadlines {
  readonly #target: Link;
  readonly #truth: TrueDeadlines;

  constructor(target: Link, truth: TrueDeadlines) {
    this.#target = target;
    this.#truth = truth;
  }

  /** How many were set. Keys that are no hashes are left alone. */
  async restore(keys: readonly Buffer[]): Promise<number> {
    if (!this.#target.abilities.fieldTtl) return 0;
    const types = await this.#target.call(keys.map((key) => ['TYPE', key]));
    let restored = 0;
    for (const [at, key] of keys.entries())
      if (types[at] === 'hash') restored += await this.#restoreHash(key);
    return restored;
  }

  async #restoreHash(key: Buffer): Promise<number> {
    let restored = 0;
    let cursor = '0';
    do {
      const [reply] = await this.#target.call([['HSCAN', key, cursor, 'COUNT', FIELDS, 'NOVALUES']]);
      if (reply instanceof ReplyError) return restored;
      const [next, found] = listOf(reply);
      cursor = bufferOf(next).toString();
      restored += await this.#restoreFields(key, buffersOf(found));
    } while (cursor !== '0');
    return restored;
  }

  async #restoreFields(key: Buffer, fields: readonly Buffer[]): Promise<number> {
    const theirs = await deadlinesOf(this.#target, key, fields);
    const volatile = fields.filter((_, at) => (theirs[at] ?? NO_DEADLINE) >= 0);
    if (volatile.length === 0) return 0;
    const held = theirs.filter((deadline) => deadline >= 0);
    const truth = await this.#truth(key, volatile, held);
    const commands = volatile.flatMap((field, at) => {
      const deadline = truth[at] ?? NO_DEADLINE;
      return deadline < 0 || deadline === held[at]
        ? []
        : [['HPEXPIREAT', key, deadline, 'XX', 'FIELDS', 1, field]];
    });
    const replies = await this.#target.call(commands);
    return replies.filter((reply) => !(reply instanceof ReplyError)).length;
  }
}

/**
 * Those of a source. A field whose time has come, and that it does not show any more, ends: a source that is frozen, or has
 * not come by it, has not said so yet.
 */
export function deadlinesAt(source: Link, graceMs: number): TrueDeadlines {
  return async (key, fields, held) => {
    const ours = await deadlinesOf(source, key, fields);
    return held.map((deadline, at) => {
      const passed = deadline - graceMs;
      const gone = ours[at] === NO_FIELD && passed <= Date.now();
      return gone ? passed : (ours[at] ?? NO_DEADLINE);
    });
  };
}

/** Absolute ms; NO_DEADLINE and NO_FIELD. */
async function deadlinesOf(link: Link, key: Buffer, fields: readonly Buffer[]): Promise<number[]> {
  if (fields.length === 0) return [];
  const [reply] = await link.call([['HPEXPIRETIME', key, 'FIELDS', fields.length, ...fields]]);
  return listOf(reply).map(Number);
}
