/** Where a command goes: its one lane, several (sorted, at least two), or all. */
export type Lanes = number | readonly number[] | 'all';

const pairs: (readonly number[] | undefined)[] = [];
const PAIRED_LANES_MAX = 1024;

/** Both together. Of two lanes the same array every time: most crossing commands have no more. */
export function unionOf(some: Lanes, more: Lanes): Lanes {
  if (some === more) return some;
  if (some === 'all' || more === 'all') return 'all';
  if (typeof more !== 'number') return more.reduce<Lanes>(unionOf, some);
  if (typeof some === 'number') return pairOf(Math.min(some, more), Math.max(some, more));
  return some.includes(more) ? some : [...some, more].sort((a, b) => a - b);
}

function pairOf(low: number, high: number): readonly number[] {
  if (high >= PAIRED_LANES_MAX) return [low, high];
  // Each pair of lanes has its own place, whatever the number of lanes.
  const place = (high * (high - 1)) / 2 + low;
  const known = pairs[place];
  if (known !== undefined) return known;
  const made = [low, high];
  pairs[place] = made;
  return made;
}

/** The lanes of several commands, gathered lane by lane. */
export class LaneUnion {
  readonly #lanes: number;
  readonly #in: Uint8Array;
  #all = false;

  constructor(lanes: number) {
    this.#lanes = lanes;
    this.#in = new Uint8Array(lanes);
  }

  add(lanes: Lanes): void {
    if (typeof lanes === 'number') this.#in[lanes] = 1;
    else if (lanes === 'all') this.#all = true;
    else for (const lane of lanes) this.#in[lane] = 1;
  }

  /** Sorted; the union is empty afterwards. */
  take(): number[] {
    const taken: number[] = [];
    for (let lane = 0; lane < this.#lanes; lane++) if (this.#all || this.#in[lane] === 1) taken.push(lane);
    this.#in.fill(0);
    this.#all = false;
    return taken;
  }
}
