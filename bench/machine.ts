import { cpus, loadavg, release, totalmem, type } from 'node:os';
import { packageVersion } from '../src/runtime/package.ts';
import type { Bench } from './support.ts';

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryBytes: number;
  readonly kernel: string;
  readonly node: string;
  readonly redis: string;
  readonly lanegate: string;
  /** 1 minute average when the run began: above about 0.5 the figures are not worth much. */
  readonly loadAtStart: number;
  readonly startedAt: string;
}

export async function machineFacts(bench: Bench): Promise<Machine> {
  const info = await bench.target.client().info('server');
  const [found] = cpus();
  return {
    cores: cpus().length,
    cpu: found?.model.trim() ?? 'unknown',
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()}`,
    node: process.version,
    redis: /^(?:valkey|redis)_version:(\S+)/m.exec(info)?.[1] ?? 'unknown',
    lanegate: packageVersion(),
    loadAtStart: loadavg()[0] ?? 0,
    startedAt: new Date().toISOString(),
  };
}
