// What the kernel says of a process (/proc): CPU time and peak memory. Linux only.

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

let ticksPerSecond: number | undefined;

function usOf(ticks: number): number {
  ticksPerSecond ??= Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));
  return (ticks / ticksPerSecond) * 1e6;
}

export interface CpuUs {
  readonly own: number;
  /** Of children that have ended: a server's AOF rewrites. */
  readonly children: number;
}

/** User and system time since the process began, us. Resolution: one clock tick, 10 ms on most kernels. */
export function cpuUs(pid: number): CpuUs {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The name, in parentheses, may hold spaces.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const us = (at: number) => usOf(Number(fields[at]) + Number(fields[at + 1]));
  return { own: us(11), children: us(13) };
}

/** What all processes and the kernel have used since the machine began, and what the hypervisor took, us. */
export function machineCpuUs(): number {
  const [first = ''] = readFileSync('/proc/stat', 'utf8').split('\n', 1);
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = first
    .split(/\s+/)
    .slice(1)
    .map(Number);
  return usOf(user + nice + system + irq + softirq + steal);
}

/** VmHWM: the most that was resident at any time, bytes. */
export function peakRssBytes(pid: number): number {
  const found = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  if (!found) throw new Error(`/proc/${pid}/status has no VmHWM`);
  return Number(found[1]) * 1024;
}
