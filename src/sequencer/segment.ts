// The run of commands that one gate applies: from a crossing unit to a crossing unit, with what stands between.
//
// What stands behind the last crossing unit is held: it joins when another one follows, and belongs to the lanes
// when none does. Both are one list; `joined` says where the held part begins.

import { CommandList, type Origin } from './command-list.ts';
import type { Lanes } from './lane-set.ts';
import type { Unit } from './unit.ts';

export class Segment {
  readonly commands = new CommandList();
  /** So many of `commands` are in, the others are held. */
  joined = 0;
  crossing = 0;
  /** First and last seq of what is in; the last one is the gate's. */
  first = 0;
  seq = 0;
  erases = false;
  readonly swapped = new Set<number>();
  #title = '';
  #bytes = 0;
  #heldUnits = 0;
  #heldBytes = 0;

  get isOpen(): boolean {
    return this.crossing > 0;
  }

  get bytes(): number {
    return this.#bytes + this.#heldBytes;
  }

  get heldUnits(): number {
    return this.#heldUnits;
  }

  get title(): string {
    return this.crossing > 1 ? `${this.#title} +${this.crossing - 1}` : this.#title;
  }

  /** A crossing unit, and with it everything that is held. */
  join(unit: Unit): void {
    if (this.crossing === 0) {
      this.first = unit.first;
      this.#title = unit.title;
    }
    this.#append(unit, unit.lanes);
    this.crossing++;
    this.joined = this.commands.count;
    this.seq = unit.seq;
    this.#bytes += this.#heldBytes + unit.bytes;
    this.#heldUnits = 0;
    this.#heldBytes = 0;
    this.erases ||= unit.erases;
    for (const db of unit.swapped) this.swapped.add(db);
  }

  hold(origin: Origin, start: number, end: number, seq: number, lane: number): void {
    this.commands.add(origin, start, end, seq, lane, false);
    this.#heldUnits++;
    this.#heldBytes += end - start;
  }

  /** A unit of one lane. */
  holdUnit(unit: Unit): void {
    this.#append(unit, unit.lanes);
    this.#heldUnits++;
    this.#heldBytes += unit.bytes;
  }

  clear(): void {
    this.commands.clear();
    this.joined = 0;
    this.crossing = 0;
    this.erases = false;
    this.swapped.clear();
    this.#bytes = 0;
    this.#heldUnits = 0;
    this.#heldBytes = 0;
  }

  /** Each command of a unit waits for all lanes of the unit. */
  #append({ commands }: Unit, lanes: Lanes): void {
    for (let at = 0; at < commands.count; at++) {
      const origin = commands.origin(at);
      this.commands.add(origin, commands.start(at), commands.end(at), commands.seq(at), lanes, at > 0);
    }
  }
}
