// The run of commands that one gate applies: from a crossing unit to a crossing unit, with what stands between.
//
// What stands behind the last crossing unit is held: it joins when another one follows, and belongs to the lanes
// when none does. Both are one list; `joined` says where the held part begins.
//
// Where crossing units are dense, a round's end does not end the run: what is held joins at once, and what the next round
// begins with is held as well, until the next crossing unit or the gap is reached. So nothing is left for the lanes between
// the gates of two rounds.

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
  /** Nothing has crossed yet, but something has a moment ago: what comes may stand between the two. */
  isExpected = false;
  #title = '';
  #bytes = 0;
  #heldUnits = 0;
  #heldBytes = 0;

  get isOpen(): boolean {
    return this.crossing > 0;
  }

  /** What comes is held. */
  get holds(): boolean {
    return this.crossing > 0 || this.isExpected;
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
      this.first = this.commands.count > 0 ? this.commands.seq(0) : unit.first;
      this.#title = unit.title;
    }
    this.#append(unit, unit.lanes);
    this.crossing++;
    this.#bytes += unit.bytes;
    this.#joinHeld(unit.seq);
    this.erases ||= unit.erases;
    for (const db of unit.swapped) this.swapped.add(db);
  }

  /** What is held joins without a crossing unit behind it: all of it needs lanes that the gate has anyway. */
  joinHeld(): void {
    if (this.joined < this.commands.count) this.#joinHeld(this.commands.seq(this.commands.count - 1));
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
    this.isExpected = false;
    this.erases = false;
    this.swapped.clear();
    this.#bytes = 0;
    this.#heldUnits = 0;
    this.#heldBytes = 0;
  }

  #joinHeld(seq: number): void {
    this.joined = this.commands.count;
    this.seq = seq;
    this.#bytes += this.#heldBytes;
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
