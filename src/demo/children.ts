import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

const LOG_TAIL_CHARS = 2_000;

/** A process of the demo; its output goes into a file. */
export class Child {
  readonly name: string;
  readonly exited: Promise<void>;
  readonly #process: ChildProcess;
  readonly #log: string;
  #ended: string | undefined;

  constructor(name: string, child: ChildProcess, log: string) {
    this.name = name;
    this.#process = child;
    this.#log = log;
    this.exited = new Promise((resolve) => {
      const end = (how: string) => {
        this.#ended ??= how;
        resolve();
      };
      child.once('exit', (code, signal) => end(signal ?? `exit code ${code}`));
      child.once('error', (error) => end(error.message));
    });
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  /** How it ended; undefined while it runs. */
  get ended(): string | undefined {
    return this.#ended;
  }

  get logTail(): string {
    return readFileSync(this.#log, 'utf8').slice(-LOG_TAIL_CHARS).trimEnd();
  }

  /** Returns when it is gone; SIGKILL follows a signal that does not end it within `graceMs`. */
  async end(signal: NodeJS.Signals, graceMs: number): Promise<void> {
    this.kill(signal);
    const timer = new AbortController();
    const late = delay(graceMs, undefined, { signal: timer.signal }).catch(() => {});
    await Promise.race([this.exited, late]);
    timer.abort();
    this.kill('SIGKILL');
    await this.exited;
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#ended === undefined) this.#process.kill(signal);
  }
}

/** Every process of one demo and its temporary folder. None of them outlives this process. */
export class Children {
  readonly dir = mkdtempSync(join(tmpdir(), 'lanegate-demo-'));
  readonly #all: Child[] = [];
  readonly #tiedTo = parentDeathCommand();
  readonly #onExit = (): void => {
    for (const child of this.#all) child.kill('SIGKILL');
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
  };

  constructor() {
    process.on('exit', this.#onExit);
  }

  spawn(name: string, command: string, args: readonly string[], env: NodeJS.ProcessEnv): Child {
    const [program = command, ...rest] = [...this.#tiedTo, command, ...args];
    const path = join(this.dir, `${name}.log`);
    const log = openSync(path, 'w', 0o600);
    try {
      // Detached: a Ctrl-C of the terminal reaches only us, and the servers live until the workers have drained.
      const spawned = spawn(program, rest, {
        cwd: this.dir,
        env,
        detached: true,
        stdio: ['ignore', log, log],
      });
      const child = new Child(name, spawned, path);
      this.#all.push(child);
      return child;
    } finally {
      closeSync(log);
    }
  }

  /** Kills what still runs and removes the folder. */
  async close(): Promise<void> {
    await Promise.all(this.#all.map((child) => child.end('SIGKILL', 0)));
    process.removeListener('exit', this.#onExit);
    rmSync(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** On Linux the kernel ends the children even when this process dies by SIGKILL and runs no exit handler. */
function parentDeathCommand(): readonly string[] {
  const known = process.platform === 'linux' && spawnSync('setpriv', ['--version']).status === 0;
  return known ? ['setpriv', '--pdeathsig', 'KILL'] : [];
}
