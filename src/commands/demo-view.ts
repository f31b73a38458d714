import type { Writable } from 'node:stream';
import type { Divergence } from '../demo/outcome.ts';
import { COMMANDS_PER_ROUND } from '../demo/workload.ts';
import { formatCount } from './format.ts';

const PROGRESS_MS = 1_000;
const LABEL_WIDTH = 24;
const START_OF_LINE = '\r\u001b[K';

export interface DemoResult {
  readonly rounds: number;
  readonly naive: Divergence & { readonly ms: number };
  readonly lanegate: Divergence & { readonly ms: number; readonly gates: number; readonly kills: number };
  /** All of it, with starting the servers and comparing. */
  readonly seconds: number;
}

/** The demo for people, told while it happens. */
export class DemoStory {
  readonly #out: Writable;
  readonly #total: number;

  constructor(out: Writable, rounds: number) {
    this.#out = out;
    this.#total = rounds * COMMANDS_PER_ROUND;
  }

  begin(rounds: number, lanes: number): void {
    this.#out.write(`
A replica that applies a log in parallel lanes chooses the lane by the key. FLUSHDB has none: it races the others. With
    SET key1 a1    SET key1 a2    FLUSHDB    SET key1 a3
the source ends with key1 = a3, the replica sometimes without key1, and nothing reports an error.

The log: ${formatCount(rounds)} rounds of this among other traffic, ${formatCount(this.#total)} commands. Lanes: ${lanes}.

`);
  }

  phase(label: string): Phase {
    return new Phase(this.#out, label, this.#total);
  }

  end({ rounds, naive, lanegate, seconds }: DemoResult): void {
    const rows = [
      ['', 'diverged rounds', 'key1 wrong', 'gates', 'kills', 'seconds'],
      ['lanes without a gate', naive.rounds, naive.key1, '-', '-', (naive.ms / 1000).toFixed(1)],
      [
        'lanegate',
        lanegate.rounds,
        lanegate.key1,
        lanegate.gates,
        lanegate.kills,
        (lanegate.ms / 1000).toFixed(1),
      ],
    ].map(([label = '', ...cells]) => `  ${String(label).padEnd(LABEL_WIDTH)}${cells.map(cell).join('')}`);
    const verdict =
      lanegate.rounds === 0
        ? `lanegate ended exactly as the commands run one by one, in all ${formatCount(rounds)} rounds (${seconds} s in all).`
        : `lanegate DIVERGED in ${formatCount(lanegate.rounds)} rounds: a defect, please report it.`;
    const legend = 'A round diverged when anything that it left differs; key1 wrong is the example above.';
    this.#out.write(`\n${rows.join('\n')}\n\n${legend}\n${verdict}\n`);
  }

  serving(board: string | undefined, hints: readonly string[]): void {
    const where = board === undefined ? '' : `Board: ${board}\n`;
    this.#out.write(`\n${where}Live traffic goes on until Ctrl-C. Meanwhile:\n`);
    for (const hint of hints) this.#out.write(`  ${hint}\n`);
  }

  say(text: string): void {
    this.#out.write(`${text}\n`);
  }
}

/** One way of applying the log, with its rate while it runs. */
export class Phase {
  readonly #out: Writable;
  readonly #label: string;
  readonly #total: number;
  readonly #redraws: boolean;
  readonly #beganMs = performance.now();
  #saidMs = performance.now();
  #saidApplied = 0;

  constructor(out: Writable, label: string, total: number) {
    this.#out = out;
    this.#label = label;
    this.#total = total;
    this.#redraws = (out as { isTTY?: boolean }).isTTY === true;
  }

  progress(applied: number): void {
    const nowMs = performance.now();
    const ms = nowMs - this.#saidMs;
    if (ms < PROGRESS_MS) return;
    const rate = ((applied - this.#saidApplied) / ms) * 1000;
    this.#saidMs = nowMs;
    this.#saidApplied = applied;
    const done = `${formatCount(applied)} of ${formatCount(this.#total)} commands`;
    this.#write(`${done}, ${formatCount(Math.max(0, rate))}/s`, this.#redraws ? '' : '\n');
  }

  note(text: string): void {
    this.#write(text, '\n');
  }

  #write(text: string, end: string): void {
    const start = this.#redraws ? START_OF_LINE : '';
    this.#out.write(`${start}  ${this.#label.padEnd(LABEL_WIDTH)}${text}${end}`);
  }

  /** Returns how long it took, ms. */
  end(): number {
    const ms = performance.now() - this.#beganMs;
    this.note(`done in ${(ms / 1000).toFixed(1)} s, ${formatCount((this.#total / ms) * 1000)} commands/s`);
    return ms;
  }
}

function cell(value: string | number): string {
  return (typeof value === 'number' ? formatCount(value) : value).padStart(17);
}
