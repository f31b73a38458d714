// Numbers every raw command of the source and decides what it needs: one lane, several, or all.
//
// Pure: entries in, rounds out. A seq depends on the log alone, never on options or on how the log was cut into
// chunks: each raw command takes one (SELECT, MULTI, EXEC, ignored and forbidden ones too), a malformed entry
// takes exactly one, the parts of a split command share one. Therefore a log that is read again gives the same
// commands the same numbers, and what is applied is recognised by number alone.
// No round, item or segment cuts a MULTI ... EXEC.

import { upperText } from '../binlog/ascii.ts';
import type { AllVerdict, Classifier, ContextVerdict, KeyedVerdict } from '../binlog/classify.ts';
import type { CommandTable } from '../binlog/command-table.ts';
import { laneOf, slotOf } from '../binlog/lane-map.ts';
import { formatKey } from '../binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../binlog/resp.ts';
import { type Respelled, respell, type Spelling } from '../binlog/respell.ts';
import { type RewriteRules, rewriteFor } from '../binlog/rewrite.ts';
import { type Splittable, splitByLane } from '../binlog/split.ts';
import type { Round } from '../journal/journal.ts';
import type { Entry } from '../sources/source.ts';
import type { Origin } from './command-list.ts';
import { type Lanes, unionOf } from './lane-set.ts';
import { malformation } from './malformation.ts';
import { RoundBuilder } from './round-builder.ts';
import { commandTooLarge, type SequencerLimits, transactionTooLarge } from './too-large.ts';
import { type Letter, type Poison, Stop, Unit } from './unit.ts';

export interface SequencerOptions {
  readonly table: CommandTable;
  readonly classifier: Classifier;
  readonly rewriteRules?: RewriteRules;
  readonly generation: string;
  /** Last seq spoken for, and the lanes' tails there. */
  readonly head: number;
  readonly tails: readonly number[];
  /** Databases of the target. */
  readonly databases: number;
  /** The only one of them that can be written in one transaction with the checkpoints; undefined: all can. */
  readonly onlyDb?: number | undefined;
  /** What the target has to be told in other words. */
  readonly spelling?: Spelling | undefined;
  readonly limits: SequencerLimits;
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

type RoutedVerdict = KeyedVerdict | AllVerdict;

const NOTHING = Buffer.alloc(0);

export class Sequencer {
  readonly #options: SequencerOptions;
  readonly #lanes: number;
  readonly #builder: RoundBuilder;
  readonly #scanner = new RespScanner();
  readonly #respelling = new RespScanner();
  #seq: number;
  #headOfRound: number;
  /** The entry under the scanner, and the database that holds in it. */
  #origin: Origin = { buffer: NOTHING, db: 0, timeMs: 0, deadlineMs: Infinity };
  /** The first that the command under the scanner has set, where deadlines are watched. */
  #deadlineMs = Infinity;
  readonly #commandBytesMax: number;
  #ignored = 0;
  #undetermined = 0;
  readonly #unit = new Unit();
  /** Between MULTI and EXEC; what is between them is gathered in `#unit`. */
  #inTransaction = false;
  /** What was left out of the transaction. Kept until its end: if it stops ingest, it is read again from its MULTI. */
  #letters: Letter[] = [];
  /** A transaction that is left out as a whole: its one record, and where it begins in the entry. */
  #leftOut: { readonly seq: number; readonly record: string; readonly start: number } | undefined;
  #multiStart = 0;
  #position = '';

  constructor(options: SequencerOptions) {
    this.#options = options;
    this.#lanes = options.tails.length;
    this.#commandBytesMax = options.limits.commandBytesMax ?? Infinity;
    this.#builder = new RoundBuilder(options.generation, options.tails, options.limits);
    this.#seq = options.head;
    this.#headOfRound = options.head;
  }

  /** Last seq handed out. */
  get seq(): number {
    return this.#seq;
  }

  /** The caller is done with a round: its memory serves the next ones. */
  recycle(round: Round): void {
    this.#builder.recycle(round);
  }

  /**
   * Yields the rounds that `entries` make; what was taken is always yielded before a poison, which ends it.
   * Every round ends at an entry's end, but for entries larger than a round.
   */
  *rounds(entries: readonly Entry[]): Generator<SequencerStep, void> {
    let position = '';
    try {
      for (const entry of entries) {
        const outcome = yield* this.#entry(entry);
        if (outcome === 'stopped') return;
        position = entry.position;
        if (this.#builder.bytes >= this.#options.limits.roundBytesMax) yield this.#close(position);
      }
      if (this.#seq > this.#headOfRound && position !== '') yield this.#close(position);
    } finally {
      // It may be huge, and the next one may be long in coming.
      this.#origin = { ...this.#origin, buffer: NOTHING };
      this.#scanner.reset(NOTHING);
      this.#respelling.reset(NOTHING);
    }
  }

  *#entry(entry: Entry): Generator<SequencerStep, 'taken' | 'stopped'> {
    this.#origin = { buffer: entry.resp, db: entry.db, timeMs: entry.timeMs, deadlineMs: Infinity };
    this.#position = entry.position;
    let taken = 0;
    // Where the round can end if this command is refused: in front of it, or of the MULTI that it is in.
    let safe = this.#safe(0);
    try {
      const malformed = entry.malformed ?? malformation(entry.resp, this.#scanner);
      if (malformed !== undefined) {
        this.#seq++;
        const what = entry.refused ?? { code: 'MALFORMED', command: '?', key: null };
        this.#refuse({ ...what, reason: malformed, bytes: entry.resp });
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
        if (this.#inTransaction) continue;
        if (
          this.#builder.bytes >= this.#options.limits.roundBytesMax &&
          this.#scanner.end < entry.resp.length
        ) {
          yield this.#close(this.#options.positionInside(entry, taken));
        }
        safe = this.#safe(taken);
      }
      return 'taken';
    } catch (error) {
      if (!(error instanceof Stop)) throw error;
      this.#inTransaction = false;
      this.#letters = [];
      this.#leftOut = undefined;
      this.#seq = safe.seq;
      this.#ignored = safe.ignored;
      this.#undetermined = safe.undetermined;
      const position = this.#options.positionInside(entry, Math.max(safe.taken, entry.skip));
      if (this.#seq > this.#headOfRound) yield this.#close(position);
      yield { kind: 'poison', poison: error.poison, position };
      return 'stopped';
    }
  }

  #safe(taken: number) {
    return { taken, seq: this.#seq, ignored: this.#ignored, undetermined: this.#undetermined };
  }

  #close(position: string): SequencerStep {
    const { round, gates } = this.#builder.take({
      lastSeq: this.#seq,
      position,
      timeMs: this.#origin.timeMs,
      ignored: this.#ignored,
      undetermined: this.#undetermined,
    });
    const commands = this.#seq - this.#headOfRound;
    this.#ignored = 0;
    this.#undetermined = 0;
    this.#headOfRound = this.#seq;
    return { kind: 'round', round, gates, commands };
  }

  /** One command under the scanner. */
  #command(): void {
    const { buffer, argStart, argEnd, start, end } = this.#scanner;
    const { table, classifier } = this.#options;
    if (end - start > this.#commandBytesMax) {
      const { code, reason } = commandTooLarge(end - start, this.#commandBytesMax);
      this.#refuseCommand(code, reason, undefined, NOTHING);
      return;
    }
    const spec = table.lookup(buffer, argStart[0] as number, argEnd[0] as number);
    if (
      spec !== undefined &&
      this.#isServed(this.#origin.db) &&
      classifier.passesPlain(spec, this.#scanner)
    ) {
      const lane = laneOf(slotOf(buffer, argStart[1] as number, argEnd[1] as number), this.#lanes);
      if (this.#inTransaction) this.#addToTransaction(this.#origin, start, end, lane);
      else this.#builder.addSingle(lane, this.#origin, start, end, this.#seq);
      return;
    }
    const verdict = classifier.classify(this.#scanner);
    if (verdict.kind === 'context') this.#context(verdict);
    else if (verdict.kind === 'ignored') this.#ignored++;
    else if (verdict.kind === 'poison') this.#refuseCommand(verdict.code, verdict.reason, verdict.key);
    else this.#routed(verdict);
  }

  #routed(verdict: RoutedVerdict): void {
    const outside = this.#databaseOutside(verdict);
    if (outside !== undefined) {
      this.#refuseCommand('DB_OUT_OF_RANGE', this.#whyOutside(outside));
      return;
    }
    if (verdict.kind === 'keyed' && verdict.undetermined) this.#undetermined++;
    const lanes = verdict.kind === 'all' ? 'all' : this.#lanesOf(verdict.keys);
    const split = verdict.kind === 'keyed' && typeof lanes !== 'number' ? verdict.split : undefined;
    if (split !== undefined && !this.#inTransaction) {
      this.#addSplit(split);
      return;
    }
    const respelled = this.#respelled(verdict);
    if (respelled?.kind === 'refused') this.#refuseCommand('NOT_AT_TARGET', respelled.reason);
    else if (respelled) this.#addRespelled(verdict, respelled.commands, lanes);
    else this.#addAs(verdict, this.#rewritten(verdict), lanes);
  }

  #addAs(verdict: RoutedVerdict, origin: Origin, lanes: Lanes): void {
    const asItIs = origin.buffer === this.#origin.buffer;
    const start = asItIs ? this.#scanner.start : 0;
    const end = asItIs ? this.#scanner.end : origin.buffer.length;
    if (!this.#inTransaction && typeof lanes === 'number') {
      this.#builder.addSingle(lanes, origin, start, end, this.#seq);
      return;
    }
    const unit = this.#unit;
    if (!this.#inTransaction) {
      unit.begin(this.#seq, verdict.spec.name);
      unit.add(origin, start, end, this.#seq, lanes);
    } else if (!this.#addToTransaction(origin, start, end, lanes)) {
      return;
    }
    if (verdict.kind === 'all') {
      // A script may flush as well: then, too, the control keys are written again.
      if (verdict.erases !== 'nothing' || verdict.reason === 'script') unit.erases = true;
      if (verdict.reason === 'erases') unit.flushes.push(unit.commands.count - 1);
      if (verdict.erases === 'swap') unit.swapped = [...unit.swapped, ...verdict.databases];
    }
    if (!this.#inTransaction) this.#builder.addUnit(unit);
  }

  #databaseOutside(verdict: RoutedVerdict): number | undefined {
    if (!this.#isServed(this.#origin.db)) return this.#origin.db;
    return verdict.databases.find((db) => !this.#isServed(db));
  }

  #isServed(db: number): boolean {
    const { databases, onlyDb } = this.#options;
    return db < databases && (onlyDb === undefined || db === onlyDb);
  }

  #whyOutside(db: number): string {
    const { databases, onlyDb } = this.#options;
    if (db >= databases) return `database ${db} does not exist at the target, which has ${databases}`;
    return `database ${db} cannot be written in one transaction with the checkpoints, which are in database ${onlyDb} of the target`;
  }

  #respelled(verdict: RoutedVerdict): Respelled | undefined {
    const { spelling } = this.#options;
    if (spelling === undefined || verdict.kind === 'all') return undefined;
    const origin = this.#rewritten(verdict);
    this.#respelling.reset(
      origin.buffer === this.#origin.buffer
        ? this.#origin.buffer.subarray(this.#scanner.start, this.#scanner.end)
        : origin.buffer,
    );
    this.#respelling.next();
    return respell(upperText(this.#respelling.arg(0)), this.#respelling.args(), spelling);
  }

  /** One command of the log, as several that stay together under its seq. */
  #addRespelled(verdict: RoutedVerdict, commands: readonly (readonly Buffer[])[], lanes: Lanes): void {
    const unit = this.#unit;
    if (!this.#inTransaction) unit.begin(this.#seq, verdict.spec.name);
    for (const args of commands) {
      const buffer = encodeCommand(args);
      const origin = { ...this.#origin, buffer, deadlineMs: this.#deadlineMs };
      if (!this.#inTransaction) unit.add(origin, 0, buffer.length, this.#seq, lanes);
      else if (!this.#addToTransaction(origin, 0, buffer.length, lanes)) return;
    }
    if (!this.#inTransaction) this.#builder.addUnit(unit);
  }

  /** The origin of the command under the scanner: the entry, or a buffer of its own if it is rewritten. */
  #rewritten(verdict: RoutedVerdict): Origin {
    this.#deadlineMs = Infinity;
    if (verdict.kind === 'all' || !verdict.rewrite) return this.#origin;
    const { rewriteRules } = this.#options;
    const { timeMs } = this.#origin;
    const args = rewriteFor(
      verdict.spec.name,
      this.#scanner.args(),
      timeMs,
      rewriteRules,
      rewriteRules?.watchesDeadlines ? this.#noteDeadline : undefined,
    );
    const deadlineMs = this.#deadlineMs;
    if (args !== undefined) return { ...this.#origin, buffer: encodeCommand(args), deadlineMs };
    return deadlineMs === Infinity ? this.#origin : { ...this.#origin, deadlineMs };
  }

  readonly #noteDeadline = (atMs: number) => {
    this.#deadlineMs = Math.min(this.#deadlineMs, atMs);
  };

  #addSplit(split: Splittable): void {
    for (const part of splitByLane(this.#scanner.args(), split, this.#lanes)) {
      const buffer = encodeCommand(part.args);
      this.#builder.addSingle(part.lane, { ...this.#origin, buffer }, 0, buffer.length, this.#seq);
    }
  }

  #lanesOf(keys: readonly Buffer[]): Lanes {
    let lanes: Lanes = this.#laneOf(keys[0] as Buffer);
    for (let at = 1; at < keys.length; at++) lanes = unionOf(lanes, this.#laneOf(keys[at] as Buffer));
    return lanes;
  }

  #laneOf(key: Buffer): number {
    return laneOf(slotOf(key, 0, key.length), this.#lanes);
  }

  #context(verdict: ContextVerdict): void {
    if (verdict.what === 'SELECT') {
      this.#origin = { ...this.#origin, db: verdict.db };
    } else if (verdict.what === 'MULTI') {
      this.#inTransaction = true;
      this.#multiStart = this.#scanner.start;
      this.#unit.begin(this.#seq, 'MULTI');
    } else {
      this.#endTransaction(verdict.what);
    }
  }

  #endTransaction(what: 'EXEC' | 'DISCARD'): void {
    const unit = this.#unit;
    const count = this.#inTransaction ? unit.commands.count : 0;
    this.#inTransaction = false;
    if (this.#leftOut !== undefined) {
      const { seq, record, start } = this.#leftOut;
      this.#leftOut = undefined;
      this.#builder.deadLetter(
        seq,
        record,
        Buffer.from(this.#origin.buffer.subarray(start, this.#scanner.end)),
      );
      return;
    }
    for (const { seq, record, bytes } of this.#letters) this.#builder.deadLetter(seq, record, bytes);
    if (this.#letters.length > 0) this.#letters = [];
    if (what === 'DISCARD') {
      this.#ignored += count;
    } else if (count > 0) {
      unit.seq = this.#seq;
      this.#builder.addUnit(unit);
    }
  }

  /** False if it was refused. */
  #addToTransaction(origin: Origin, start: number, end: number, lanes: Lanes): boolean {
    if (this.#leftOut !== undefined) return false;
    if (this.#unit.bytes + end - start > this.#options.limits.transactionBytesMax) {
      this.#refuseTransaction();
      return false;
    }
    this.#unit.add(origin, start, end, this.#seq, lanes);
    return true;
  }

  /** Commands that an earlier run has taken: only their SELECTs still matter. */
  #replayContext(): void {
    if (this.#scanner.argc !== 2) return;
    const verdict = this.#options.classifier.classify(this.#scanner);
    if (verdict.kind === 'context' && verdict.what === 'SELECT') this.#context(verdict);
  }

  #refuseTransaction(): void {
    const max = this.#options.limits.transactionBytesMax;
    const poison = transactionTooLarge(this.#unit.first, this.#position, max);
    const decision = this.#options.onPoison(poison);
    if (decision.kind === 'stop') throw new Stop(poison);
    this.#leftOut = { seq: poison.seq, record: decision.record, start: this.#multiStart };
    // The one record holds these commands as well.
    this.#letters = [];
    this.#unit.begin(poison.seq, 'MULTI');
  }

  /** `bytes`: what the dead letter keeps of it, all by default. */
  #refuseCommand(code: string, reason: string, key?: Buffer, bytes?: Buffer): void {
    const { buffer, start, end } = this.#scanner;
    const command = formatKey(this.#scanner.arg(0)).toUpperCase();
    const shown = key === undefined ? null : formatKey(key);
    const kept = bytes ?? Buffer.from(buffer.subarray(start, end));
    this.#refuse({ code, command, key: shown, reason, bytes: kept });
  }

  #refuse(poison: Omit<Poison, 'seq' | 'position'>): void {
    if (this.#leftOut !== undefined) return;
    const full = { seq: this.#seq, position: this.#position, ...poison };
    const decision = this.#options.onPoison(full);
    if (decision.kind === 'stop') throw new Stop(full);
    const letter = { seq: full.seq, record: decision.record, bytes: full.bytes };
    if (this.#inTransaction) this.#letters.push(letter);
    else this.#builder.deadLetter(letter.seq, letter.record, letter.bytes);
  }
}
