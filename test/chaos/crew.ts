import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { until } from '../support/faults.ts';
import { WorkerChild } from '../support/pipeline.ts';

const EXIT_MS_MAX = 15_000;
const TAIL_CHARS = 2_000;

/** What the logs say of guards at work. */
const LINES = {
  jobsTakenOver: /a job whose worker was lost is taken over/g,
  ingestFenced: /another ingest has taken over/g,
  journalMadeAnew: /the journal was made anew behind the low-water mark/g,
  holesFound: /the journal has holes/g,
  rollbackNoticed: /the target went back in time/g,
  waitedForTarget: /waiting for the target|the lane waits|the gate waits/g,
  fullSyncs: /the target's data is replaced/g,
} as const;

export type LogGuard = keyof typeof LINES;

/** The worker processes, and what becomes of them. Whoever dies without being told to is a finding. */
export class Crew {
  readonly size: number;
  readonly #args: readonly string[];
  readonly #dir: string;
  readonly #members = new Set<WorkerChild>();
  readonly #doomed = new Set<WorkerChild>();
  readonly #seen = new Map<LogGuard, number>();
  #made = 0;
  /** Exits that nobody asked for. */
  readonly unexpected: string[] = [];

  constructor(size: number, args: readonly string[], dir: string) {
    this.size = size;
    this.#args = args;
    this.#dir = dir;
  }

  get members(): readonly WorkerChild[] {
    return [...this.#members];
  }

  /** `failpoint`: it may die or stop there. */
  add(failpoint?: string): WorkerChild {
    const child = new WorkerChild(this.#args, join(this.#dir, `worker-${this.#made++}`), failpoint);
    this.#members.add(child);
    if (failpoint?.includes('=kill')) this.#doomed.add(child);
    child.process.once('close', () => this.#ended(child));
    return child;
  }

  /** As many as there should be. */
  topUp(): void {
    while (this.#members.size < this.size) this.add();
  }

  async kill(child: WorkerChild): Promise<void> {
    this.#doomed.add(child);
    await child.kill();
  }

  /** SIGTERM; its end must be clean. */
  async retire(child: WorkerChild): Promise<void> {
    // Before its first line of the log it has no handler of signals yet.
    await until('it has begun', () => /^\{/m.test(child.output) || !child.running).catch(() => {});
    if (!child.running) return;
    this.#doomed.add(child);
    child.signal('SIGCONT');
    child.signal('SIGTERM');
    const code = await Promise.race([child.exit(), delay(EXIT_MS_MAX, 'late' as const)]);
    // Where it was killed, somebody else has killed it.
    if (code === 0 || child.process.signalCode === 'SIGKILL') return;
    this.unexpected.push(`ended with ${code} after SIGTERM: ${child.output.slice(-TAIL_CHARS)}`);
    await child.kill();
  }

  guards(): Map<LogGuard, number> {
    const all = new Map(this.#seen);
    for (const { output } of this.#members) tally(all, output);
    return all;
  }

  logs(): string {
    return this.members
      .map(({ process, output }) => `--- ${process.pid}\n${output.slice(-TAIL_CHARS)}`)
      .join('\n');
  }

  async dispose(): Promise<void> {
    await Promise.all(this.members.map((child) => this.kill(child)));
  }

  #ended(child: WorkerChild): void {
    this.#members.delete(child);
    tally(this.#seen, child.output);
    if (this.#doomed.delete(child)) return;
    const { exitCode, signalCode } = child.process;
    this.unexpected.push(
      `ended by itself with ${signalCode ?? exitCode}: ${child.output.slice(-TAIL_CHARS)}`,
    );
  }
}

function tally(into: Map<LogGuard, number>, text: string): void {
  for (const [name, pattern] of Object.entries(LINES) as [LogGuard, RegExp][])
    into.set(name, (into.get(name) ?? 0) + (text.match(pattern)?.length ?? 0));
}
