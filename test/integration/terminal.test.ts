import { type ChildProcess, spawn } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/runtime/package.ts';
import { lanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { RedisServer } from '../support/redis-server.ts';

// What a person sees and types: the commands run on a pseudo-terminal, which script(1) of util-linux makes.

const CTRL_C = '\u0003';
const CTRL_D = '\u0004';
const REDRAWN = '\u001b[H\u001b[J';

class Terminal implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number | null>;
  output = '';

  constructor(command: string, env: Record<string, string>) {
    const line = `stty cols 100 rows 40; exec '${process.execPath}' bin/lanegate.js ${command}`;
    const { PATH = '', HOME = '' } = process.env;
    this.#child = spawn('script', ['-qec', line, '/dev/null'], {
      cwd: packageRoot(),
      env: { PATH, HOME, TERM: 'xterm', ...env },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.output += text;
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('close', (code) => resolve(code));
    });
  }

  type(keys: string): void {
    this.#child.stdin?.write(keys);
  }

  async shows(text: string, times = 1): Promise<void> {
    await until(
      `the terminal shows ${JSON.stringify(text)}`,
      () => this.output.split(text).length > times,
    ).catch((cause: unknown) => {
      throw new Error(this.output, { cause });
    });
  }

  /** The exit code of the command. */
  async exit(): Promise<number | null> {
    return await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode === null) this.#child.kill('SIGKILL');
    await this.#ended;
  }
}

describe('on a terminal', () => {
  test('status --watch draws again and again, and Ctrl-C is its clean end', async () => {
    await using queue = await RedisServer.start({ args: ['--appendonly', 'yes'] });
    await using terminal = new Terminal('status --watch', { LANEGATE_QUEUE: queue.url });
    await terminal.shows(REDRAWN, 3);
    await terminal.shows('lanegate default: waiting', 3);
    terminal.type(CTRL_C);
    expect(await terminal.exit()).toBe(0);
    expect(terminal.output).not.toMatch(/Error|\n {4}at /);
  });

  test('reset asks: only the name of the pipeline is a yes; no, Ctrl-D and Ctrl-C remove nothing', async () => {
    await using target = await RedisServer.start();
    await using queue = await RedisServer.start({ args: ['--appendonly', 'yes'] });
    const env = { LANEGATE_TARGET: target.url, LANEGATE_QUEUE: queue.url };
    await target.client().set('lanegate:default:identity', 'x');
    await target.client().set('data', 'stays');
    for (const keys of ['no\r', 'yes\r', '\r', CTRL_D, CTRL_C]) {
      await using terminal = new Terminal('reset', env);
      await terminal.shows("type the pipeline's name (default)");
      terminal.type(keys);
      expect([JSON.stringify(keys), await terminal.exit()]).toEqual([JSON.stringify(keys), 1]);
      if (keys !== CTRL_C) expect(terminal.output).toContain('nothing was removed');
      expect(await target.client().exists('lanegate:default:identity')).toBe(1);
    }
    const piped = await lanegate(['reset'], { env, input: 'default\n' });
    expect([piped.code, piped.stderr]).toEqual([1, expect.stringContaining('elsewhere give --yes')]);
    expect(await target.client().exists('lanegate:default:identity')).toBe(1);

    await using terminal = new Terminal('reset', env);
    await terminal.shows("type the pipeline's name (default)");
    terminal.type('default\r');
    expect(await terminal.exit()).toBe(0);
    expect(await target.client().keys('*')).toEqual(['data']);
  });
});
