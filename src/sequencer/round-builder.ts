// Turns routed commands into the items of a round.
//
// Keyed commands go into their lane's open batch. A crossing unit opens a segment; what follows is held back
// for a moment: if another crossing unit follows within reach, everything between them joins the segment and
// one gate serves them all (serial speed instead of one rendezvous each); if not, the segment is closed as a
// gate and what was held back goes into the lanes behind the markers.
// Until `take`, bytes may be copied from the source's buffers: they must not change in between.

import { gateHeader, laneHeader } from '../journal/item.ts';
import type { Round, RoundItem } from '../journal/journal.ts';
import { BatchBuilder } from './batch-builder.ts';
import { BufferPool } from './buffer-pool.ts';
import type { CommandList, Origin } from './command-list.ts';
import { LaneUnion } from './lane-set.ts';
import { Segment } from './segment.ts';
import { Unit } from './unit.ts';

export interface RoundLimits {
  /** A segment's commands, bytes. A single unit may be larger. */
  readonly segmentBytesMax: number;
  /** Commands between two crossing ones of a segment. */
  readonly segmentGapMax: number;
  /** A run of so many crossing units goes on behind the end of its round; 16 if not given. */
  readonly segmentDenseMin?: number | undefined;
  /** A FLUSHDB or FLUSHALL is a gate of its own: the target cannot run it beside other commands. */
  readonly flushAlone?: boolean | undefined;
}

const NOTHING = Buffer.alloc(0);
/** Around a shorter run the commands stay with their lanes, which apply them, and stop at them, by themselves. */
const SEGMENT_DENSE_MIN = 16;

export class RoundBuilder {
  readonly #lanes: number;
  readonly #generation: string;
  readonly #limits: RoundLimits;
  readonly #batches: BatchBuilder[];
  readonly #pool = new BufferPool();
  readonly #gateBatch = new BatchBuilder('gate', this.#pool);
  /** Last seq of each lane that has left in an item. */
  readonly #tails: number[];
  readonly #segment = new Segment();
  readonly #union: LaneUnion;
  #items: RoundItem[] = [];
  #bytes = 0;
  #gates: number[] = [];

  constructor(generation: string, tails: readonly number[], limits: RoundLimits) {
    this.#lanes = tails.length;
    this.#generation = generation;
    this.#limits = limits;
    this.#tails = [...tails];
    this.#batches = tails.map(() => new BatchBuilder('lane', this.#pool));
    this.#union = new LaneUnion(tails.length);
  }

  /** Bytes gathered since the last `take`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The hot path: one command of one lane, [start, end) of its origin's buffer. Makes nothing per command. */
  addSingle(lane: number, origin: Origin, start: number, end: number, seq: number): void {
    this.#bytes += end - start;
    if (this.#segment.holds) {
      this.#segment.hold(origin, start, end, seq, lane);
      this.#closeSegmentIfFull();
    } else {
      (this.#batches[lane] as BatchBuilder).add(origin, start, end, seq, false);
    }
  }

  /** A crossing command or a transaction. */
  addUnit(unit: Unit): void {
    this.#bytes += unit.bytes;
    if (typeof unit.lanes !== 'number') {
      this.#addCrossing(unit);
    } else if (this.#segment.holds) {
      this.#segment.holdUnit(unit);
      this.#closeSegmentIfFull();
    } else {
      this.#addToLanes(unit.commands, 0);
    }
  }

  deadLetter(seq: number, record: string, bytes: Buffer): void {
    // The source may take the memory of its entries again before the round is committed.
    this.#items.push({ where: 'd', seq, header: record, index: NOTHING, commands: Buffer.from(bytes) });
  }

  /** The round is durable; its bytes are not looked at again. */
  recycle(round: Round): void {
    for (const { where, commands } of round.items) if (where !== 'd') this.#pool.giveBack(commands);
  }

  /** Closes the round. `gates` are the seqs of the gates in it. */
  take(end: Omit<Round, 'items'>): { round: Round; gates: readonly number[] } {
    const isDense = this.#segment.crossing >= (this.#limits.segmentDenseMin ?? SEGMENT_DENSE_MIN);
    if (isDense && this.#heldIsOfTheGate()) this.#segment.joinHeld();
    this.#closeSegment();
    this.#segment.isExpected = isDense;
    for (let lane = 0; lane < this.#lanes; lane++) this.#closeBatch(lane);
    const taken = { round: { ...end, items: this.#items }, gates: this.#gates };
    this.#items = [];
    this.#gates = [];
    this.#bytes = 0;
    return taken;
  }

  #addCrossing(unit: Unit): void {
    if (this.#limits.flushAlone === true && unit.flushes.length > 0) {
      this.#closeSegment();
      for (const piece of piecesOf(unit)) {
        this.#segment.join(piece);
        this.#closeSegment();
      }
      return;
    }
    if (this.#segment.bytes + unit.bytes > this.#limits.segmentBytesMax) this.#closeSegment();
    this.#segment.join(unit);
  }

  #closeSegmentIfFull(): void {
    const { heldUnits, bytes } = this.#segment;
    const tooFar = heldUnits > this.#limits.segmentGapMax;
    if (tooFar || bytes > this.#limits.segmentBytesMax) this.#closeSegment();
  }

  /** Commands of one lane each. */
  #addToLanes(commands: CommandList, from: number): void {
    for (let at = from; at < commands.count; at++) {
      const batch = this.#batches[commands.lanes(at) as number] as BatchBuilder;
      batch.add(
        commands.origin(at),
        commands.start(at),
        commands.end(at),
        commands.seq(at),
        commands.tied(at),
      );
    }
  }

  #closeSegment(): void {
    const segment = this.#segment;
    if (segment.isOpen) this.#emitGate(segment);
    this.#addToLanes(segment.commands, segment.joined);
    segment.clear();
  }

  #heldIsOfTheGate(): boolean {
    const { commands, joined } = this.#segment;
    const lanes = this.#lanesOf(this.#segment);
    for (let at = joined; at < commands.count; at++)
      if (!lanes.includes(commands.lanes(at) as number)) return false;
    return true;
  }

  #emitGate(segment: Segment): void {
    const batch = this.#gateBatch;
    const lanes = this.#lanesOf(segment);
    for (const lane of lanes) this.#closeBatch(lane);
    this.#gather(segment);
    const { seq, first, erases, title } = segment;
    const { count, db, dbLast, dbMax, timeMs, deadlineMs } = batch;
    const header = gateHeader({
      generation: this.#generation,
      seq,
      first,
      lanes,
      previous: lanes.map((lane) => this.#tails[lane] as number),
      count,
      db,
      dbLast,
      dbMax,
      timeMs,
      deadlineMs,
      erases,
      swapped: [...segment.swapped],
      title,
    });
    for (const lane of lanes) this.#emitMarker(lane, { seq, first, timeMs, lanes: lanes.length });
    this.#items.push({ where: 'g', seq, header, index: batch.index.take(), commands: batch.takeCommands() });
    this.#gates.push(seq);
  }

  #lanesOf({ commands, joined }: Segment): number[] {
    for (let at = 0; at < joined; at++) this.#union.add(commands.lanes(at));
    return this.#union.take();
  }

  /** Fills the gate's batch with what is in the segment. */
  #gather({ commands, joined }: Segment): void {
    for (let at = 0; at < joined; at++) {
      this.#gateBatch.add(
        commands.origin(at),
        commands.start(at),
        commands.end(at),
        commands.seq(at),
        commands.tied(at),
        commands.lanes(at),
      );
    }
  }

  #emitMarker(lane: number, gate: { seq: number; first: number; timeMs: number; lanes: number }): void {
    const { seq, first, timeMs } = gate;
    const previous = this.#tails[lane] as number;
    const header = laneHeader({
      kind: 'marker',
      generation: this.#generation,
      seq,
      previous,
      first,
      count: gate.lanes,
      db: 0,
      dbLast: 0,
      dbMax: 0,
      timeMs,
      deadlineMs: Infinity,
    });
    this.#items.push({ where: lane, seq, header, index: NOTHING, commands: NOTHING });
    this.#tails[lane] = seq;
  }

  #closeBatch(lane: number): void {
    const batch = this.#batches[lane] as BatchBuilder;
    if (batch.count === 0) return;
    const { first, last, count, db, dbLast, dbMax, timeMs, deadlineMs } = batch;
    const previous = this.#tails[lane] as number;
    const header = laneHeader({
      kind: 'batch',
      generation: this.#generation,
      seq: last,
      previous,
      first,
      count,
      db,
      dbLast,
      dbMax,
      timeMs,
      deadlineMs,
    });
    this.#items.push({
      where: lane,
      seq: last,
      header,
      index: batch.index.take(),
      commands: batch.takeCommands(),
    });
    this.#tails[lane] = last;
  }
}

/**
 * A unit cut at its flushes: a gate each, over the lanes of the whole, so that every command is judged by the same lanes
 * however the unit was cut. The last piece has the unit's seq.
 */
function* piecesOf(unit: Unit): Generator<Unit, void> {
  const { commands, flushes } = unit;
  const ends = [...new Set([...flushes.flatMap((at) => [at, at + 1]), commands.count])].filter(
    (at) => at > 0,
  );
  let from = 0;
  for (const end of ends.sort((a, b) => a - b)) {
    const piece = new Unit();
    const erases = flushes.includes(from);
    piece.begin(from === 0 ? unit.first : commands.seq(from), unit.title);
    for (let at = from; at < end; at++)
      piece.add(commands.origin(at), commands.start(at), commands.end(at), commands.seq(at), unit.lanes);
    piece.seq = end === commands.count ? unit.seq : commands.seq(end - 1);
    piece.erases = erases;
    yield piece;
    from = end;
  }
}
