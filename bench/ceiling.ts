import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { say } from './say.ts';
import { type Bench, KEYSPACE } from './support.ts';

const run = promisify(execFile);
const BINARIES = ['redis-benchmark', 'valkey-benchmark'];

/** Bytes that a connection of redis-benchmark sends before it waits for replies, at most. */
const IN_FLIGHT_BYTES = 64 * 1024;

export interface SetLoad {
  readonly commands: number;
  readonly valueBytes?: number;
  readonly keyspace?: number;
}

/** Commands a second of redis-benchmark straight at the empty target. */
export async function ceilingOnce(bench: Bench, load: SetLoad = bench.settings): Promise<number> {
  await bench.target.client().flushall('SYNC');
  const perSecond = await loadSets(bench.target.port, load);
  say(`ceiling: ${Math.round(perSecond / 1000)} k/s`);
  return perSecond;
}

/** SETs by redis-benchmark until all are answered; commands a second as it says. */
export async function loadSets(
  port: number,
  { commands, valueBytes = 100, keyspace = KEYSPACE }: SetLoad,
): Promise<number> {
  const depth = Math.max(1, Math.min(100, Math.floor(IN_FLIGHT_BYTES / valueBytes)));
  const args = ['-h', '127.0.0.1', '-p', String(port), '-t', 'set', '-P', String(depth)];
  args.push('-d', String(valueBytes), '-r', String(keyspace), '-n', String(commands), '--csv');
  const found = /^"SET","([\d.]+)"/m.exec(await runFirst(args));
  if (!found) throw new Error('redis-benchmark said nothing of SET');
  return Number(found[1]);
}

async function runFirst(args: readonly string[]): Promise<string> {
  for (const binary of BINARIES) {
    try {
      return (await run(binary, args)).stdout;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`none of ${BINARIES.join(', ')} is on PATH`);
}
