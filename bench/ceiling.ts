import { execFileSync } from 'node:child_process';
import { type Bench, KEYSPACE, say } from './support.ts';

const BINARIES = ['redis-benchmark', 'valkey-benchmark'];

/** Commands a second of redis-benchmark straight at the empty target. */
export async function ceilingOnce(bench: Bench): Promise<number> {
  const { target, settings } = bench;
  await target.client().flushall('SYNC');
  const args = ['-h', '127.0.0.1', '-p', String(target.port), '-t', 'set', '-P', '100', '-d', '100'];
  args.push('-r', String(KEYSPACE), '-n', String(settings.commands), '--csv');
  const found = /^"SET","([\d.]+)"/m.exec(runFirst(args));
  if (!found) throw new Error('redis-benchmark said nothing of SET');
  const perSecond = Number(found[1]);
  say(`ceiling: ${Math.round(perSecond / 1000)} k/s`);
  return perSecond;
}

function runFirst(args: readonly string[]): string {
  for (const binary of BINARIES) {
    try {
      return execFileSync(binary, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`none of ${BINARIES.join(', ')} is on PATH`);
}
