// One `lanegate worker` as a child process.

import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { packageRoot } from '../src/runtime/package.ts';
import { say } from './say.ts';

const STOP_MS_MAX = 20_000;

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export class WorkerProcess {
  readonly label: string;
  readonly #child: ChildProcess;
  readonly #dir: string;
  readonly #exited: Promise<void>;
  /** How it ended; undefined while it runs. */
  ended: string | undefined;

  constructor(label: string, args: readonly string[], nodeArgs: readonly string[]) {
    this.label = label;
    this.#dir = mkdtempSync(join(tmpdir(), 'lanegate-bench-'));
    const log = openSync(this.#logPath(), 'a');
    this.#child = spawn(process.execPath, [...nodeArgs, join(packageRoot(), 'bin/lanegate.js'), ...args], {
      stdio: ['ignore', log, log],
      cwd: packageRoot(),
    });
    closeSync(log);
    running.add(this.#child);
    this.#exited = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => {
        running.delete(this.#child);
        this.ended = `ended with ${signal ?? `code ${code}`}`;
        resolve();
      });
    });
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`worker ${this.label} was not started`);
    return this.#child.pid;
  }

  /** SIGSTOP: its connections stay open and nothing moves. */
  pause(): void {
    process.kill(this.pid, 'SIGSTOP');
  }

  resume(): void {
    process.kill(this.pid, 'SIGCONT');
  }

  log(): string {
    return `${this.label}: ${readFileSync(this.#logPath(), 'utf8').slice(-4_000)}`;
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGTERM');
    const abort = new AbortController();
    const late = delay(STOP_MS_MAX, 'late', { signal: abort.signal }).catch(() => 'stopped');
    if ((await Promise.race([this.#exited, late])) === 'late') {
      say(`worker ${this.label} did not end within ${STOP_MS_MAX / 1000} s of SIGTERM: killed`);
      this.#child.kill('SIGKILL');
      await this.#exited;
    }
    abort.abort();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  #logPath(): string {
    return join(this.#dir, 'worker.log');
  }
}
