// Where the time goes: a drain under `node --cpu-prof`, and its functions by self time.

import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BY_ROLE, type DrainRun, drainOnce, ONE } from './drain.ts';
import type { Bench, Filled } from './support.ts';

const TOP = 30;

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** One drain in one process and one by role; the profiles stay in `dir`. The profiler itself slows them down. */
export async function profileDrains(bench: Bench, filled: Filled, dir: string): Promise<string> {
  mkdirSync(dir, { recursive: true });
  const text: string[] = [];
  for (const workers of [ONE, BY_ROLE]) text.push(shown(await drainOnce(bench, filled, workers, dir)));
  for (const file of readdirSync(dir).filter((name) => name.endsWith('.cpuprofile'))) {
    text.push(`${file}\n${topOf(join(dir, file), filled.commands)}`);
  }
  return text.join('\n\n');
}

function shown({ perSecond, cpuUsPerCommand }: DrainRun): string {
  const costs = Object.entries(cpuUsPerCommand).map(([label, us]) => `${label} ${us.toFixed(2)}`);
  return `${Math.round(perSecond / 1000)} k/s; CPU us per command: ${costs.join(', ')}`;
}

function topOf(path: string, commands: number): string {
  const profile = JSON.parse(readFileSync(path, 'utf8')) as CpuProfile;
  const selfUs = new Map<number, number>();
  profile.samples.forEach((id, at) => {
    selfUs.set(id, (selfUs.get(id) ?? 0) + (profile.timeDeltas[at] ?? 0));
  });
  const byFunction = new Map<string, number>();
  for (const { id, callFrame } of profile.nodes) {
    const { functionName, url, lineNumber } = callFrame;
    const place = url === '' ? '' : ` ${url.replace(/^.*\/(dist|node_modules)\//, '')}:${lineNumber + 1}`;
    const name = `${functionName || '(anonymous)'}${place}`;
    byFunction.set(name, (byFunction.get(name) ?? 0) + (selfUs.get(id) ?? 0));
  }
  const idleUs = byFunction.get('(idle)') ?? 0;
  byFunction.delete('(idle)');
  const busyUs = [...byFunction.values()].reduce((sum, us) => sum + us, 0);
  const lines = [...byFunction]
    .sort(([, a], [, b]) => b - a)
    .slice(0, TOP)
    .map(
      ([name, us]) =>
        `${((us / busyUs) * 100).toFixed(1).padStart(6)} %  ${(us / commands).toFixed(3)} us  ${name}`,
    );
  const total = `busy ${(busyUs / 1e6).toFixed(2)} s, idle ${(idleUs / 1e6).toFixed(2)} s; self time, share of busy, per command`;
  return [total, ...lines].join('\n');
}
