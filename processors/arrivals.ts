import type { Journal, Step } from '../src/journal/journal.ts';

type Hint = 'try' | 'wait' | 'void';

interface Gate {
  readonly seq: number;
  /** How many lanes it has; 0: unknown yet. */
  readonly lanes: number;
}

interface Here {
  readonly journalId: string;
  readonly gate: Gate;
  readonly lanes: number[];
  readonly steps: Step[];
  readonly hint: Promise<Hint>;
}

/**
 * Lanes of this process that come to one gate in the same turn of the event loop tell it in one step: the replies that let
 * them go on mostly arrive together.
 */
export class Arrivals {
  readonly #journal: Journal;
  readonly #claim: { readonly by: string; readonly ms: number };
  #here: Here | undefined;

  constructor(journal: Journal, claim: { readonly by: string; readonly ms: number }) {
    this.#journal = journal;
    this.#claim = claim;
  }

  /** `done`: what the lane has not told yet. One of the lanes is to try the gate, and none unless it is worth it. */
  async tell(journalId: string, gate: Gate, lane: number, done: Step | undefined): Promise<Hint> {
    let here = this.#here;
    if (here?.gate.seq !== gate.seq || here.journalId !== journalId) {
      here = this.#open(journalId, gate);
      this.#here = here;
    }
    here.lanes.push(lane);
    if (done !== undefined) here.steps.push(done);
    const hint = await here.hint;
    return hint === 'try' && lane !== here.lanes.at(-1) ? 'wait' : hint;
  }

  #open(journalId: string, gate: Gate): Here {
    const lanes: number[] = [];
    const steps: Step[] = [];
    const hint = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      if (this.#here?.hint === hint) this.#here = undefined;
      return this.#journal.arrive(journalId, gate, { lanes, steps }, this.#claim);
    });
    return { journalId, gate, lanes, steps, hint };
  }
}
