import type { Records } from '../src/journal/records.ts';
import type { SourceTally } from '../src/sources/source.ts';

/** Puts what a source has done since the last look into the counters of the pipeline. */
export class TallyCounter {
  #counted: SourceTally = { repaired: 0, leftOut: 0 };

  async count(records: Records, tally: SourceTally | undefined): Promise<void> {
    if (tally === undefined) return;
    const before = this.#counted;
    this.#counted = { ...tally };
    for (const what of ['repaired', 'leftOut'] as const)
      if (tally[what] > before[what]) await records.count(what, tally[what] - before[what]);
  }
}
