import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { lanegate } from '../support/cli.ts';
import { random } from '../support/workload.ts';
import type { Fault, Stage } from './fault.ts';
import { Feed } from './feed.ts';
import { Guards } from './guards.ts';
import { HALF_OPEN, networkFaults } from './network-faults.ts';
import { keptApart, pikaFaults } from './pika-faults.ts';
import { processFaults, resumeAll } from './process-faults.ts';
import { Scene, type SourceKind } from './scene.ts';
import { serverFaults } from './server-faults.ts';
import { type Verdict, Verifier } from './verify.ts';

// A run is a round without faults and then rounds with them, all on one pipeline that is never begun anew. A round: load
// and faults for a while; quiet, in which the lag must reach 0 by itself within a bound; the verdict on every key.
//
// Two hands deal faults at the same time, each from its own shuffled deck, so that each fault comes before any comes
// twice: one hand is busy with processes and operators, the other with servers and the network. What a seed fixes is the
// order of the faults, their parameters and the workload; not how they meet.

/** Locks, stalled checks and the longest backoff (30 s, of a refused password) are over by then. */
const QUIET_MS_MAX = 90_000;
/** A connection that is half-open is given up after 15 s at the queue, 30 s at the target, 120 s inside a gate. */
const QUIET_HALF_OPEN_MS_MAX = 180_000;
const REST_MS = 700;

export interface ChaosOptions {
  readonly seed: number;
  readonly source: SourceKind;
  readonly workers: number;
  readonly lanes: number;
  readonly controlMs: number;
  readonly roundMs: number;
  /** Rounds with faults begin until then; one in any case. */
  readonly totalMs: number;
  /** Only these; all without it. */
  readonly only?: readonly string[] | undefined;
  readonly say: (text: string) => void;
}

export interface ChaosReport {
  readonly seed: number;
  readonly source: SourceKind;
  readonly seconds: number;
  readonly rounds: number;
  readonly commands: number;
  /** Of them, those that the verifier has run by itself; 0 for a live source, which is asked. */
  readonly replayed: number;
  readonly keys: number;
  readonly lost: number;
  readonly duplicated: number;
  readonly quietMsMax: number;
  readonly faults: Readonly<Record<string, { readonly used: number; readonly hit: number }>>;
  readonly guards: Readonly<Record<string, number>>;
  /** Empty when every promise was kept. */
  readonly problems: readonly string[];
  readonly notDone: readonly string[];
}

export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  await using scene = await Scene.start(options);
  await using feed = await Feed.create(scene, options.seed);
  await using verifier = await Verifier.create(scene);
  await using guards = new Guards(scene);
  return await new Chaos(options, { scene, feed, verifier, guards }).run();
}

interface Parts {
  readonly scene: Scene;
  readonly feed: Feed;
  readonly verifier: Verifier;
  readonly guards: Guards;
}

class Chaos {
  readonly #options: ChaosOptions;
  readonly #parts: Parts;
  readonly #used = new Map<string, number>();
  readonly #hits = new Map<string, number>();
  readonly #problems: string[] = [];
  readonly #hands: readonly Hand[];
  #rounds = 0;
  #lost = 0;
  #duplicated = 0;
  #keys = 0;
  #replayed = 0;
  #quietMsMax = 0;
  #halfOpen = false;

  constructor(options: ChaosOptions, parts: Parts) {
    this.#options = options;
    this.#parts = parts;
    const wanted = ({ name }: Fault) => options.only?.includes(name) ?? true;
    const { scene } = parts;
    const others = [...serverFaults(scene), ...networkFaults(scene), ...pikaFaults(scene)];
    this.#hands = keptApart([processFaults().filter(wanted), others.filter(wanted)], scene)
      .map((faults, at) => new Hand(faults, random(options.seed * 1_000 + at)))
      .filter((hand) => !hand.empty);
  }

  async run(): Promise<ChaosReport> {
    const { controlMs, roundMs, totalMs } = this.#options;
    const { scene, guards } = this.#parts;
    const beganMs = performance.now();
    scene.crew.topUp();
    await this.#round(controlMs, []);
    this.#problems.push(...guards.restless());
    const goesOn = () => this.#rounds === 1 || performance.now() - beganMs < totalMs;
    while (this.#problems.length === 0 && goesOn()) await this.#round(roundMs, this.#hands);
    this.#problems.push(...guards.problems(this.#hits));
    return this.#report((performance.now() - beganMs) / 1_000);
  }

  async #round(ms: number, hands: readonly Hand[]): Promise<void> {
    const { scene, feed, guards } = this.#parts;
    this.#halfOpen = false;
    feed.start();
    const untilMs = performance.now() + ms;
    if (hands.length === 0) await delay(ms);
    await Promise.all(hands.map((hand) => this.#deal(hand, untilMs)));
    await feed.stop();
    await scene.heal();
    await resumeAll(scene);
    const quietMs = await this.#quiet();
    await guards.look();
    this.#problems.push(...scene.crew.unexpected, ...(scene.pika?.complaints ?? []));
    if (quietMs === undefined) return;
    this.#judge(await this.#parts.verifier.verify());
    this.#options.say(
      `round ${this.#rounds}: ${feed.commands} commands so far, lag 0 after ${Math.round(quietMs)} ms, ` +
        `${this.#keys} keys compared, ${this.#problems.length} problems`,
    );
    this.#rounds++;
  }

  async #deal(hand: Hand, untilMs: number): Promise<void> {
    const { scene, guards } = this.#parts;
    const stage: Stage = { scene, guards, next: hand.next };
    while (performance.now() < untilMs) {
      const fault = hand.deal();
      if (fault.name.endsWith(HALF_OPEN)) this.#halfOpen = true;
      let hit = false;
      try {
        hit = await fault.run(stage);
      } catch (error) {
        // The other hand may have taken away what this fault needs.
        this.#options.say(`${fault.name}: ${error instanceof Error ? error.message.split('\n')[0] : error}`);
      }
      this.#used.set(fault.name, (this.#used.get(fault.name) ?? 0) + 1);
      if (hit) this.#hits.set(fault.name, (this.#hits.get(fault.name) ?? 0) + 1);
      await delay(hand.next() * REST_MS);
    }
  }

  /** How long it took until everything was applied. */
  async #quiet(): Promise<number | undefined> {
    const { scene } = this.#parts;
    const boundMs = this.#halfOpen ? QUIET_HALF_OPEN_MS_MAX : QUIET_MS_MAX;
    const beganMs = performance.now();
    const seconds = String(Math.ceil(boundMs / 1_000));
    const wait = ['status', '--wait', '--timeout', seconds, ...scene.urls];
    const { code, stderr } = await lanegate(wait, { endMsMax: boundMs + 20_000 });
    const tookMs = performance.now() - beganMs;
    if (code !== 0) {
      const status = await lanegate(['status', ...scene.urls]);
      this.#problems.push(`the lag did not reach 0: ${stderr}\n${status.stdout}\n${scene.crew.logs()}`);
      return undefined;
    }
    this.#quietMsMax = Math.max(this.#quietMsMax, tookMs);
    return tookMs;
  }

  #judge({ differences, lost, duplicated, keys, replayed }: Verdict): void {
    this.#replayed += replayed;
    this.#lost += lost;
    this.#duplicated += duplicated;
    this.#keys = keys;
    if (keys === 0) this.#problems.push('nothing was compared: there is no key');
    if (differences.length === 0) return;
    const shown = differences.slice(0, 10).join('\n  ');
    this.#problems.push(`${differences.length} keys differ in round ${this.#rounds}:\n  ${shown}`);
  }

  #report(seconds: number): ChaosReport {
    const { scene, feed, guards } = this.#parts;
    const faults = [...this.#used].sort(([a], [b]) => (a < b ? -1 : 1));
    return {
      seed: this.#options.seed,
      source: this.#options.source,
      seconds: Math.round(seconds),
      rounds: this.#rounds,
      commands: feed.commands,
      replayed: this.#replayed,
      keys: this.#keys,
      lost: this.#lost,
      duplicated: this.#duplicated,
      quietMsMax: Math.round(this.#quietMsMax),
      faults: Object.fromEntries(
        faults.map(([name, used]) => [name, { used, hit: this.#hits.get(name) ?? 0 }]),
      ),
      guards: Object.fromEntries(guards.fired()),
      problems: this.#problems,
      notDone: scene.diskOf(scene.queue) ? [] : ['full disks: this process may not mount a file system'],
    };
  }
}

/** Deals all of its faults in a random order, and then again. */
class Hand {
  readonly next: () => number;
  readonly #faults: readonly Fault[];
  #deck: Fault[] = [];

  constructor(faults: readonly Fault[], next: () => number) {
    this.#faults = faults;
    this.next = next;
  }

  get empty(): boolean {
    return this.#faults.length === 0;
  }

  deal(): Fault {
    if (this.#deck.length === 0) this.#deck = [...this.#faults];
    return this.#deck.splice(Math.floor(this.next() * this.#deck.length), 1)[0] as Fault;
  }
}
