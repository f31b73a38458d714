import type { Records } from '../src/journal/records.ts';
import type { Source, SourceTally } from '../src/sources/source.ts';

/** Puts what a source has done since the last look into the counters and records of the pipeline. */
export class TallyCounter {
  #counted: SourceTally = { repaired: 0, leftOut: 0 };

  async count(records: Records, source: Source): Promise<void> {
    const tally = source.tally?.();
    if (tally === undefined) return;
    const before = this.#counted;
    this.#counted = { ...tally };
    for (const what of ['repaired', 'leftOut'] as const)
      if (tally[what] > before[what]) await records.count(what, tally[what] - before[what]);
    const named = source.takeLeftOut?.() ?? [];
    if (named.length > 0) await records.leftOut(named);
  }
}
