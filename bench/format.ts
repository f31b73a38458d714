// How figures look in every table of the report.

import type { Spread } from './figures.ts';

export interface Row {
  readonly what: string;
  readonly figure: string;
  readonly ratio?: string;
  readonly goal?: string;
}

export function cellsOf({ what, figure, ratio = '', goal = '' }: Row): string[] {
  return [what, figure, ratio, goal];
}

export function rate(perSecond: number): string {
  return perSecond < 1_000 ? `${perSecond.toFixed(0)} /s` : `${thousands(perSecond)} k/s`;
}

export function thousands(value: number): string {
  return (value / 1000).toFixed(value < 10_000 ? 1 : 0);
}

export function of(perSecond: number, ceiling: number | undefined): string {
  return ceiling === undefined ? '' : (perSecond / ceiling).toFixed(2);
}

export function pair({ p50Ms, p99Ms }: Spread): string {
  return `${p50Ms.toFixed(2)} / ${p99Ms.toFixed(2)} ms`;
}

export function ms(value: number): string {
  return `${value.toFixed(2)} ms`;
}

export function mib(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0);
}

/** What used nothing that can be told is left out. */
export function costs(usPerCommand: Readonly<Record<string, number>>): string {
  return Object.entries(usPerCommand)
    .filter(([, us]) => us >= 0.005)
    .map(([label, us]) => `${label} ${us.toFixed(2)}`)
    .join(', ');
}

export function peaks(bytes: Readonly<Record<string, number>>): string {
  return Object.entries(bytes)
    .map(([label, peak]) => `${label} ${mib(peak)}`)
    .join(', ');
}

export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  return [
    `| ${head.join(' | ')} |`,
    `|${head.map(() => '---').join('|')}|`,
    ...rows.map((row) => `| ${row.join(' | ')} |`),
  ];
}
