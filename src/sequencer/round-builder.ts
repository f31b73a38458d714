// Turns routed units into the items of a round.
//
// Keyed units go into their lane's open batch. A crossing unit opens a segment; units behind it are held back
// for a moment: if another crossing unit follows within reach, everything between them joins the segment and
// one gate serves them all (serial speed instead of one rendezvous each); if not, the segment is closed as a
// gate and what was held back goes into the lanes behind the markers.

import { gateHeader, laneHeader } from '../journal/item.ts';
import type { Round, RoundItem } from '../journal/journal.ts';
import { BatchBuilder } from './batch-builder.ts';
import { crosses, type Unit } from './unit.ts';

export interface RoundLimits {
  /** A segment's commands, bytes. A single unit may be larger. */
  readonly segmentBytesMax: number;
  /** Commands between two crossing ones of a segment. */
  readonly segmentGapMax: number;
}

const NOTHING = Buffer.alloc(0);

interface Segment {
  units: Unit[];
  bytes: number;
  /** Units behind the last crossing one. */
  held: Unit[];
  heldBytes: number;
}

export class RoundBuilder {
  readonly #lanes: number;
  readonly #generation: string;
  readonly #limits: RoundLimits;
  readonly #batches: BatchBuilder[];
  readonly #gateBatch = new BatchBuilder('gate');
  /** Last seq of each lane that has left in an item. */
  readonly #tails: number[];
  #items: RoundItem[] = [];
  #segment: Segment | undefined;
  #bytes = 0;
  #gates: number[] = [];

  constructor(generation: string, tails: readonly number[], limits: RoundLimits) {
    this.#lanes = tails.length;
    this.#generation = generation;
    this.#limits = limits;
    this.#tails = [...tails];
    this.#batches = tails.map(() => new BatchBuilder('lane'));
  }

  /** Bytes gathered since the last `take`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** True while plain single-key commands may go straight to `plain`. */
  get acceptsPlain(): boolean {
    return this.#segment === undefined;
  }

  /** The hot path: one single-key command as it stands in the source's buffer. */
  plain(
    lane: number,
    source: Buffer,
    start: number,
    end: number,
    seq: number,
    db: number,
    timeMs: number,
  ): void {
    (this.#batches[lane] as BatchBuilder).add(source, start, end, seq, db, timeMs, false);
    this.#bytes += end - start;
  }

  add(unit: Unit): void {
    this.#bytes += unit.bytes;
    if (crosses(unit)) this.#addCrossing(unit);
    else if (this.#segment) this.#hold(unit, this.#segment);
    else this.#addToLane(unit);
  }

  deadLetter(seq: number, record: string, bytes: Buffer): void {
    this.#items.push({ where: 'd', seq, header: record, index: NOTHING, commands: bytes });
  }

  /** Closes the round. `gates` are the seqs of the gates in it. */
  take(
    lastSeq: number,
    position: string,
    timeMs: number,
    ignored: number,
  ): { round: Round; gates: readonly number[] } {
    this.#closeSegment();
    for (let lane = 0; lane < this.#lanes; lane++) this.#closeBatch(lane);
    const taken = { round: { lastSeq, position, timeMs, ignored, items: this.#items }, gates: this.#gates };
    this.#items = [];
    this.#gates = [];
    this.#bytes = 0;
    return taken;
  }

  #addCrossing(unit: Unit): void {
    const open = this.#segment;
    if (open && open.bytes + open.heldBytes + unit.bytes <= this.#limits.segmentBytesMax) {
      open.units.push(...open.held, unit);
      open.bytes += open.heldBytes + unit.bytes;
      open.held = [];
      open.heldBytes = 0;
      return;
    }
    this.#closeSegment();
    this.#segment = { units: [unit], bytes: unit.bytes, held: [], heldBytes: 0 };
  }

  #hold(unit: Unit, segment: Segment): void {
    segment.held.push(unit);
    segment.heldBytes += unit.bytes;
    const tooFar = segment.held.length > this.#limits.segmentGapMax;
    if (tooFar || segment.bytes + segment.heldBytes > this.#limits.segmentBytesMax) this.#closeSegment();
  }

  #addToLane(unit: Unit): void {
    const batch = this.#batches[(unit.lanes as readonly number[])[0] as number] as BatchBuilder;
    unit.commands.forEach((command, at) => {
      batch.add(command.bytes, 0, command.bytes.length, command.seq, command.db, unit.timeMs, at > 0);
    });
  }

  #closeSegment(): void {
    const segment = this.#segment;
    if (!segment) return;
    this.#segment = undefined;
    this.#emitGate(segment.units);
    for (const unit of segment.held) this.#addToLane(unit);
  }

  #emitGate(units: readonly Unit[]): void {
    const lanes = this.#union(units);
    for (const lane of lanes) this.#closeBatch(lane);
    const batch = this.#gateBatch;
    for (const unit of units) {
      unit.commands.forEach((command, at) => {
        batch.add(
          command.bytes,
          0,
          command.bytes.length,
          command.seq,
          command.db,
          unit.timeMs,
          at > 0,
          unit.lanes,
        );
      });
    }
    const seq = (units.at(-1) as Unit).seq;
    const first = (units[0] as Unit).first;
    const crossing = units.filter(crosses);
    const title = `${crossing[0]?.title}${crossing.length > 1 ? ` +${crossing.length - 1}` : ''}`;
    const { count, db, dbLast, dbMax, timeMs } = batch;
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
      erases: units.some((unit) => unit.erases),
      swapped: [...new Set(units.flatMap((unit) => unit.swapped))],
      title,
    });
    for (const lane of lanes) this.#emitMarker(lane, { seq, first, timeMs, lanes: lanes.length });
    this.#items.push({ where: 'g', seq, header, index: batch.index.take(), commands: batch.takeCommands() });
    this.#gates.push(seq);
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
    });
    this.#items.push({ where: lane, seq, header, index: NOTHING, commands: NOTHING });
    this.#tails[lane] = seq;
  }

  #closeBatch(lane: number): void {
    const batch = this.#batches[lane] as BatchBuilder;
    if (batch.count === 0) return;
    const { first, last, count, db, dbLast, dbMax, timeMs } = batch;
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

  #union(units: readonly Unit[]): number[] {
    const lanes = new Set<number>();
    for (const unit of units) {
      if (unit.lanes === 'all') return Array.from({ length: this.#lanes }, (_, lane) => lane);
      for (const lane of unit.lanes) lanes.add(lane);
    }
    return [...lanes].sort((a, b) => a - b);
  }
}
