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
  /** What the first touch of a page of fresh memory costs, us: in some guests it is much of what a server in memory costs. */
  readonly pageFaultUs: number;
}

const PAGE_BYTES = 4096;
const PAGES = 16_384;

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
    pageFaultUs: pageFaultUs(),
  };
}

function pageFaultUs(): number {
  const fresh = Buffer.allocUnsafeSlow(PAGES * PAGE_BYTES);
  const startedMs = performance.now();
  for (let at = 0; at < fresh.length; at += PAGE_BYTES) fresh[at] = 1;
  return ((performance.now() - startedMs) * 1000) / PAGES;
}
