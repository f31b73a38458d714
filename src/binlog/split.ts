// Commands that are no more than a loop over their keys: each lane can take its own share of them.

import { laneOf, slotOf } from './lane-map.ts';

export type Splittable = 'MSET' | 'DEL' | 'UNLINK' | 'TOUCH';

export interface LanePart {
  readonly lane: number;
  readonly args: Buffer[];
}

/** Parts in the order in which their lanes first appear; within a part the order of the command. */
export function splitByLane(args: readonly Buffer[], name: Splittable, lanes: number): LanePart[] {
  const step = name === 'MSET' ? 2 : 1;
  const parts = new Map<number, LanePart>();
  for (let i = 1; i < args.length; i += step) {
    const key = args[i] as Buffer;
    const lane = laneOf(slotOf(key, 0, key.length), lanes);
    let part = parts.get(lane);
    if (part === undefined) {
      part = { lane, args: [args[0] as Buffer] };
      parts.set(lane, part);
    }
    part.args.push(...args.slice(i, i + step));
  }
  return [...parts.values()];
}
