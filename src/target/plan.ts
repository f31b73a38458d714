// Which of a journal's commands may still run, given the checkpoints. Pure; this is where "once" is decided.
//
// A lane chunk may run iff p <= c < last: p is the lane's seq directly before the chunk, c the lane's checkpoint.
// Commands at or below c are dropped. A checkpoint inside an item was left by another cut of the same log.
// A gate's command is judged by its own lanes: all at or above its seq: drop; all below: run; mixed: cannot be.

import { RespScanner } from '../binlog/resp.ts';
import {
  type GateItem,
  type IndexedCommand,
  insertedIn,
  itemBytes,
  type LaneItem,
  readIndex,
} from '../journal/item.ts';
import { selectCommand } from '../sequencer/batch-builder.ts';

/** Bytes to send between MULTI and the checkpoint. */
export interface Batch {
  readonly parts: Buffer[];
  /** RESP commands in `parts`. */
  count: number;
  /** Commands of the source that run, and that were recognised as applied. */
  run: number;
  dropped: number;
  /** Seq of each RESP command of `parts`, in order; for the errors inside EXEC. Made on demand. */
  readonly commandAt: (index: number) => { readonly seq: number; readonly args: Buffer[] } | undefined;
  /** Database in which the session is left. */
  dbLast: number;
  /** When the source ran the first of them, and the first deadline that one of them sets (Infinity: none is watched), ms since 1970. */
  timeMs: number;
  deadlineMs: number;
}

export interface ChunkLimits {
  readonly bytesMax: number;
  readonly skips: ReadonlySet<number>;
  /** Nothing at or above this seq, nor the transaction that holds it. */
  readonly before?: number | undefined;
}

export type ChunkPlan =
  | {
      readonly kind: 'run';
      readonly batch: Batch;
      readonly last: number;
      readonly outBytes: number;
      readonly items: number;
    }
  | { readonly kind: 'marker'; readonly marker: LaneItem }
  | { readonly kind: 'gap'; readonly item: LaneItem }
  | { readonly kind: 'foreign'; readonly item: LaneItem }
  | { readonly kind: 'applied'; readonly last: number }
  | { readonly kind: 'none' };

/** Plans the next chunk of a lane from items that follow each other in its log. `db`: where the session is. */
export function planChunk(
  items: readonly LaneItem[],
  checkpoint: { readonly generation: string; readonly seq: number },
  db: number,
  limits: ChunkLimits,
): ChunkPlan {
  const first = items[0];
  if (!first) return { kind: 'none' };
  if (first.generation !== checkpoint.generation) return { kind: 'foreign', item: first };
  if (first.previous > checkpoint.seq) return { kind: 'gap', item: first };
  if (first.seq <= checkpoint.seq) return { kind: 'applied', last: first.seq };
  if (first.kind === 'marker') return { kind: 'marker', marker: first };

  const writer = new BatchWriter(db);
  let last = checkpoint.seq;
  let outBytes = 0;
  let taken = 0;
  let bytes = 0;
  for (const item of items) {
    const follows = taken === 0 || (item.previous === last && item.generation === checkpoint.generation);
    if (!follows || item.kind === 'marker' || (taken > 0 && bytes + item.commands.length > limits.bytesMax))
      break;
    writer.watch(item);
    const before = limits.before !== undefined && limits.before <= item.seq ? limits.before : undefined;
    if (item.first > checkpoint.seq && before === undefined && !skipsWithin(limits.skips, item)) {
      writer.whole(item);
    } else {
      const commands = readIndex(item.index, item.first);
      const stop = before === undefined ? commands.length : unitStart(commands, before);
      writer.part(item.commands, commands, item.db, stop, (command) => {
        if (command.seq <= checkpoint.seq) return 'applied';
        return limits.skips.has(command.seq) ? 'skipped' : 'run';
      });
      if (before !== undefined) {
        last = Math.max(last, lastSeqBefore(commands, stop) ?? last);
        return { kind: 'run', batch: writer.batch, last, outBytes, items: taken };
      }
    }
    last = item.seq;
    outBytes = item.bytesBefore + itemBytes(item);
    bytes += item.commands.length;
    taken++;
  }
  return { kind: 'run', batch: writer.batch, last, outBytes, items: taken };
}

export type GatePlan =
  | { readonly kind: 'run'; readonly batch: Batch; readonly through: number }
  | { readonly kind: 'closed' }
  | { readonly kind: 'waiting'; readonly lanes: readonly number[] }
  | { readonly kind: 'mixed'; readonly seq: number }
  | { readonly kind: 'foreign' };

/** Plans a gate from the checkpoints of its lanes (`checkpoints[i]` belongs to `item.lanes[i]`). */
export function planGate(
  item: GateItem,
  checkpoints: readonly { readonly generation: string; readonly seq: number }[],
  db: number,
  limits: { readonly skips: ReadonlySet<number>; readonly before?: number | undefined },
): GatePlan {
  if (checkpoints.some((checkpoint) => checkpoint.generation !== item.generation)) return { kind: 'foreign' };
  if (checkpoints.every((checkpoint) => checkpoint.seq >= item.seq)) return { kind: 'closed' };
  const waiting = item.lanes.filter((_, at) => (checkpoints[at]?.seq ?? -1) < (item.previous[at] ?? 0));
  if (waiting.length > 0) return { kind: 'waiting', lanes: waiting };

  const seqOf = new Map(item.lanes.map((lane, at) => [lane, checkpoints[at]?.seq ?? -1]));
  const writer = new BatchWriter(db);
  writer.watch(item);
  if (
    !skipsWithin(limits.skips, item) &&
    limits.before === undefined &&
    checkpoints.every(({ seq }) => seq < item.first)
  ) {
    writer.whole(item, 'gate');
    return { kind: 'run', batch: writer.batch, through: item.seq };
  }
  const commands = readIndex(item.index, 'gate');
  const stop = limits.before === undefined ? commands.length : unitStart(commands, limits.before);
  let mixed: number | undefined;
  writer.part(item.commands, commands, item.db, stop, (command) => {
    const seqs = (command.lanes ?? item.lanes).map((lane) => seqOf.get(lane) ?? -1);
    const applied = seqs.filter((seq) => seq >= command.seq).length;
    if (applied === seqs.length) return 'applied';
    if (applied > 0) mixed = command.seq;
    return limits.skips.has(command.seq) ? 'skipped' : 'run';
  });
  if (mixed !== undefined) return { kind: 'mixed', seq: mixed };
  const through = limits.before === undefined ? item.seq : (lastSeqBefore(commands, stop) ?? item.first - 1);
  return { kind: 'run', batch: writer.batch, through };
}

function skipsWithin(
  skips: ReadonlySet<number>,
  item: { readonly first: number; readonly seq: number },
): boolean {
  for (const seq of skips) if (seq >= item.first && seq <= item.seq) return true;
  return false;
}

/** Index of the first command of the transaction that holds `seq` (or of the command itself). */
function unitStart(commands: readonly IndexedCommand[], seq: number): number {
  let at = commands.findIndex((command) => command.seq >= seq);
  if (at < 0) return commands.length;
  while (at > 0 && commands[at]?.continues) at--;
  return at;
}

function lastSeqBefore(commands: readonly IndexedCommand[], stop: number): number | undefined {
  // Parts of a split command share a seq: a seq counts as passed only if none of its parts is left.
  const next = commands[stop]?.seq;
  for (let at = stop - 1; at >= 0; at--) {
    const seq = commands[at]?.seq;
    if (seq !== undefined && seq !== next) return seq;
  }
  return undefined;
}

class BatchWriter {
  readonly batch: Batch;
  readonly #sources: {
    readonly at: number;
    readonly commands: Buffer;
    readonly index: () => IndexedCommand[];
  }[] = [];

  constructor(db: number) {
    const commandAt = (index: number) => this.#commandAt(index);
    const none = { count: 0, run: 0, dropped: 0, timeMs: Infinity, deadlineMs: Infinity };
    this.batch = { parts: [], ...none, commandAt, dbLast: db };
  }

  watch({ timeMs, deadlineMs }: LaneItem | GateItem): void {
    if (timeMs < this.batch.timeMs) this.batch.timeMs = timeMs;
    if (deadlineMs < this.batch.deadlineMs) this.batch.deadlineMs = deadlineMs;
  }

  /** An item as it is. */
  whole(item: LaneItem | GateItem, kind?: 'gate'): void {
    this.#select(item.db);
    const index = () => readIndex(item.index, kind ?? item.first);
    this.#sources.push({ at: this.batch.count, commands: item.commands, index });
    this.batch.parts.push(item.commands);
    this.batch.count += item.count;
    this.batch.run += item.count - insertedIn(item.index, kind ?? 'lane');
    this.batch.dbLast = item.dbLast;
  }

  /** Commands [0, stop) of an item, those that `judge` lets run; inserted SELECTs are made anew. */
  part(
    bytes: Buffer,
    commands: readonly IndexedCommand[],
    db: number,
    stop: number,
    judge: (command: IndexedCommand) => 'run' | 'applied' | 'skipped',
  ): void {
    const scanner = new RespScanner();
    scanner.reset(bytes);
    let dbNow = db;
    for (let at = 0; at < stop && scanner.next(); at++) {
      const command = commands[at] as IndexedCommand;
      if (command.inserted) {
        dbNow = Number(scanner.arg(1).toString('latin1'));
        continue;
      }
      const verdict = judge(command);
      if (verdict === 'applied') this.batch.dropped++;
      if (verdict !== 'run') continue;
      this.#select(dbNow);
      const own = bytes.subarray(scanner.start, scanner.end);
      this.#sources.push({ at: this.batch.count, commands: own, index: () => [command] });
      this.batch.parts.push(own);
      this.batch.count++;
      this.batch.run++;
    }
  }

  #select(db: number): void {
    if (db === this.batch.dbLast) return;
    this.batch.parts.push(selectCommand(db));
    this.batch.count++;
    this.batch.dbLast = db;
  }

  #commandAt(index: number): { seq: number; args: Buffer[] } | undefined {
    const source = this.#sources.findLast((candidate) => candidate.at <= index);
    if (!source) return undefined;
    const scanner = new RespScanner();
    scanner.reset(source.commands);
    let at = source.at;
    for (const command of source.index()) {
      if (!scanner.next()) return undefined;
      if (at++ === index) return { seq: command.seq, args: scanner.args() };
    }
    return undefined;
  }
}
