import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { until } from '../support/faults.ts';
import type { LogGuard } from './crew.ts';
import { CUT_AFTER_EXEC } from './network-faults.ts';
import { LOCK_MS, NAME, PREFIX, Scene } from './scene.ts';

// How often each guard fired: from the pipeline's counters, from the workers' logs, and from what can be seen of gates
// whose runner died. The counters live in the queue's Redis, which loses them in half of the faults: what is added up
// here are the steps upward that a look four times a second has seen, so that each figure is a lower bound.

const LOOK_MS = 250;
const GATE_MS_MAX = 15_000;
const COUNTERS = ['applied', 'gates', 'fenced', 'duplicatesDropped', 'retries', 'unverified'] as const;
/** Nothing in the workload is refused by a target that holds what the source held. */
const NEVER = ['divergences', 'deadLettered'] as const;

type Counter = (typeof COUNTERS)[number] | (typeof NEVER)[number];
type GateGuard = 'gateTakenOver' | 'gateFoundClosed' | 'gatePauseLifted';
export type Guard = Counter | LogGuard | GateGuard;

/** A guard, the faults that must make it fire, and how many of those hits are certainly enough. */
const EXPECTED: readonly { guard: Guard; faults: readonly string[]; enough: number }[] = [
  { guard: 'fenced', faults: ['zombie at between-multi-and-exec', 'zombie at before-commit'], enough: 2 },
  { guard: 'duplicatesDropped', faults: ['queue emptied', 'queue replaced by an empty one'], enough: 5 },
  { guard: 'retries', faults: ['target killed', 'target out of memory', 'target read-only'], enough: 1 },
  { guard: 'unverified', faults: ['killed at after-exec-before-reply', CUT_AFTER_EXEC], enough: 2 },
  { guard: 'journalMadeAnew', faults: ['queue emptied', 'queue replaced by an empty one'], enough: 1 },
  { guard: 'jobsTakenOver', faults: ['worker killed', 'all workers killed'], enough: 4 },
  { guard: 'ingestFenced', faults: ['zombie at before-commit'], enough: 2 },
  {
    // Only where something that was accounted for was lost: 10 of 18 hits and more, at a Pika's log fewer.
    guard: 'rollbackNoticed',
    faults: ['target failed over to a lagging replica', 'target power loss'],
    enough: 15,
  },
  { guard: 'waitedForTarget', faults: ['target killed', 'target refuses the password'], enough: 4 },
  { guard: 'gateTakenOver', faults: ['killed at gate-after-pause'], enough: 2 },
  { guard: 'gateFoundClosed', faults: ['killed at gate-after-exec'], enough: 2 },
  {
    guard: 'gatePauseLifted',
    faults: ['killed at gate-after-pause', 'killed at gate-after-exec'],
    enough: 2,
  },
];
/** In a run without faults none of them has anything to do. */
const QUIET: readonly Guard[] = [
  'fenced',
  'duplicatesDropped',
  'unverified',
  'journalMadeAnew',
  'holesFound',
  'jobsTakenOver',
  'ingestFenced',
  'rollbackNoticed',
];
/** They fire as well when a process gets no processor for longer than its lock. */
const TIMED: readonly Guard[] = ['fenced', 'jobsTakenOver', 'ingestFenced'];
/** So late is this process only where others may be late by more than a lock. */
const LATE_MS = LOCK_MS / 5;

export interface AbandonedGate {
  readonly owner: string;
  readonly seq: number;
  readonly lanes: readonly number[];
  /** It had taken effect when its runner died. */
  readonly closed: boolean;
}

export class Guards implements AsyncDisposable {
  readonly #scene: Scene;
  readonly #redis: Redis;
  readonly #fired = new Map<Guard, number>();
  readonly #last = new Map<string, number>();
  readonly #abort = new AbortController();
  #lateMsMax = 0;
  readonly #looking: Promise<void>;

  constructor(scene: Scene) {
    this.#scene = scene;
    this.#redis = Scene.direct(scene.queue);
    this.#looking = this.#keepLooking();
  }

  fired(): Map<Guard, number> {
    const all = new Map<Guard, number>(this.#fired);
    for (const [guard, count] of this.#scene.crew.guards()) all.set(guard, count);
    return all;
  }

  /** What should have fired and did not, by the faults that hit; and what must never happen. */
  problems(hits: ReadonlyMap<string, number>): string[] {
    const fired = this.fired();
    const found = NEVER.filter((name) => (fired.get(name) ?? 0) > 0).map(
      (name) => `${name}: ${fired.get(name)}`,
    );
    for (const { guard, faults, enough } of EXPECTED) {
      const sum = faults.reduce((total, name) => total + (hits.get(name) ?? 0), 0);
      if (sum >= enough && (fired.get(guard) ?? 0) === 0)
        found.push(
          `the guard ${guard} never fired, though its faults hit ${sum} times: ${faults.join(', ')}`,
        );
    }
    return found;
  }

  /** Guards that fired although nothing was wrong. */
  restless(): string[] {
    const fired = this.fired();
    // Each full sync of a live source, the first one too, begins the journal anew.
    fired.set('journalMadeAnew', (fired.get('journalMadeAnew') ?? 0) - (fired.get('fullSyncs') ?? 0));
    const quiet = this.#lateMsMax < LATE_MS ? QUIET : QUIET.filter((name) => !TIMED.includes(name));
    return quiet
      .filter((name) => (fired.get(name) ?? 0) > 0)
      .map((name) => `${name} fired ${fired.get(name)} times in the run without faults`);
  }

  /** The gate whose runner has just died with its lanes paused. */
  async abandonedGate(scene: Scene): Promise<AbandonedGate | undefined> {
    const pauses = await this.#redis.hkeys(`${PREFIX}:pauses`).catch(() => []);
    const mine = pauses
      .map((field) => /^lane-(\d+)\|(gate:.*:(\d+))$/.exec(field))
      .filter((found) => found !== null);
    const owner = mine[0]?.[2];
    if (owner === undefined) return undefined;
    const lanes = mine.filter((found) => found[2] === owner).map((found) => Number(found[1]));
    const seq = Number(mine[0]?.[3]);
    const closed = await passed(scene, { lanes, seq }).catch(() => undefined);
    return closed === undefined ? undefined : { owner, seq, lanes, closed };
  }

  /** Counts what somebody else does about it; nothing if the gate is gone with its journal. */
  async gateGoesOn(scene: Scene, gate: AbandonedGate): Promise<void> {
    const lifted = until(
      'the pause is lifted',
      async () => {
        const fields = await this.#redis.hkeys(`${PREFIX}:pauses`);
        return fields.every((field) => !field.endsWith(`|${gate.owner}`));
      },
      GATE_MS_MAX,
    );
    await lifted.then(
      () => this.#add('gatePauseLifted', 1),
      () => {},
    );
    await until('its lanes have passed it', () => passed(scene, gate), GATE_MS_MAX).then(
      () => this.#add(gate.closed ? 'gateFoundClosed' : 'gateTakenOver', 1),
      () => {},
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#looking;
    this.#redis.disconnect();
  }

  async #keepLooking(): Promise<void> {
    while (!this.#abort.signal.aborted) {
      await this.look().catch(() => {});
      const beganMs = performance.now();
      await delay(LOOK_MS, undefined, { signal: this.#abort.signal }).catch(() => {});
      this.#lateMsMax = Math.max(this.#lateMsMax, performance.now() - beganMs - LOOK_MS);
    }
  }

  async look(): Promise<void> {
    const now = await this.#redis.hgetall(`${PREFIX}:counters`);
    for (const name of [...COUNTERS, ...NEVER]) {
      const value = Number(now[name] ?? 0);
      this.#add(name, Math.max(0, value - (this.#last.get(name) ?? 0)));
      this.#last.set(name, value);
    }
  }

  #add(guard: Guard, by: number): void {
    this.#fired.set(guard, (this.#fired.get(guard) ?? 0) + by);
  }
}

async function passed(scene: Scene, gate: Pick<AbandonedGate, 'lanes' | 'seq'>): Promise<boolean> {
  const keys = gate.lanes.map((lane) => `lanegate:${NAME}:ck:${lane}`);
  const values = await scene.target.client().mget(...keys);
  return values.every((value) => Number(value?.split(':')[1] ?? 0) >= gate.seq);
}
