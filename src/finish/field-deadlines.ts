import type { Link } from '../verify/link.ts';
import { bufferOf, buffersOf, listOf } from '../verify/values/pair.ts';
import { ReplyError } from '../wire/replies.ts';

const FIELDS = 256;
const NO_DEADLINE = -1;
const NO_FIELD = -2;

/**
 * The same for single fields of hashes, where both servers know such deadlines (Redis 7.4, Valkey 9). Both links in the
 * database. A field whose time has come, and that the source does not show any more, ends: a source that is frozen, or has not
 * come by it, has not said so yet.
 */
export class FieldDeadlines {
  readonly #source: Link;
  readonly #target: Link;
  readonly #graceMs: number;

  constructor(source: Link, target: Link, graceMs: number) {
    this.#source = source;
    this.#target = target;
    this.#graceMs = graceMs;
  }

  /** How many were set. Keys that are no hashes are left alone. */
  async restore(keys: readonly Buffer[]): Promise<number> {
    if (!this.#source.abilities.fieldTtl || !this.#target.abilities.fieldTtl) return 0;
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
    const ours = await deadlinesOf(this.#source, key, volatile);
    const commands = volatile.flatMap((field, at) => {
      const passed = (held[at] as number) - this.#graceMs;
      const gone = ours[at] === NO_FIELD && passed <= Date.now();
      const deadline = gone ? passed : (ours[at] ?? NO_DEADLINE);
      return deadline < 0 || deadline === held[at]
        ? []
        : [['HPEXPIREAT', key, deadline, 'XX', 'FIELDS', 1, field]];
    });
    const replies = await this.#target.call(commands);
    return replies.filter((reply) => !(reply instanceof ReplyError)).length;
  }
}

/** Absolute ms; NO_DEADLINE and NO_FIELD. */
async function deadlinesOf(link: Link, key: Buffer, fields: readonly Buffer[]): Promise<number[]> {
  if (fields.length === 0) return [];
  const [reply] = await link.call([['HPEXPIRETIME', key, 'FIELDS', fields.length, ...fields]]);
  return listOf(reply).map(Number);
}
