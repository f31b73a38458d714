import { CommandList, type Origin } from './command-list.ts';
import { type Lanes, unionOf } from './lane-set.ts';

/**
 * What the sequencer routes as a whole, where it is not one plain command: a crossing command, or the inside of
 * a MULTI ... EXEC. One object is filled again and again.
 */
export class Unit {
  readonly commands = new CommandList();
  bytes = 0;
  first = 0;
  /** The seq that a gate for this unit carries: the unit's last, that of EXEC for a transaction. */
  seq = 0;
  title = '';
  erases = false;
  swapped: readonly number[] = [];
  /** Places of FLUSHDB and FLUSHALL among its commands. */
  readonly flushes: number[] = [];
  #lanes: Lanes | undefined;

  begin(first: number, title: string): void {
    this.commands.clear();
    this.bytes = 0;
    this.first = first;
    this.seq = first;
    this.title = title;
    this.erases = false;
    this.swapped = [];
    this.flushes.length = 0;
    this.#lanes = undefined;
  }

  add(origin: Origin, start: number, end: number, seq: number, lanes: Lanes): void {
    this.#lanes = this.#lanes === undefined ? lanes : unionOf(this.#lanes, lanes);
    this.commands.add(origin, start, end, seq, lanes, this.commands.count > 0);
    this.bytes += end - start;
  }

  /** Of all its commands together; there is at least one. */
  get lanes(): Lanes {
    return this.#lanes as Lanes;
  }
}

/** What stops ingest at one command. */
export interface Poison {
  readonly seq: number;
  readonly code: string;
  readonly command: string;
  readonly key: string | null;
  readonly reason: string;
  /** Of the entry that holds it. */
  readonly position: string;
  /** The raw bytes, for the dead letter. */
  readonly bytes: Buffer;
}

/** A command that was left out. */
export interface Letter {
  readonly seq: number;
  readonly record: string;
  readonly bytes: Buffer;
}

/** A poison that nothing may pass. */
export class Stop extends Error {
  readonly poison: Poison;
  constructor(poison: Poison) {
    super(poison.reason);
    this.poison = poison;
  }
}
