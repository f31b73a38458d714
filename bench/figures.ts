export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const above = sorted[Math.floor(sorted.length / 2)];
  const below = sorted[Math.ceil(sorted.length / 2) - 1];
  if (above === undefined || below === undefined) throw new Error('no values');
  return (above + below) / 2;
}

/** Nearest rank; `percent` in (0, 100]. */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error('no values');
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((percent / 100) * sorted.length) - 1)] as number;
}

/** The run in the middle, whole, so that its figures belong together. */
export function medianRun<T>(runs: readonly T[], by: (run: T) => number): T {
  const sorted = [...runs].sort((a, b) => by(a) - by(b));
  const middle = sorted[Math.ceil(sorted.length / 2) - 1];
  if (middle === undefined) throw new Error('no runs');
  return middle;
}

/** Distribution of a duration, ms. */
export interface Spread {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly meanMs: number;
}

export function spreadOf(valuesMs: readonly number[]): Spread {
  return {
    count: valuesMs.length,
    p50Ms: percentile(valuesMs, 50),
    p99Ms: percentile(valuesMs, 99),
    maxMs: Math.max(...valuesMs),
    meanMs: valuesMs.reduce((sum, value) => sum + value, 0) / valuesMs.length,
  };
}

/** Seeded (mulberry32), so that every run on every machine has the same workload. In [0, 1). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const NOT_OURS = ['target', 'source', "source's snapshot", 'elsewhere'];

/** Of lanegate's processes and its queue's server, AOF rewrites included. */
export function ownCpuUs(cpuUs: Readonly<Record<string, number>>): number {
  return Object.entries(cpuUs).reduce((sum, [label, us]) => sum + (NOT_OURS.includes(label) ? 0 : us), 0);
}
