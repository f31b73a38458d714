import { FAULTS } from './faults.ts';
import { Violation } from './sim-target.ts';
import { CHAOS_STEPS, ENTRIES_MAX, type SimOptions, simulate } from './world.ts';

/** Seeds that are tried for a smaller history: another size is another history, also under the same seed. */
const SEEDS_TRIED = 300;
const TRACE_LINES = 60;

export interface Failure {
  readonly seed: number;
  readonly options: SimOptions;
  readonly message: string;
  readonly invariant: string;
}

/** How a history fails; undefined when it does not. */
export function failureOf(seed: number, options: SimOptions): Failure | undefined {
  try {
    simulate(seed, options);
    return undefined;
  } catch (error) {
    const invariant = error instanceof Violation ? error.invariant : 'error';
    return { seed, options, message: String(error), invariant };
  }
}

export function firstFailure(from: number, count: number, options: SimOptions = {}): Failure | undefined {
  for (let seed = from; seed < from + count; seed++) {
    const failure = failureOf(seed, options);
    if (failure) return failure;
  }
  return undefined;
}

/** A history that breaks the same invariant with as few entries, steps and kinds of faults as can be found. */
export function shrink(failure: Failure): Failure {
  let smallest = failure;
  for (let better = true; better; ) {
    better = false;
    for (const options of smallerThan(smallest.options)) {
      const found = failureLike(failure, options);
      if (!found) continue;
      smallest = found;
      better = true;
      break;
    }
  }
  return smallest;
}

export function traceOf({ seed, options }: Failure): string {
  const lines: string[] = [];
  const failed = failureOf(seed, { ...options, trace: (line) => lines.push(line) });
  return [...lines.slice(-TRACE_LINES), failed?.message ?? 'did not fail again'].join('\n  ');
}

export function describe({ seed, options }: Failure): string {
  const { entriesMax = ENTRIES_MAX, chaosSteps = CHAOS_STEPS, faults = FAULTS } = options;
  return `seed ${seed}, at most ${entriesMax} entries, ${chaosSteps} steps, faults: ${[...faults].join(', ') || 'none'}`;
}

function failureLike(failure: Failure, options: SimOptions): Failure | undefined {
  for (let seed = failure.seed; seed < failure.seed + SEEDS_TRIED; seed++) {
    const found = failureOf(seed, options);
    if (found?.invariant === failure.invariant) return found;
  }
  return undefined;
}

function* smallerThan(options: SimOptions): Generator<SimOptions> {
  const { entriesMax = ENTRIES_MAX, chaosSteps = CHAOS_STEPS, faults = new Set(FAULTS) } = options;
  for (const fault of faults)
    yield { ...options, faults: new Set([...faults].filter((one) => one !== fault)) };
  for (const fewer of [entriesMax >> 1, entriesMax - 1])
    if (fewer > 0) yield { ...options, entriesMax: fewer };
  for (const fewer of [chaosSteps >> 1, chaosSteps - 20])
    if (fewer > 0) yield { ...options, chaosSteps: fewer };
}
