// Crossing commands among plain SETs, against plain SETs alone, all of the same length.

import { type Drain, drainRuns, ONE } from './drain.ts';
import { say } from './say.ts';
import type { Bench, Filled } from './support.ts';
import { fillMix, fillSets } from './workload.ts';

/** A shorter run would mostly measure how Node warms up. */
const SHARE_OF_DRAIN = 2;

export interface Mix {
  readonly plain: Drain;
  readonly onePercent: Drain;
  readonly thirtyPercent: Drain;
}

export async function mixRuns(bench: Bench): Promise<Mix> {
  const commands = Math.ceil(bench.settings.commands / SHARE_OF_DRAIN);
  say(`mixes of ${commands} commands`);
  return {
    plain: await drained(bench, await fillSets(bench, 'binlog-plain', commands)),
    onePercent: await drained(bench, await fillMix(bench, 'binlog-mix-1', commands, 0.01)),
    thirtyPercent: await drained(bench, await fillMix(bench, 'binlog-mix-30', commands, 0.3)),
  };
}

async function drained(bench: Bench, filled: Filled): Promise<Drain> {
  const drain = await drainRuns(bench, filled, ONE);
  await bench.source.client().del(filled.key);
  return drain;
}
