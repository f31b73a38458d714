import { setTimeout as delay } from 'node:timers/promises';
import type { Guards } from './guards.ts';
import type { Scene } from './scene.ts';

/** What a fault has at hand. */
export interface Stage {
  readonly scene: Scene;
  readonly guards: Guards;
  /** Seeded, 0 to 1. */
  readonly next: () => number;
}

export interface Fault {
  readonly name: string;
  /**
   * Does the damage and takes back what a fault takes back. True if it certainly hit: what it needed was there, and what
   * it waits for happened.
   */
  readonly run: (stage: Stage) => Promise<boolean>;
}

export function pick<T>(list: readonly T[], next: () => number): T | undefined {
  return list[Math.floor(next() * list.length)];
}

/** A while between the two, in ms. */
export async function between(next: () => number, minMs: number, maxMs: number): Promise<void> {
  await delay(minMs + next() * (maxMs - minMs));
}
