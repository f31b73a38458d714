// npm run simulate [-- --seeds 10000] [--from 1]: random histories of the protocol; a failing one is made smaller.

import { parseArgs } from 'node:util';
import type { Mutant } from './faults.ts';
import { describe, failureOf, shrink, traceOf } from './shrink.ts';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    /** One of the deliberate faults of world.ts: to see what a failure looks like. */
    mutant: { type: 'string' },
  },
});
const seeds = Number(values.seeds);
const from = Number(values.from);
const mutant = values.mutant as Mutant | undefined;

const startedMs = performance.now();
let done = 0;
let failure: ReturnType<typeof failureOf>;
while (done < seeds && !failure) failure = failureOf(from + done++, { mutant });
const seconds = (performance.now() - startedMs) / 1_000;
console.log(`${done} histories in ${seconds.toFixed(1)} s, ${Math.round(done / seconds)} a second`);
if (failure) {
  console.log(`failed: ${describe(failure)}\n  ${failure.message}`);
  const smaller = shrink(failure);
  console.log(`smaller: ${describe(smaller)}\n  ${traceOf(smaller)}`);
  process.exitCode = 1;
}
