import { RespScanner } from '../../src/binlog/resp.ts';
import { ControlKeys, type Identity, parseCheckpoint } from '../../src/target/control.ts';
import { CELLS, cellOf, DATABASES, logOfId, type SourceLog, type Told } from './source-log.ts';

/** An invariant of the design that does not hold. */
export class Violation extends Error {
  readonly invariant: string;
  constructor(invariant: string, what: string) {
    super(`${invariant}: ${what}`);
    this.invariant = invariant;
  }
}

/** The session is gone; what an EXEC without a reply did is for the checkpoints to say. */
export class SessionLost extends Error {}

export const CONTROL = new ControlKeys('sim');

interface Value {
  readonly text: string;
  /** WATCH compares this, not the text. */
  readonly version: number;
}

/** Everything that a replica would copy. */
export interface TargetState {
  /** Control keys per database. */
  readonly control: readonly Map<string, Value>[];
  /** The log whose commands it holds, and which of the times that it was begun. */
  log: number;
  run: number;
  /** Per cell: how many of its expected ids are in it. */
  readonly applied: Int32Array;
}

/** What the numbers of a generation mean: id = seq + offset, in that log. */
export interface Numbering {
  readonly log: number;
  /** Which reading of a log from its FLUSHALL on this is; the same for generations that go on in it. */
  readonly run: number;
  readonly offset: number;
}

interface InForce extends Numbering {
  readonly generation: string;
  readonly lanes: number;
  /** Of the identity that says so. */
  readonly version: number;
}

export type ExecOutcome =
  | { readonly kind: 'committed' }
  | { readonly kind: 'fenced' }
  | { readonly kind: 'aborted'; readonly index: number; readonly id: number };

/**
 * A target that knows what the source's log is, and checks with every command that it is the next one of each key
 * that it touches: a repetition is I1, a hole or a wrong order is I2, and for what crosses lanes I3. Once a generation
 * of another log is in force, nothing of the one before may come, and nothing of the new one before its FLUSHALL.
 */
export class SimTarget {
  readonly #logs: readonly SourceLog[];
  readonly #numberings: ReadonlyMap<string, Numbering>;
  readonly #scanner = new RespScanner();
  /** Ids that an operator has left out. */
  readonly skipped = new Set<number>();
  /** Id that the target refuses for now. */
  refused = 0;
  /** An empty server answers instead of the target: nothing may be applied to it. */
  impostor = false;
  state: TargetState = empty();
  #saved: TargetState | undefined;
  #inForce: InForce | undefined;
  #versions = 0;
  /** Sessions opened before the last failover are gone. */
  era = 0;
  executions = 0;

  constructor(logs: readonly SourceLog[], numberings: ReadonlyMap<string, Numbering>) {
    this.#logs = logs;
    this.#numberings = numberings;
  }

  copy(): TargetState {
    return copyOf(this.state);
  }

  /** What its identity says. */
  get inForce(): InForce | undefined {
    const version = this.version(CONTROL.identity);
    if (version === 0) return undefined;
    if (version === this.#inForce?.version) return this.#inForce;
    const { generation, lanes } = JSON.parse(this.get(CONTROL.identity) as string) as Identity;
    const numbering = this.#numberings.get(generation);
    this.#inForce = numbering && { ...numbering, generation, lanes, version };
    return this.#inForce;
  }

  /** A lagging replica is promoted. */
  failOver(to: TargetState): void {
    this.state = copyOf(to);
    this.era++;
  }

  replaceByImpostor(): void {
    this.#saved = this.state;
    this.state = empty();
    this.impostor = true;
    this.era++;
  }

  restore(): void {
    this.state = this.#saved as TargetState;
    this.impostor = false;
    this.era++;
  }

  get(key: string): string | null {
    return this.state.control[0]?.get(key)?.text ?? null;
  }

  version(key: string): number {
    return this.state.control[0]?.get(key)?.version ?? 0;
  }

  /** MULTI; parts; SET ...; EXEC in one step. `lanes`: how many there are, for the check of the checkpoints. */
  exec(
    parts: readonly Buffer[],
    sets: readonly (readonly [string, string])[],
    who: string,
    what: 'data' | 'control',
  ): ExecOutcome {
    const refusedAt = this.refused === 0 ? -1 : this.#indexOf(parts, this.refused);
    if (refusedAt >= 0) return { kind: 'aborted', index: refusedAt, id: this.refused };
    if (this.impostor && (parts.length > 0 || sets.length > 0))
      throw new Violation('I7', `${who} writes to a target that has no checkpoints`);
    this.executions++;
    const inTransactions = new Map<number, number>();
    const due = this.inForce;
    let db = 0;
    this.#each(parts, () => {
      const name = this.#scanner.arg(0).toString('latin1');
      if (name === 'SELECT') db = Number(this.#scanner.arg(1).toString('latin1'));
      else if (name === 'DEL' && this.#scanner.arg(1).toString('latin1').startsWith(CONTROL.prefix))
        for (let i = 1; i < this.#scanner.argc; i++)
          this.state.control[db]?.delete(this.#scanner.arg(i).toString('latin1'));
      else this.#apply(name, db, { who, due, inTransactions });
    });
    for (const [transaction, count] of inTransactions) {
      const whole = this.#logs[logOfId(transaction)]?.transactions.get(transaction) ?? 0;
      const left = count < whole && !this.#hasSkipped(transaction);
      if (left) throw new Violation('I2', `${who} cuts the MULTI ${transaction}: ${count} of ${whole}`);
    }
    for (const [key, text] of sets) this.state.control[0]?.set(key, { text, version: ++this.#versions });
    if (what === 'data') this.#checkCheckpoints(who);
    return { kind: 'committed' };
  }

  /** First id of a cell that is not applied; Infinity when all are. */
  #nextOf(cell: number): number {
    const expected = this.#expected(cell);
    let at = this.state.applied[cell] as number;
    while (at < expected.length && this.skipped.has(expected[at] as number)) at++;
    return expected[at] ?? Number.POSITIVE_INFINITY;
  }

  /** Everything of the log in force below this id is applied. */
  firstUnapplied(): number {
    const { inForce } = this;
    if (inForce && inForce.run !== this.state.run) return (this.#logs[inForce.log] as SourceLog).first + 1;
    let first = Number.POSITIVE_INFINITY;
    for (let cell = 0; cell < CELLS; cell++) first = Math.min(first, this.#nextOf(cell));
    return first;
  }

  /** ck(l) says: all of the lane at or below it is applied, nothing above. */
  #checkCheckpoints(who: string): void {
    const { inForce } = this;
    if (!inForce) return;
    for (let lane = 0; lane < inForce.lanes; lane++) {
      const text = this.get(CONTROL.checkpoint(lane));
      if (text === null) break;
      const checkpoint = parseCheckpoint(text);
      if (checkpoint?.generation !== inForce.generation)
        throw new Violation(
          'I2',
          `${who}: checkpoint ${text} of lane ${lane} is not of ${inForce.generation}`,
        );
      const seq = checkpoint.seq + inForce.offset;
      if (inForce.run !== this.state.run) {
        if (seq > (this.#logs[inForce.log] as SourceLog).first)
          throw new Violation('I2', `${who}: checkpoint ${text} of lane ${lane} has passed the FLUSHALL`);
        continue;
      }
      for (const cell of this.cellsOf(lane)) {
        const next = this.#nextOf(cell);
        if (next <= seq) throw new Violation('I2', `${who}: checkpoint ${seq} of lane ${lane} skips ${next}`);
        const last = this.#expected(cell)[(this.state.applied[cell] as number) - 1] ?? 0;
        if (last > seq && !this.skipped.has(last))
          throw new Violation('I1', `${who}: checkpoint ${seq} of lane ${lane} forgets ${last}`);
      }
    }
  }

  /** Set by the world, which knows the number of lanes. */
  cellsOf: (lane: number) => readonly number[] = () => [];

  #apply(
    name: string,
    db: number,
    exec: {
      readonly who: string;
      readonly due: InForce | undefined;
      readonly inTransactions: Map<number, number>;
    },
  ): void {
    const { who, due, inTransactions } = exec;
    const scanner = this.#scanner;
    if (due && due.run !== this.state.run) {
      if (name !== 'FLUSHALL')
        throw new Violation('I2', `${who} applies ${name} before the FLUSHALL of log ${due.log}`);
      this.state.log = due.log;
      this.state.run = due.run;
      this.state.applied.fill(0);
    }
    if (name === 'FLUSHDB') this.state.control[db]?.clear();
    else if (name === 'FLUSHALL') for (const control of this.state.control) control.clear();
    else if (name === 'SWAPDB') {
      const control = this.state.control as Map<string, Value>[];
      [control[0], control[1]] = [control[1] as Map<string, Value>, control[0] as Map<string, Value>];
    }
    const whole = name === 'FLUSHDB' || name === 'FLUSHALL' || name === 'SWAPDB';
    let transaction: number | undefined;
    if (whole) {
      const id = this.#nextIdFor(0, name);
      for (let cell = 0; cell < CELLS; cell++) this.#touch(cell, name, id, who);
      transaction = this.#told(id)?.transaction;
    } else {
      const step = name === 'DEL' ? 1 : name === 'RPUSH' ? scanner.argc : 2;
      for (let i = 1; i < scanner.argc; i += step) {
        const cell = cellOf(db, scanner.arg(i).toString('latin1'));
        const id =
          name === 'DEL' ? this.#nextIdFor(cell, name) : Number(scanner.arg(i + 1).toString('latin1'));
        this.#touch(cell, name, id, who);
        transaction = this.#told(id)?.transaction;
      }
    }
    if (transaction !== undefined)
      inTransactions.set(transaction, (inTransactions.get(transaction) ?? 0) + 1);
  }

  /** FLUSHDB and DEL carry no id: it must be their turn. A skipped one may still be applied elsewhere. */
  #nextIdFor(cell: number, name: string): number {
    const expected = this.#expected(cell);
    let at = this.state.applied[cell] as number;
    while (at < expected.length && this.skipped.has(expected[at] as number)) {
      if (this.#told(expected[at] as number)?.name === name) break;
      at++;
    }
    return expected[at] ?? 0;
  }

  #touch(cell: number, name: string, id: number, who: string): void {
    const expected = this.#expected(cell);
    let at = this.state.applied[cell] as number;
    while (at < expected.length && expected[at] !== id && this.skipped.has(expected[at] as number)) at++;
    const due = expected[at];
    const told = this.#told(id);
    if (due !== id || told?.name !== name) {
      const crossing = (told?.cells.length ?? CELLS) > 1;
      const invariant = told && due !== undefined && id > due ? (crossing ? 'I3' : 'I2') : 'I1';
      const text = `${name} ${id} on cell ${cell}, where ${due === undefined ? 'nothing' : `${this.#told(due)?.name} ${due}`} is due`;
      throw new Violation(invariant, `${who} applies ${text}`);
    }
    this.state.applied[cell] = at + 1;
  }

  #expected(cell: number): readonly number[] {
    return (this.#logs[this.state.log] as SourceLog).expected[cell] as readonly number[];
  }

  #told(id: number): Told | undefined {
    return this.#logs[logOfId(id)]?.told.get(id);
  }

  #hasSkipped(transaction: number): boolean {
    for (const id of this.skipped) if (this.#told(id)?.transaction === transaction) return true;
    return false;
  }

  #indexOf(parts: readonly Buffer[], id: number): number {
    const told = this.#told(id);
    let found = -1;
    let index = 0;
    let db = 0;
    this.#each(parts, () => {
      const name = this.#scanner.arg(0).toString('latin1');
      if (name === 'SELECT') db = Number(this.#scanner.arg(1).toString('latin1'));
      else if (name === told?.name && db === told.db && found < 0) {
        const argument = name === 'DEL' ? id : Number(this.#scanner.arg(2).toString('latin1'));
        if (argument === id) found = index;
      }
      index++;
    });
    return found;
  }

  #each(parts: readonly Buffer[], visit: () => void): void {
    for (const part of parts) {
      this.#scanner.reset(part);
      while (this.#scanner.next()) visit();
    }
  }
}

function copyOf({ control, log, run, applied }: TargetState): TargetState {
  return { control: control.map((db) => new Map(db)), log, run, applied: applied.slice() };
}

function empty(): TargetState {
  return {
    log: 0,
    run: 0,
    control: Array.from({ length: DATABASES }, () => new Map<string, Value>()),
    applied: new Int32Array(CELLS),
  };
}

/** One connection. It never comes back by itself. */
export class SimSession {
  readonly db = 0;
  readonly #target: SimTarget;
  readonly #era: number;
  readonly #fenced: boolean;
  #watched: Map<string, number> | undefined;

  constructor(target: SimTarget, fenced: boolean) {
    this.#target = target;
    this.#era = target.era;
    this.#fenced = fenced;
  }

  read(keys: readonly string[]): (string | null)[] {
    this.#alive();
    return keys.map((key) => this.#target.get(key));
  }

  fence(keys: readonly string[]): (string | null)[] {
    this.#alive();
    this.#watched = new Map(keys.map((key) => [key, this.#target.version(key)]));
    return this.read(keys);
  }

  commit(
    parts: readonly Buffer[],
    sets: readonly (readonly [string, string])[],
    who: string,
    what: 'data' | 'control' = 'data',
  ): ExecOutcome {
    this.#alive();
    const watched = this.#watched;
    this.#watched = undefined;
    if (!watched) throw new Error('EXEC without a fence');
    if (this.#fenced)
      for (const [key, version] of watched)
        if (this.#target.version(key) !== version) return { kind: 'fenced' };
    return this.#target.exec(parts, sets, who, what);
  }

  #alive(): void {
    if (this.#era !== this.#target.era) throw new SessionLost();
  }
}
