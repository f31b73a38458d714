// Commands as places in the buffers that they came in: nothing is copied, and nothing is made per command.
//
// A command is six numbers of one growing array. What many commands share (their buffer, database and time; the
// lanes of crossing ones) stands beside it. `clear` lets the buffers go and keeps the room.

import type { Lanes } from './lane-set.ts';

/** What the commands of one stretch of the log share. */
export interface Origin {
  readonly buffer: Buffer;
  readonly db: number;
  readonly timeMs: number;
  /** The first deadline that one of them sets, ms since 1970, where deadlines are watched; else Infinity. */
  readonly deadlineMs: number;
}

const FIELDS = 6;
const START = 1;
const END = 2;
const ORIGIN = 3;
/** One lane, or below 0 for a place among the sets of lanes. */
const LANES = 4;
const TIED = 5;
const COMMANDS_INITIAL = 256;
/** Room for more than this is given back. */
const COMMANDS_KEPT_MAX = 64 * 1024;

export class CommandList {
  count = 0;
  #numbers = new Float64Array(COMMANDS_INITIAL * FIELDS);
  #origins: Origin[] = [];
  #laneSets: Exclude<Lanes, number>[] = [];
  #origin: Origin | undefined;
  #laneSet: Lanes | undefined;

  /** `tied`: belongs to the same MULTI ... EXEC as the one before it. */
  add(origin: Origin, start: number, end: number, seq: number, lanes: Lanes, tied: boolean): void {
    const at = this.count * FIELDS;
    if (at === this.#numbers.length) this.#grow();
    if (origin !== this.#origin) {
      this.#origins.push(origin);
      this.#origin = origin;
    }
    const numbers = this.#numbers;
    numbers[at] = seq;
    numbers[at + START] = start;
    numbers[at + END] = end;
    numbers[at + ORIGIN] = this.#origins.length - 1;
    numbers[at + LANES] = typeof lanes === 'number' ? lanes : this.#placeOf(lanes);
    numbers[at + TIED] = tied ? 1 : 0;
    this.count++;
  }

  seq(at: number): number {
    return this.#numbers[at * FIELDS] as number;
  }

  start(at: number): number {
    return this.#numbers[at * FIELDS + START] as number;
  }

  end(at: number): number {
    return this.#numbers[at * FIELDS + END] as number;
  }

  origin(at: number): Origin {
    return this.#origins[this.#numbers[at * FIELDS + ORIGIN] as number] as Origin;
  }

  lanes(at: number): Lanes {
    const lanes = this.#numbers[at * FIELDS + LANES] as number;
    return lanes >= 0 ? lanes : (this.#laneSets[-1 - lanes] as Lanes);
  }

  tied(at: number): boolean {
    return this.#numbers[at * FIELDS + TIED] === 1;
  }

  clear(): void {
    this.count = 0;
    this.#origins = [];
    this.#laneSets = [];
    this.#origin = undefined;
    this.#laneSet = undefined;
    if (this.#numbers.length > COMMANDS_KEPT_MAX * FIELDS)
      this.#numbers = new Float64Array(COMMANDS_INITIAL * FIELDS);
  }

  #placeOf(lanes: Exclude<Lanes, number>): number {
    if (lanes !== this.#laneSet) {
      this.#laneSets.push(lanes);
      this.#laneSet = lanes;
    }
    return -this.#laneSets.length;
  }

  #grow(): void {
    const larger = new Float64Array(this.#numbers.length * 2);
    larger.set(this.#numbers);
    this.#numbers = larger;
  }
}
