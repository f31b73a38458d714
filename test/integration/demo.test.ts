import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, onTestFailed, test } from 'vitest';
import type { PipelineStatus } from '../../src/status.ts';
import { everyCase } from '../support/cases.ts';

const ROOT = new URL('../../', import.meta.url);
const WAIT_MS_MAX = 45_000;

/** A demo of its own temporary folder, by which its processes are told from everybody else's. */
class Demo implements AsyncDisposable {
  readonly dir: string;
  readonly #child: ReturnType<typeof spawn>;
  readonly #exited: Promise<unknown[]>;
  stdout = '';
  stderr = '';

  private constructor(dir: string, argv: readonly string[]) {
    this.dir = dir;
    this.#child = spawn(process.execPath, ['bin/lanegate.js', 'demo', ...argv], {
      cwd: ROOT,
      env: { PATH: process.env.PATH, TMPDIR: dir },
    });
    this.#exited = once(this.#child, 'exit');
    this.#child.stdout?.on('data', (text) => {
      this.stdout += text;
    });
    this.#child.stderr?.on('data', (text) => {
      this.stderr += text;
    });
    onTestFailed(() => console.log(this.stdout, this.stderr));
  }

  static async start(...argv: string[]): Promise<Demo> {
    return new Demo(await mkdtemp(join(tmpdir(), 'lanegate-demo-test-')), argv);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async exitCode(): Promise<unknown> {
    return (await this.#exited)[0];
  }

  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    return await eventually(() => {
      const found = pattern.exec(this.stdout);
      if (found === null && this.#child.exitCode !== null)
        throw new Error(`ended without printing ${pattern}`);
      return found ?? undefined;
    }, `${pattern} in the output`);
  }

  /** Servers and workers, told by their working directory. */
  async processes(): Promise<number[]> {
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
    const found = await Promise.all(
      pids.map(async (pid) => {
        const folder = await readlink(`/proc/${pid}/cwd`).catch(() => '');
        return folder.startsWith(this.dir) ? [Number(pid)] : [];
      }),
    );
    return found.flat();
  }

  async leftovers(): Promise<{ processes: number[]; files: string[] }> {
    return { processes: await this.processes(), files: await readdir(this.dir) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL');
    await this.#exited;
    for (const pid of await this.processes()) process.kill(pid, 'SIGKILL');
    await rm(this.dir, { recursive: true, force: true, maxRetries: 3 });
  }
}

async function eventually<T>(look: () => T | undefined | Promise<T | undefined>, what: string): Promise<T> {
  const deadline = Date.now() + WAIT_MS_MAX;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`no ${what} after ${WAIT_MS_MAX} ms`);
    await delay(25);
  }
}

const NOTHING = { processes: [], files: [] };

describe('lanegate demo', () => {
  test('ends as the commands one by one, although a worker is killed, and leaves nothing behind', async () => {
    await using demo = await Demo.start('--rounds', '60', '--json');
    await eventually(
      async () => ((await demo.processes()).length >= 7 ? true : undefined),
      'five servers, two workers',
    );
    expect(await demo.exitCode()).toBe(0);
    const result = JSON.parse(demo.stdout.trimEnd().split('\n').at(-1) ?? '');
    expect(result).toEqual({
      rounds: 60,
      naive: { divergedRounds: expect.any(Number) },
      lanegate: { divergedRounds: 0, gates: expect.any(Number), kills: 1 },
      seconds: expect.any(Number),
    });
    expect(result.lanegate.gates).toBeGreaterThanOrEqual(1);
    expect(demo.stderr).toContain('SIGKILL to worker');
    expect(await demo.leftovers()).toEqual(NOTHING);
  });

  test('with --serve goes on with the board and live traffic until SIGINT, its clean end', async () => {
    await using demo = await Demo.start('--rounds', '5', '--lanes', '3', '--serve', '--board-port', '17070');
    const [, url] = await demo.printed(/Board: (http:\S+)/);
    const applied = async () => {
      const status = (await (await fetch(`${url}/api/status`)).json()) as PipelineStatus;
      return status.counters.applied;
    };
    const before = await applied();
    await eventually(async () => ((await applied()) > before + 100 ? true : undefined), 'live traffic');
    const [, pid] = await demo.printed(/kill -9 (\d+)/);
    process.kill(Number(pid), 'SIGKILL');
    await demo.printed(new RegExp(`worker ${pid} is gone \\(SIGKILL\\)`));
    demo.kill('SIGINT');
    expect(await demo.exitCode()).toBe(0);
    expect(await demo.leftovers()).toEqual(NOTHING);
  });

  everyCase('a demo that is interrupted early, or killed, leaves no process behind', async () => {
    await using early = await Demo.start('--rounds', '1000');
    await using killed = await Demo.start('--rounds', '1000');
    await Promise.all([early.printed(/lanegate, 2/), killed.printed(/lanegate, 2/)]);
    early.kill('SIGTERM');
    killed.kill('SIGKILL');
    expect(await early.exitCode()).toBe(1);
    expect(await early.leftovers()).toEqual(NOTHING);
    await eventually(async () => ((await killed.processes()).length === 0 ? true : undefined), 'end of all');
  });
});
