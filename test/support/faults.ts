import { readdir, readFile, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Pipeline } from './pipeline.ts';
import type { RedisServer } from './redis-server.ts';
import type { LoggedEntry } from './workload.ts';

// Latches and damage for the crash tests.

/** Waits until `probe` finds something; a probe that throws has found nothing yet. */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined | false | null | 0> | T | undefined | false | null | 0,
  timeoutMs = 40_000,
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  let trouble: unknown;
  while (performance.now() < deadline) {
    try {
      const found = await probe();
      if (found !== undefined && found !== false && found !== null && found !== 0) return found;
    } catch (error) {
      trouble = error;
    }
    await delay(15);
  }
  throw new Error(`waited ${timeoutMs} ms in vain until ${what}`, { cause: trouble });
}

/** A load on the pipeline, cut into steps, so that faults fall into the middle of work. */
export class Feed {
  readonly #pipeline: Pipeline;
  readonly #entries: readonly LoggedEntry[];
  #at = 0;

  constructor(pipeline: Pipeline, entries: readonly LoggedEntry[]) {
    this.#pipeline = pipeline;
    this.#entries = entries;
  }

  /** Appends the next `share` (0 to 1) of the whole. */
  async next(share: number): Promise<void> {
    const to = Math.min(this.#entries.length, this.#at + Math.ceil(this.#entries.length * share));
    await this.#pipeline.append(this.#entries.slice(this.#at, to));
    this.#at = to;
  }

  async rest(): Promise<void> {
    await this.next(1);
  }

  /** Appends `share` little by little while `during` happens; returns when both are done. */
  async while<T>(share: number, during: () => Promise<T>): Promise<T> {
    const steps = 12;
    let done = false;
    const feeding = (async () => {
      for (let step = 0; step < steps; step++) {
        await this.next(share / steps);
        if (!done) await delay(40);
      }
    })();
    try {
      return await during();
    } finally {
      done = true;
      await feeding;
    }
  }
}

async function incrementOf(server: RedisServer): Promise<string> {
  const folder = join(server.dir, 'appendonlydir');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.incr.aof')).sort(byNumber);
  const last = names.at(-1);
  if (last === undefined) throw new Error(`no AOF in ${folder}`);
  return join(folder, last);
}

function byNumber(a: string, b: string): number {
  return Number(/\.(\d+)\./.exec(a)?.[1]) - Number(/\.(\d+)\./.exec(b)?.[1]);
}

/** Bytes that the server has logged by now. */
export async function aofBytes(server: RedisServer): Promise<number> {
  return (await stat(await incrementOf(server))).size;
}

/**
 * What a power failure does to a server with `appendfsync everysec`: the log ends at some byte behind `bytes`. The server
 * must be down. Returns what was lost.
 *
 * `torn`: the end may also lie inside a transaction. Redis 7.0.15 drops that one at its restart, but leaves the MULTI
 * open in its file: at the next restart half of it runs after all. No client of that server can tell.
 */
export async function loseAofBehind(
  server: RedisServer,
  bytes: number,
  options: { readonly torn: boolean },
): Promise<number> {
  const path = await incrementOf(server);
  const { size } = await stat(path);
  let end = bytes + Math.floor((Math.random() * (size - bytes)) / 2);
  if (!options.torn) {
    const log = (await readFile(path)).subarray(0, end);
    const [multi, exec] = [log.lastIndexOf('$5\r\nMULTI\r\n'), log.lastIndexOf('$4\r\nEXEC\r\n')];
    if (multi > exec) end = multi - '*1\r\n'.length;
  }
  await truncate(path, end);
  return size - end;
}

/** Another disk: nothing of the server is left. It must be down. */
export async function wipe(server: RedisServer): Promise<void> {
  for (const name of await readdir(server.dir)) {
    if (!name.endsWith('.log')) await rm(join(server.dir, name), { recursive: true, force: true });
  }
}
