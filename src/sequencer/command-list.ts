// Commands as places in the buffers that they came in: nothing is copied, and nothing is made per command.
//
// A command is five numbers of one growing array. What many commands in a row share (their buffer, database
// and time; their lanes) stands once beside it. `clear` lets the buffers go and keeps the room.

import type { Lanes } from './lane-set.ts';

/** What the commands of one stretch of the log share. */
export interface Origin {
  readonly buffer: Buffer;
  readonly db: number;
  readonly timeMs: number;
}

const FIELDS = 5;
const START = 1;
const END = 2;
const ORIGIN = 3;
const LANES = 4;
const COMMANDS_INITIAL = 256;
/** Room for more than this is given back. */
const COMMANDS_KEPT_MAX = 64 * 1024;

export class CommandList {
  count = 0;
  /** Of the commands together. */
  bytes = 0;
  #numbers = new Float64Array(COMMANDS_INITIAL * FIELDS);
  readonly #origins: Origin[] = [];
  readonly #lanes: Lanes[] = [];

  add(origin: Origin, start: number, end: number, seq: number, lanes: Lanes): void {
    if (this.#origins.at(-1) !== origin) this.#origins.push(origin);
    if (this.#lanes.at(-1) !== lanes) this.#lanes.push(lanes);
    const at = this.count * FIELDS;
    if (at === this.#numbers.length) this.#grow();
    const numbers = this.#numbers;
    numbers[at] = seq;
    numbers[at + START] = start;
    numbers[at + END] = end;
    numbers[at + ORIGIN] = this.#origins.length - 1;
    numbers[at + LANES] = this.#lanes.length - 1;
    this.count++;
    this.bytes += end - start;
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
    return this.#lanes[this.#numbers[at * FIELDS + LANES] as number] as Lanes;
  }

  clear(): void {
    this.count = 0;
    this.bytes = 0;
    this.#origins.length = 0;
    this.#lanes.length = 0;
    if (this.#numbers.length > COMMANDS_KEPT_MAX * FIELDS)
      this.#numbers = new Float64Array(COMMANDS_INITIAL * FIELDS);
  }

  #grow(): void {
    const larger = new Float64Array(this.#numbers.length * 2);
    larger.set(this.#numbers);
    this.#numbers = larger;
  }
}
