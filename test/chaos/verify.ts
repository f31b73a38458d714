import { compareServers, type DumpedKey, dumpAll } from '../support/compare.ts';
import { PikaReplay, type Replay, StreamReplay } from './replay.ts';
import type { Scene } from './scene.ts';

// What the target should hold, found out without a line of lanegate: a log is run on another server (replay.ts); a live
// source is the answer itself.

export interface Verdict {
  readonly differences: readonly string[];
  /** Elements of lists: unique ids, so that each that is missing was lost and each that is too many came twice. */
  readonly lost: number;
  readonly duplicated: number;
  /** Commands that the log held behind the last verdict; 0 for a live source. */
  readonly replayed: number;
  readonly keys: number;
}

export class Verifier implements AsyncDisposable {
  readonly #scene: Scene;
  readonly #replay: Replay | undefined;
  readonly #beganMs = Date.now();

  private constructor(scene: Scene, replay: Replay | undefined) {
    this.#scene = scene;
    this.#replay = replay;
  }

  static async create(scene: Scene): Promise<Verifier> {
    if (scene.pika) return new Verifier(scene, await PikaReplay.of(scene.pika));
    const isLive = scene.options.source === 'redis';
    return new Verifier(scene, isLive ? undefined : await StreamReplay.of(scene.redis));
  }

  async verify(): Promise<Verdict> {
    const replayed = (await this.#replay?.catchUp()) ?? 0;
    const [expected, target] = [(this.#replay ?? this.#scene.redis).url, this.#scene.target.url];
    // A deadline that the log gives as so many seconds began when it was logged, and here when it is replayed.
    const ttlToleranceMs = Date.now() - this.#beganMs + 2_000;
    const found = await compareServers(expected, target, { ttlToleranceMs });
    const [left, right] = await Promise.all([dumpAll(expected), dumpAll(target)]);
    const differences = found.map(({ db, key, what }) => `db ${db} ${key}: ${what}`);
    const keys = left.size;
    return { differences, ...surplus(left, right), replayed, keys };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#replay?.[Symbol.asyncDispose]();
  }
}

function surplus(
  left: ReadonlyMap<string, DumpedKey>,
  right: ReadonlyMap<string, DumpedKey>,
): { lost: number; duplicated: number } {
  const [expected, found] = [elements(left), elements(right)];
  let [lost, duplicated] = [0, 0];
  for (const element of new Set([...expected.keys(), ...found.keys()])) {
    const apart = (found.get(element) ?? 0) - (expected.get(element) ?? 0);
    if (apart < 0) lost -= apart;
    else duplicated += apart;
  }
  return { lost, duplicated };
}

function elements(dump: ReadonlyMap<string, DumpedKey>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [name, { type, value }] of dump) {
    if (type !== 'list' || name.includes(':lanegate:')) continue;
    for (const element of value) counts.set(element, (counts.get(element) ?? 0) + 1);
  }
  return counts;
}
