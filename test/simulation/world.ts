import { laneOf, slotOf } from '../../src/binlog/lane-map.ts';
import { frontGates } from '../../src/journal/front.ts';
import { lanesWithGap } from '../../src/journal/mark.ts';
import { type Identity, type Mark, parseCheckpoint } from '../../src/target/control.ts';
import { random } from '../support/workload.ts';
import { type Actor, gateRunner, laneWorker } from './apply-actors.ts';
import { FAULTS, type Fault, type Mutant } from './faults.ts';
import { ingest, watchdog } from './ingest-actors.ts';
import { type JournalCopy, SimJournal } from './sim-journal.ts';
import {
  CONTROL,
  type Numbering,
  SessionLost,
  SimSession,
  SimTarget,
  type TargetState,
  Violation,
} from './sim-target.ts';
import { CELLS, intBelow, keyOfCell, makeLog, type Rng, type SourceLog } from './source-log.ts';

export interface SimOptions {
  readonly mutant?: Mutant | undefined;
  /** For a smaller history: entries of the source, steps with faults, and which faults. */
  readonly entriesMax?: number | undefined;
  readonly chaosSteps?: number | undefined;
  readonly faults?: ReadonlySet<Fault> | undefined;
  readonly trace?: (line: string) => void;
}

interface Running {
  readonly name: string;
  readonly actor: Actor;
  sleepUntil: number;
}

export const CHAOS_STEPS = 900;
export const ENTRIES_MAX = 37;
const QUIET_STEPS_MAX = 12_000;
const ACTORS_MAX = 10;
/** Logs that the fault alone makes. */
const LOGS_MAX = 6;
const NO_SKIPS: ReadonlySet<number> = new Set();
const SLOTS = Array.from({ length: CELLS }, (_, cell) => {
  const key = Buffer.from(keyOfCell(cell));
  return slotOf(key, 0, key.length);
});
const laneCells = new Map<number, readonly (readonly number[])[]>();

function cellsByLane(lanes: number): readonly (readonly number[])[] {
  const known = laneCells.get(lanes);
  if (known) return known;
  const made = Array.from({ length: lanes }, (_, lane) =>
    SLOTS.flatMap((slot, cell) => (laneOf(slot, lanes) === lane ? [cell] : [])),
  );
  laneCells.set(lanes, made);
  return made;
}

/** One pipeline with its source, queue and target, all in memory, and a scheduler that is out to break it. */
export class World {
  readonly rng: Rng;
  /** The source's logs, each of which has replaced the one before. */
  readonly #logs: SourceLog[] = [];
  readonly #numberings = new Map<string, Numbering>();
  readonly target: SimTarget;
  readonly journal = new SimJournal();
  readonly mutant: Mutant | undefined;
  readonly trace: ((line: string) => void) | undefined;
  readonly lanesFirst: number;
  readonly #entriesMax: number;
  /** Entries that the source's log has so far, and up to which id it was told that it may forget. */
  written = 0;
  acknowledged = 0;
  begun = false;
  relaneTo: number | undefined;
  quiet = false;
  rebuilds = 0;
  #names = 0;
  #steps = 0;
  #actors: Running[] = [];
  #targets: TargetState[] = [];
  #journals: JournalCopy[] = [];
  readonly #trims: boolean;
  readonly #chaosSteps: number;
  readonly #faults: readonly (readonly [strike: () => void, weight: number])[];
  readonly #faultWeight: number;

  constructor(seed: number, options: SimOptions) {
    this.rng = random(seed);
    this.mutant = options.mutant;
    this.trace = options.trace;
    this.#entriesMax = options.entriesMax ?? ENTRIES_MAX;
    const entries = Math.min(8 + intBelow(this.rng, ENTRIES_MAX - 7), this.#entriesMax);
    this.#logs.push(makeLog(this.rng, { entries, log: 0, flushes: false }));
    this.target = new SimTarget(this.#logs, this.#numberings);
    this.lanesFirst = 1 + intBelow(this.rng, 4);
    this.#trims = this.rng() < 0.5;
    this.#chaosSteps = options.chaosSteps ?? CHAOS_STEPS;
    this.#faults = this.#mixFaults(options.faults);
    this.#faultWeight = this.#faults.reduce((sum, [, weight]) => sum + weight, 0);
    this.target.cellsOf = (lane) => cellsByLane(this.#lanes())[lane] ?? [];
  }

  /** The one that the source has now. */
  get log(): SourceLog {
    return this.#logs.at(-1) as SourceLog;
  }

  run(): { steps: number; executions: number } {
    while (this.#steps < this.#chaosSteps) {
      this.#step();
      if (this.rng() < 0.04) this.#fault();
      if (this.written < this.log.entries.length && this.rng() < 0.08) this.written++;
    }
    this.#calm();
    while (!this.#done()) {
      if (this.#steps > this.#chaosSteps + QUIET_STEPS_MAX)
        throw new Violation('I8', `stands still: ${this.#where()}`);
      for (let i = 0; i < 20; i++) this.#step();
    }
    return { steps: this.#steps, executions: this.target.executions };
  }

  open(): SimSession {
    return new SimSession(this.target, this.mutant !== 'no-fence');
  }

  /** By seq in a generation. */
  skips(generation: string): ReadonlySet<number> {
    const { skipped } = this.target;
    const offset = this.#numberings.get(generation)?.offset ?? 0;
    return skipped.size === 0 ? NO_SKIPS : new Set([...skipped].map((id) => id - offset));
  }

  idOf(generation: string, seq: number): number {
    return seq + (this.#numberings.get(generation)?.offset ?? 0);
  }

  newJournalId(): string {
    return `j${++this.#names}`;
  }

  newGeneration(current: string | undefined): string {
    const next = (current === undefined ? 0 : Number.parseInt(current, 10)) + 1;
    return this.mutant === 'generation-without-suffix'
      ? `${next}.0`
      : `${next}.${(++this.#names).toString(16)}`;
  }

  /** A generation may begin, with this mark, behind another. */
  raised({ generation, seq, position }: Mark, behind: string | undefined): void {
    const { log, at, taken } = this.place(position);
    const id = (this.#logs[log]?.before[at] as number) + taken;
    const begins = log > 0 && id === this.#logs[log]?.first;
    const run = begins ? ++this.#names : (this.#numberings.get(behind ?? '')?.run ?? 0);
    this.#numberings.set(generation, { log, run, offset: id - seq });
  }

  place(position: string): { log: number; at: number; taken: number } {
    const slash = position.indexOf('/');
    const colon = position.indexOf(':');
    const end = colon < 0 ? position.length : colon;
    const taken = colon < 0 ? 0 : Number(position.slice(colon + 1));
    return { log: Number(position.slice(0, slash)), at: Number(position.slice(slash + 1, end)), taken };
  }

  /** Where the log begins that has taken the place of this one; undefined while none has. */
  replacedAt(log: number): string | undefined {
    if (log === this.#logs.length - 1) return undefined;
    // A full sync begins anew unless all that it sent is still there.
    const wanted = !this.quiet && this.#logs.length < LOGS_MAX && this.rng() < 0.1;
    if (wanted || this.isForgotten(this.#logs.length - 1, 0, 0)) this.#replaceLog();
    return `${this.#logs.length - 1}/0:0`;
  }

  /** The source can be read from a position only if it was not told to forget what follows. */
  isForgotten(log: number, at: number, taken: number): boolean {
    if (!this.#trims || log < this.#logs.length - 1) return false;
    return (this.log.before[at] as number) + taken < this.acknowledged;
  }

  marked(mark: Mark): void {
    const first = this.target.firstUnapplied();
    this.trace?.(`mark ${mark.mark} at ${mark.position} (seq ${mark.seq})`);
    if (first <= this.idOf(mark.generation, mark.mark))
      throw new Violation('I6', `the mark says ${mark.mark}, and ${first} is not applied`);
    if (mark.seq > mark.mark) throw new Violation('I6', `the mark ${mark.mark} resumes behind itself`);
    mark.tails.forEach((tail, lane) => {
      const checkpoint = parseCheckpoint(this.target.get(CONTROL.checkpoint(lane)) ?? '')?.seq ?? -1;
      if (tail > checkpoint)
        throw new Violation('I6', `the mark's tail ${tail} of lane ${lane} is not applied`);
    });
  }

  acknowledge(mark: Mark): void {
    this.acknowledged = Math.max(this.acknowledged, this.idOf(mark.generation, mark.seq));
  }

  /** The retention window is longer than a replica lags: nothing goes that a promoted one still needs. */
  trim(id: string, through: number): void {
    const mark = this.#mark();
    if (mark?.generation === this.journal.inForce()?.generation && through <= (mark?.seq ?? 0))
      this.journal.trim(id, through);
  }

  #step(): void {
    this.#steps++;
    const draw = this.rng();
    if (this.#actors.length < ACTORS_MAX && draw < 0.12) this.#spawn();
    const awake = this.#actors.filter((running) => running.sleepUntil <= this.#steps);
    const running = awake[intBelow(this.rng, awake.length)];
    if (!running) return;
    if (!this.quiet && this.rng() < 0.015) running.sleepUntil = this.#steps + intBelow(this.rng, 250);
    let ended: boolean | undefined;
    try {
      ended = running.actor.next().done;
    } catch (error) {
      if (!(error instanceof SessionLost)) throw error;
      ended = true;
    }
    if (ended) this.#actors.splice(this.#actors.indexOf(running), 1);
  }

  #spawn(): void {
    const name = `#${++this.#names}`;
    const draw = this.rng();
    const start = (actor: Actor) => this.#actors.push({ name, actor, sleepUntil: 0 });
    if (draw < 0.15) start(watchdog(this));
    else if (draw < 0.35) {
      // Two may believe that they hold the role.
      start(ingest(this, `ingest${name}`));
    } else if (draw < 0.5) {
      const front = frontGates(this.journal.gates(), this.#checkpoints());
      const gate = front[intBelow(this.rng, front.length)];
      if (gate) start(gateRunner(this, gate.seq, `gate${name}`));
    } else start(laneWorker(this, intBelow(this.rng, this.#lanes()), `lane${name}`));
  }

  #fault(): void {
    let draw = this.rng() * this.#faultWeight;
    for (const [strike, weight] of this.#faults) {
      draw -= weight;
      if (draw >= 0) continue;
      strike();
      return;
    }
  }

  /** Each seed has its own mix: some faults often, others never. */
  #mixFaults(allowed: ReadonlySet<Fault> | undefined): [strike: () => void, weight: number][] {
    const { target, journal, rng } = this;
    const strikes: Record<Fault, () => void> = {
      kill: () => this.#actors.splice(intBelow(rng, this.#actors.length), 1),
      'save target': () => (target.impostor ? undefined : this.#targets.push(target.copy())),
      'save journal': () => this.#journals.push(journal.copy()),
      'target falls back': () => this.#failOver(),
      'journal falls back': () => this.#loseJournal(),
      'connections break': () => target.era++,
      relane: () => this.#askForLanes(),
      'log is replaced': () => (this.#logs.length < LOGS_MAX ? this.#replaceLog() : undefined),
      'target is another server': () => this.#swapTarget(),
      refusal: () => this.#refuseOne(),
    };
    return FAULTS.map((fault) => {
      const weight = rng() < 0.3 ? 0 : rng();
      return [strikes[fault], allowed === undefined || allowed.has(fault) ? weight : 0];
    });
  }

  #askForLanes(): void {
    if (this.begun) this.relaneTo ??= 1 + intBelow(this.rng, 4);
  }

  /** Whatever of the log so far was not read is gone for good. */
  #replaceLog(): void {
    const entries = Math.min(2 + intBelow(this.rng, 16), this.#entriesMax);
    const flushes = this.mutant !== 'replace-without-flush';
    const log = makeLog(this.rng, { entries, log: this.#logs.length, flushes });
    this.trace?.(`the source replaces its log: ${this.#logs.length}`);
    this.#logs.push(log);
    this.acknowledged = log.first;
    this.written = this.quiet ? log.entries.length : 1;
  }

  #swapTarget(): void {
    if (this.target.impostor) this.target.restore();
    else if (this.begun) this.target.replaceByImpostor();
  }

  /** Losing the journal and rolling the target back together needs a source that forgets nothing: design, 8. */
  #failOver(): void {
    const state = this.#targets[intBelow(this.rng, this.#targets.length)];
    if (!state || this.target.impostor) return;
    const text = (key: string) => state.control[0]?.get(key)?.text;
    const identity = JSON.parse(text(CONTROL.identity) ?? 'null') as Identity | null;
    const mark = JSON.parse(text(CONTROL.mark) ?? 'null') as Mark | null;
    if (!identity || !mark) return;
    const checkpoints = CONTROL.checkpoints(identity.lanes).map(
      (key) => parseCheckpoint(text(key) ?? '')?.seq ?? -1,
    );
    const snapshot = this.journal.snapshot(checkpoints);
    const served =
      snapshot?.id === identity.journal &&
      this.idOf(identity.generation, snapshot.head) >= this.acknowledged &&
      snapshot.head >= mark.seq &&
      lanesWithGap(snapshot.views, checkpoints).length === 0;
    if (!served && this.#needsForgotten(mark)) return;
    this.trace?.(`the target falls back to ${checkpoints}`);
    this.target.failOver(state);
  }

  #loseJournal(): void {
    const mark = this.#mark();
    if (!mark || this.#needsForgotten(mark)) return;
    const to = this.rng() < 0.4 ? undefined : this.#journals[intBelow(this.rng, this.#journals.length)];
    this.trace?.(
      `the journal falls back to ${to ? `${to.id} epoch ${to.epoch} head ${to.head}` : 'nothing'}`,
    );
    this.journal.fallBack(to);
  }

  #needsForgotten({ position }: Mark): boolean {
    const { log, at, taken } = this.place(position);
    return this.isForgotten(log, at, taken);
  }

  #refuseOne(): void {
    const { target, rng } = this;
    if (target.impostor) return;
    const log = this.#logs[target.inForce?.log ?? 0] as SourceLog;
    if (target.refused !== 0) {
      if (rng() < 0.5) target.skipped.add(target.refused);
      target.refused = 0;
      return;
    }
    // One that is not far ahead.
    const told = log.told.get(Math.min(log.total, target.firstUnapplied()) + intBelow(rng, 12));
    if (told && told.name !== 'DEL' && told.cells.length < CELLS) target.refused = told.id;
  }

  #calm(): void {
    if (this.target.impostor) this.target.restore();
    if (this.target.refused !== 0) this.target.refused = 0;
    this.quiet = true;
    this.written = this.log.entries.length;
  }

  #done(): boolean {
    if (this.target.firstUnapplied() !== Number.POSITIVE_INFINITY) return false;
    const mark = this.#mark();
    if (!mark || this.place(mark.position).log < this.#logs.length - 1) return false;
    return this.idOf(mark.generation, mark.mark) === this.log.total && this.relaneTo === undefined;
  }

  #mark(): Mark | undefined {
    const text = this.target.get(CONTROL.mark);
    return text === null ? undefined : (JSON.parse(text) as Mark);
  }

  #lanes(): number {
    return this.target.inForce?.lanes ?? this.lanesFirst;
  }

  #checkpoints(): number[] {
    return CONTROL.checkpoints(this.#lanes()).map(
      (key) => parseCheckpoint(this.target.get(key) ?? '')?.seq ?? 0,
    );
  }

  #where(): string {
    const inForce = this.journal.inForce();
    const journal = inForce ? `${inForce.id} ${inForce.generation} head ${inForce.head}` : 'none';
    const identity = this.target.get(CONTROL.identity);
    return `checkpoints ${this.#checkpoints()}, mark ${JSON.stringify(this.#mark())} of ${this.log.total}, journal ${journal}, identity ${identity}, relane ${this.relaneTo}`;
  }
}

export function simulate(seed: number, options: SimOptions = {}): { steps: number; executions: number } {
  return new World(seed, options).run();
}
