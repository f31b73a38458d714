import type { Pair } from '../verify/values/pair.ts';

const BATCH_KEYS = 256;

/** A key with a deadline at the target that the source does not have. */
export interface Lone {
  readonly db: number;
  readonly key: Buffer;
}

/**
 * Those of `keys` that are at the target, and not at the source. A source that is not frozen logs the DEL of each key whose
 * time has come when it is asked.
 */
export async function atTargetOnly({ source, target }: Pair, keys: readonly Lone[]): Promise<Lone[]> {
  const left: Lone[] = [];
  for (const [db, some] of byDatabase(keys)) {
    const here = await source.select(db);
    await target.select(db);
    for (let at = 0; at < some.length; at += BATCH_KEYS) {
      const batch = some.slice(at, at + BATCH_KEYS);
      const questions = batch.map(({ key }) => ['EXISTS', key]);
      const ours = here ? await source.call(questions) : [];
      const theirs = await target.call(questions);
      left.push(...batch.filter((_, i) => theirs[i] === 1 && ours[i] !== 1));
    }
  }
  return left;
}

function byDatabase(keys: readonly Lone[]): Map<number, Lone[]> {
  const found = new Map<number, Lone[]>();
  for (const lone of keys) {
    const list = found.get(lone.db);
    if (list === undefined) found.set(lone.db, [lone]);
    else list.push(lone);
  }
  return found;
}
