import type { Drain } from './drain.ts';
import type { Gates } from './gates.ts';
import type { Growth } from './growth.ts';
import type { Latency } from './latency.ts';
import type { Machine } from './machine.ts';
import type { Mix } from './mix.ts';
import type { Replication } from './replication.ts';

/** What `--json` prints; a part that was not asked for is missing. */
export interface Results {
  readonly machine: Machine;
  readonly runs: number;
  readonly commands: number;
  readonly nodeArgs: readonly string[];
  readonly workerArgs: readonly string[];
  /** Parts that could not be measured, with the reason. */
  readonly failures: string[];
  ceiling?: { readonly perSecond: number; readonly perSecondOfRuns: readonly number[] };
  drain?: { readonly oneWorker: Drain; twoWorkers?: Drain };
  byRole?: Drain;
  /** At each of its rates. */
  latency?: readonly Latency[];
  gates?: Gates;
  mix?: Mix;
  growth?: Growth;
  full?: Replication;
  incremental?: Replication;
  /** The drain after a pause of the applier. */
  pause?: Replication;
}
