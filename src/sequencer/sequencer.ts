// Numbers every raw command of the source and decides what it needs: one lane, several, or all.
//
// Pure: entries in, rounds out. A seq depends on the log alone, never on options or on how the log was cut into
// chunks: each raw command takes one (SELECT, MULTI, EXEC, ignored and forbidden ones too), a malformed entry
// takes exactly one, the parts of a split command share one. Therefore a log that is read again gives the same
// commands the same numbers, and what is applied is recognised by number alone.
// No round, item or segment cuts a MULTI ... EXEC.

import type { Classifier, Verdict } from '../binlog/classify.ts';
import type { CommandTable } from '../binlog/command-table.ts';
import { laneOf, slotOf } from '../binlog/lane-map.ts';
import { formatKey } from '../binlog/quoting.ts';
import { encodeCommand, RespError, RespScanner } from '../binlog/resp.ts';
import { rewriteFor } from '../binlog/rewrite.ts';
import { splitByLane } from '../binlog/split.ts';
import type { Round } from '../journal/journal.ts';
import type { Entry } from '../sources/source.ts';
import { RoundBuilder, type RoundLimits } from './round-builder.ts';
import type { Poison, Unit, UnitCommand } from './unit.ts';

export interface SequencerOptions {
  readonly table: CommandTable;
  readonly classifier: Classifier;
  readonly generation: string;
  /** Last seq spoken for, and the lanes' tails there. */
  readonly head: number;
  readonly tails: readonly number[];
  /** Databases of the target. */
  readonly databases: number;
  readonly limits: RoundLimits & { readonly roundBytesMax: number; readonly transactionBytesMax: number };
  readonly positionInside: (entry: Entry, taken: number) => string;
  /** What to do with a command that cannot be taken: stop in front of it, or leave it out with a record. */
  readonly onPoison: (
    poison: Poison,
  ) => { readonly kind: 'stop' } | { readonly kind: 'drop'; readonly record: string };
}

export type SequencerStep =
  | {
      readonly kind: 'round';
      readonly round: Round;
      readonly gates: readonly number[];
      readonly commands: number;
    }
  | { readonly kind: 'poison'; readonly poison: Poison; readonly position: string };

interface Transaction {
  readonly first: number;
  readonly commands: UnitCommand[];
  /** What was left out of it. Kept until its end: if it stops ingest, it is read again from its MULTI. */
  readonly letters: { readonly seq: number; readonly record: string; readonly bytes: Buffer }[];
  readonly lanes: Set<number>;
  all: boolean;
  erases: boolean;
  swapped: number[];
  bytes: number;
}

class Stop extends Error {
  readonly poison: Poison;
  constructor(poison: Poison) {
    super(poison.reason);
    this.poison = poison;
  }
}

export class Sequencer {
  readonly #options: SequencerOptions;
  readonly #lanes: number;
  readonly #builder: RoundBuilder;
  readonly #scanner = new RespScanner();
  #seq: number;
  #headOfRound: number;
  #db = 0;
  #timeMs = 0;
  #ignored = 0;
  #transaction: Transaction | undefined;

  constructor(options: SequencerOptions) {
    this.#options = options;
    this.#lanes = options.tails.length;
    this.#builder = new RoundBuilder(options.generation, options.tails, options.limits);
    this.#seq = options.head;
    this.#headOfRound = options.head;
  }

  /** Last seq handed out. */
  get seq(): number {
    return this.#seq;
  }

  /**
   * Yields the rounds that `entries` make; what was taken is always yielded before a poison, which ends it.
   * Every round ends at an entry's end, but for entries larger than a round.
   */
  *rounds(entries: readonly Entry[]): Generator<SequencerStep, void> {
    let position = '';
    for (const entry of entries) {
      const outcome = yield* this.#entry(entry);
      if (outcome === 'stopped') return;
      position = entry.position;
      if (this.#builder.bytes >= this.#options.limits.roundBytesMax) yield this.#close(position);
    }
    if (this.#seq > this.#headOfRound && position !== '') yield this.#close(position);
  }

  *#entry(entry: Entry): Generator<SequencerStep, 'taken' | 'stopped'> {
    this.#db = entry.db;
    this.#timeMs = entry.timeMs;
    let taken = 0;
    // Where the round can end if this command is refused: in front of it, or of the MULTI that it is in.
    let safe = { taken: 0, seq: this.#seq };
    try {
      const malformed = entry.malformed ?? malformation(entry.resp, this.#scanner);
      if (malformed !== undefined) {
        this.#seq++;
        this.#refuse({ code: 'MALFORMED', command: '?', key: null, reason: malformed, bytes: entry.resp });
        return 'taken';
      }
      this.#scanner.reset(entry.resp);
      while (this.#scanner.next()) {
        taken++;
        if (taken <= entry.skip) {
          this.#replayContext();
          continue;
        }
        this.#seq++;
        this.#command();
        if (this.#transaction) continue;
        safe = { taken, seq: this.#seq };
        if (
          this.#builder.bytes >= this.#options.limits.roundBytesMax &&
          this.#scanner.end < entry.resp.length
        ) {
          yield this.#close(this.#options.positionInside(entry, taken));
        }
      }
      return 'taken';
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      this.#transaction = undefined;
      this.#seq = safe.seq;
      const position = this.#options.positionInside(entry, Math.max(safe.taken, entry.skip));
      if (this.#seq > this.#headOfRound) yield this.#close(position);
      yield { kind: 'poison', poison: error.poison, position };
      return 'stopped';
    }
  }

  #close(position: string): SequencerStep {
    const { round, gates } = this.#builder.take(this.#seq, position, this.#timeMs, this.#ignored);
    const commands = this.#seq - this.#headOfRound;
    this.#ignored = 0;
    this.#headOfRound = this.#seq;
    return { kind: 'round', round, gates, commands };
  }

  /** One command under the scanner. */
  #command(): void {
    const { buffer, argStart, argEnd, start, end } = this.#scanner;
    const { table, classifier } = this.#options;
    const spec = table.lookup(buffer, argStart[0] as number, argEnd[0] as number);
    if (
      spec !== undefined &&
      this.#transaction === undefined &&
      this.#builder.acceptsPlain &&
      this.#db < this.#options.databases &&
      classifier.passesPlain(spec, this.#scanner)
    ) {
      const lane = laneOf(slotOf(buffer, argStart[1] as number, argEnd[1] as number), this.#lanes);
      this.#builder.plain(lane, buffer, start, end, this.#seq, this.#db, this.#timeMs);
      return;
    }
    const verdict = classifier.classify(this.#scanner);
    if (verdict.kind === 'context') this.#context(verdict);
    else if (verdict.kind === 'ignored') this.#ignored++;
    else if (verdict.kind === 'poison') this.#refuseCommand(verdict.code, verdict.reason, verdict.key);
    else this.#routed(verdict);
  }

  #routed(verdict: Extract<Verdict, { kind: 'keyed' | 'all' }>): void {
    const { databases } = this.#options;
    const dbs = [this.#db, ...verdict.databases];
    const outside = dbs.find((db) => db >= databases);
    if (outside !== undefined) {
      this.#refuseCommand(
        'DB_OUT_OF_RANGE',
        `database ${outside} does not exist at the target, which has ${databases}`,
      );
      return;
    }
    const scanner = this.#scanner;
    const name = verdict.spec.name;
    const rewritten =
      verdict.kind === 'keyed' && verdict.rewrite
        ? rewriteFor(name, scanner.args(), this.#timeMs)
        : undefined;
    const bytes = rewritten
      ? encodeCommand(rewritten)
      : Buffer.from(scanner.buffer.subarray(scanner.start, scanner.end));
    // A script may flush as well: then, too, the control keys are written again.
    const erases = verdict.kind === 'all' && (verdict.erases !== 'nothing' || verdict.reason === 'script');
    const swapped = verdict.kind === 'all' && verdict.erases === 'swap' ? [...verdict.databases] : [];
    const lanes = verdict.kind === 'all' ? ('all' as const) : this.#lanesOf(verdict.keys);
    if (this.#transaction) {
      this.#addToTransaction(this.#transaction, lanes, bytes, erases, swapped);
      return;
    }
    const unit = { seq: this.#seq, first: this.#seq, timeMs: this.#timeMs, erases, swapped, title: name };
    if (verdict.kind === 'keyed' && verdict.split !== undefined && lanes !== 'all' && lanes.length > 1) {
      for (const part of splitByLane(scanner.args(), verdict.split, this.#lanes)) {
        const partBytes = encodeCommand(part.args);
        const command = { seq: this.#seq, db: this.#db, bytes: partBytes };
        this.#builder.add({ ...unit, lanes: [part.lane], commands: [command], bytes: partBytes.length });
      }
      return;
    }
    this.#builder.add({
      ...unit,
      lanes,
      commands: [{ seq: this.#seq, db: this.#db, bytes }],
      bytes: bytes.length,
    });
  }

  #lanesOf(keys: readonly Buffer[]): number[] {
    const lanes = new Set(keys.map((key) => laneOf(slotOf(key, 0, key.length), this.#lanes)));
    return [...lanes].sort((a, b) => a - b);
  }

  #context(verdict: Extract<Verdict, { kind: 'context' }>): void {
    if (verdict.what === 'SELECT') {
      this.#db = verdict.db;
    } else if (verdict.what === 'MULTI') {
      const empty = {
        all: false,
        erases: false,
        swapped: [],
        bytes: 0,
        commands: [],
        letters: [],
        lanes: new Set<number>(),
      };
      this.#transaction = { first: this.#seq, ...empty };
    } else {
      const transaction = this.#transaction;
      this.#transaction = undefined;
      for (const { seq, record, bytes } of transaction?.letters ?? [])
        this.#builder.deadLetter(seq, record, bytes);
      const count = transaction?.commands.length ?? 0;
      if (verdict.what === 'DISCARD') this.#ignored += count;
      else if (transaction && count > 0) this.#builder.add(this.#unitOf(transaction));
    }
  }

  #unitOf(transaction: Transaction): Unit {
    const { first, commands, all, erases, swapped, bytes } = transaction;
    return {
      lanes: all ? 'all' : [...transaction.lanes].sort((a, b) => a - b),
      commands,
      seq: this.#seq,
      first,
      timeMs: this.#timeMs,
      bytes,
      erases,
      swapped,
      title: 'MULTI',
    };
  }

  #addToTransaction(
    transaction: Transaction,
    lanes: readonly number[] | 'all',
    bytes: Buffer,
    erases: boolean,
    swapped: readonly number[],
  ): void {
    const max = this.#options.limits.transactionBytesMax;
    if (transaction.bytes + bytes.length > max) {
      this.#refuseCommand(
        'TRANSACTION_TOO_LARGE',
        `a MULTI ... EXEC of more than ${max} bytes (--transaction-bytes)`,
      );
      return;
    }
    transaction.bytes += bytes.length;
    transaction.commands.push({ seq: this.#seq, db: this.#db, bytes });
    transaction.erases ||= erases;
    transaction.swapped.push(...swapped);
    if (lanes === 'all') transaction.all = true;
    else for (const lane of lanes) transaction.lanes.add(lane);
  }

  /** Commands that an earlier run has taken: only their SELECTs still matter. */
  #replayContext(): void {
    if (this.#scanner.argc !== 2) return;
    const verdict = this.#options.classifier.classify(this.#scanner);
    if (verdict.kind === 'context' && verdict.what === 'SELECT') this.#db = verdict.db;
  }

  #refuseCommand(code: string, reason: string, key?: Buffer): void {
    const { buffer, start, end } = this.#scanner;
    const command = formatKey(this.#scanner.arg(0)).toUpperCase();
    const shown = key === undefined ? null : formatKey(key);
    this.#refuse({ code, command, key: shown, reason, bytes: Buffer.from(buffer.subarray(start, end)) });
  }

  #refuse(poison: Omit<Poison, 'seq'>): void {
    const full = { seq: this.#seq, ...poison };
    const decision = this.#options.onPoison(full);
    if (decision.kind === 'stop') throw new Stop(full);
    const letter = { seq: full.seq, record: decision.record, bytes: full.bytes };
    if (this.#transaction) this.#transaction.letters.push(letter);
    else this.#builder.deadLetter(letter.seq, letter.record, letter.bytes);
  }
}

/** Why `resp` is not a list of whole commands with every MULTI closed; undefined if it is. */
function malformation(resp: Buffer, scanner: RespScanner): string | undefined {
  if (resp.length === 0) return 'the entry holds no command';
  scanner.reset(resp);
  let open = false;
  try {
    while (scanner.next()) {
      if (scanner.argc !== 1) continue;
      const length = (scanner.argEnd[0] as number) - (scanner.argStart[0] as number);
      if (length !== 4 && length !== 5 && length !== 7) continue;
      const name = scanner.arg(0).toString('latin1').toUpperCase();
      if (name === 'MULTI' && open) return `a MULTI inside a MULTI at byte ${scanner.start}`;
      if ((name === 'EXEC' || name === 'DISCARD') && !open)
        return `${name} without MULTI at byte ${scanner.start}`;
      if (name === 'MULTI') open = true;
      else if (name === 'EXEC' || name === 'DISCARD') open = false;
    }
  } catch (error) {
    if (error instanceof RespError) return error.message;
    throw error;
  }
  return open ? 'a MULTI that the entry does not close' : undefined;
}
