import type { Pair } from '../verify/values/pair.ts';

const BATCH_KEYS = 256;
const LOOKS = 4;

/** A key with a deadline at the target that the source does not have. */
export interface Lone {
  readonly db: number;
  readonly key: Buffer;
}

/**
 * Those of `keys` that stay at the target without being at the source. A source that is not frozen logs the DEL of a key
 * whose time has come when it is asked; one that is written and ends anew between two questions is asked for again.
 */
export async function atTargetOnly(
  pair: Pair,
  keys: readonly Lone[],
  caughtUp: () => Promise<void>,
): Promise<readonly Lone[]> {
  let left = keys;
  for (let look = 1; look <= LOOKS && left.length > 0; look++) {
    if (look > 1) await caughtUp();
    left = await lookAt(pair, left);
  }
  return left;
}

async function lookAt({ source, target }: Pair, keys: readonly Lone[]): Promise<Lone[]> {
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
