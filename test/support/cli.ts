import { type ChildProcess, spawn } from 'node:child_process';
import { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { refuseLeaks } from './canary.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const BIN = fileURLToPath(new URL('../../bin/lanegate.js', import.meta.url));
const END_MS_MAX = 45_000;
/** Said while somebody edits the sources; no test is about it. */
const OLD_BUILD = /^lanegate: dist is older than the sources.*\n {2}npm run build\n/m;

export interface CliOptions {
  /** Added to an environment without LANEGATE_* of its own. */
  readonly env?: Readonly<Record<string, string>>;
  /** Standard input; empty without it. */
  readonly input?: string;
  readonly cwd?: string;
  /** How long `lanegate` waits for its end, ms. */
  readonly endMsMax?: number;
}

export interface CliResult {
  /** null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Verbs that are a process: they serve, start servers, or are asked how their process ends. */
const PROCESSES = new Set(['run', 'worker', 'board', 'demo']);

/**
 * Runs one command to its end: all of `main` but the process. A start of Node costs more than most commands do; how the
 * process behaves is tested with `spawnLanegate`.
 */
export async function lanegate(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  const { NODE_OPTIONS, LANEGATE_FAILPOINT } = options.env ?? {};
  const ownProcess = NODE_OPTIONS !== undefined || LANEGATE_FAILPOINT !== undefined;
  if (ownProcess || PROCESSES.has(args[0] ?? '')) return await lanegateProcess(args, options);
  const { runCommand } = await import('../../src/main.ts');
  const [out, err] = [new Collected(), new Collected()];
  const controller = new AbortController();
  const late = setTimeout(() => controller.abort(), options.endMsMax ?? END_MS_MAX);
  try {
    const code = await runCommand(args, {
      stdin: Readable.from([Buffer.from(options.input ?? '')]),
      stdout: out,
      stderr: err,
      signal: controller.signal,
      env: { ...withoutOurs(process.env), ...options.env },
      cwd: options.cwd ?? ROOT,
      logTo: err,
    });
    refuseLeaks(out.text + err.text, { args, ...options });
    return { code, signal: null, stdout: out.text, stderr: err.text };
  } finally {
    clearTimeout(late);
  }
}

class Collected extends Writable {
  readonly #chunks: Buffer[] = [];

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.#chunks.push(chunk);
    done();
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString('utf8');
  }
}

/** The same in a process of its own. */
export async function lanegateProcess(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  await using handle = spawnLanegate(args, options);
  return await handle.exit(options.endMsMax);
}

/** One process of lanegate; killed with the scope: `await using worker = spawnLanegate([...])`. */
export function spawnLanegate(args: readonly string[], options: CliOptions = {}): LanegateProcess {
  return new LanegateProcess(args, options);
}

export class LanegateProcess implements AsyncDisposable {
  readonly #args: readonly string[];
  readonly #child: ChildProcess;
  readonly #ended: Promise<CliResult>;
  #stdout = '';
  #stderr = '';
  #onOutput: (() => void)[] = [];
  #result: CliResult | undefined;

  constructor(args: readonly string[], options: CliOptions) {
    this.#args = args;
    this.#child = spawn(process.execPath, [BIN, ...args], {
      cwd: options.cwd ?? ROOT,
      env: { ...withoutOurs(process.env), ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    running.add(this.#child);
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      this.#tell();
    });
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#tell();
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', (code, signal) => {
        running.delete(this.#child);
        const stderr = this.#stderr.replace(OLD_BUILD, '');
        this.#result = { code, signal, stdout: this.#stdout, stderr };
        this.#tell();
        resolve(this.#result);
        // Outside of any promise: a test that does not look at the end fails all the same.
        refuseLeaks(this.#stdout + this.#stderr, { args, ...options });
      });
    });
    this.#child.stdin?.on('error', () => {});
    this.#child.stdin?.end(options.input ?? '');
  }

  get pid(): number {
    if (this.#child.pid === undefined) throw new Error('lanegate did not start');
    return this.#child.pid;
  }

  get stdout(): string {
    return this.#stdout;
  }

  get stderr(): string {
    return this.#stderr;
  }

  /** Sends a signal and returns when the process has ended. */
  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<CliResult> {
    this.#child.kill(signal);
    return await this.exit();
  }

  /** Sends a signal that does not end it (SIGSTOP, SIGCONT). */
  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Returns when the process has ended by itself. Fails, with its output, when it does not. */
  async exit(msMax = END_MS_MAX): Promise<CliResult> {
    return await this.#within(this.#ended, msMax, 'did not end');
  }

  /** The first line of either output that matches; fails when the process ends without it. */
  async waitForLine(pattern: RegExp, msMax = END_MS_MAX): Promise<string> {
    const find = () => `${this.#stdout}\n${this.#stderr}`.split('\n').find((line) => pattern.test(line));
    const found = new Promise<string>((resolve, reject) => {
      const look = () => {
        const line = find();
        if (line !== undefined) resolve(line);
        else if (this.#result !== undefined) reject(this.#failure(`ended without ${pattern}`));
        else this.#onOutput.push(look);
      };
      look();
    });
    return await this.#within(found, msMax, `wrote nothing like ${pattern}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#result === undefined) await this.kill('SIGKILL');
  }

  #tell(): void {
    const waiting = this.#onOutput;
    this.#onOutput = [];
    for (const look of waiting) look();
  }

  async #within<T>(promise: Promise<T>, ms: number, what: string): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(this.#failure(`${what} within ${ms} ms`)), ms);
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #failure(what: string): Error {
    const output = `standard output:\n${this.#stdout.slice(-4_000)}\nstandard error:\n${this.#stderr.slice(-4_000)}`;
    return new Error(`lanegate ${this.#args.join(' ')} ${what}\n${output}`);
  }
}

function withoutOurs(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(env).filter(([name]) => !/^(LANEGATE_(?!REDIS_SERVER)|NO_COLOR|FORCE_COLOR)/.test(name)),
  );
}
