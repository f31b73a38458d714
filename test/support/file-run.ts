import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type CliResult, type LanegateProcess, lanegate, spawnLanegate } from './cli.ts';
import { compareServers } from './compare.ts';
import { RedisServer } from './redis-server.ts';

/** `lanegate run` from a file to a target, with an embedded queue in a directory of its own. */
export class FileRun implements AsyncDisposable {
  readonly target: RedisServer;
  readonly dir: string;

  private constructor(target: RedisServer, dir: string) {
    this.target = target;
    this.dir = dir;
  }

  /** `binary` of the target; the usual one without it. */
  static async create(binary?: string): Promise<FileRun> {
    const options = binary === undefined ? {} : { binary };
    return new FileRun(await RedisServer.start(options), await mkdtemp(join(tmpdir(), 'lanegate-file-run-')));
  }

  /** To its end. */
  async run(source: string, ...args: string[]): Promise<CliResult> {
    await using process = this.spawn(source, ...args);
    return await process.exit();
  }

  spawn(source: string, ...args: string[]): LanegateProcess {
    const options = ['--board-port', '0', '--watchdog-ms', '300', '--lock-ms', '2000'];
    const dataDir = join(this.dir, 'data');
    return spawnLanegate([
      ...['run', '--source', source, '--target', this.target.url, '--data-dir', dataDir],
      ...options,
      ...args,
    ]);
  }

  /** Puts the deadlines of an AOF back. */
  async finish(source: string, ...args: string[]): Promise<CliResult> {
    return await lanegate([...this.#finishOf(source), ...args]);
  }

  /** The same as a process that dies at the failpoint. */
  spawnFinish(source: string, failpoint: string): LanegateProcess {
    return spawnLanegate(this.#finishOf(source), { env: { LANEGATE_FAILPOINT: failpoint } });
  }

  async expectSameAs(server: RedisServer): Promise<void> {
    expect(await server.client().dbsize()).toBeGreaterThan(150);
    expect(await compareServers(server.url, this.target.url)).toEqual([]);
  }

  #finishOf(source: string): string[] {
    const dataDir = join(this.dir, 'data');
    return ['finish', '--source', source, '--target', this.target.url, '--data-dir', dataDir];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.target[Symbol.asyncDispose]();
    await rm(this.dir, { recursive: true, force: true });
  }
}
