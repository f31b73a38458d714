import * as z from 'zod';

/** Kinds of option values. Each takes what a flag or variable can hold (text) and what YAML can hold. */

const KIB = 1024;
const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  k: KIB,
  m: KIB ** 2,
  g: KIB ** 3,
  t: KIB ** 4,
};
const DURATION_UNITS_MS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

function scalar<T>(what: string, read: (text: string) => T | undefined) {
  return z.union([z.string(), z.number(), z.boolean()], { error: what }).transform((given, context): T => {
    const value = read(String(given).trim());
    if (value !== undefined) return value;
    context.addIssue({ code: 'custom', message: what });
    return z.NEVER;
  });
}

export function integer(min: number, max: number) {
  return scalar(`must be a whole number from ${min} to ${max}`, (text) => {
    if (!/^\d{1,16}$/.test(text)) return undefined;
    return within(Number(text), min, max);
  });
}

/** A share: above 0, at most 1. */
export function share() {
  return scalar('must be a share such as 0.01, above 0 and at most 1', (text) => {
    const value = /^\d{0,3}(?:\.\d{1,12})?$/.test(text) && text !== '' ? Number(text) : 0;
    return value > 0 ? within(value, 0, 1) : undefined;
  });
}

/** Bytes: 65536, 64KiB, 64kb, 1.5m (every unit is a power of 1024). */
export function size(min: number, max: number) {
  const what = `must be a size such as 64MiB or 65536, from ${formatSize(min)} to ${formatSize(max)}`;
  return scalar(what, (text) => {
    const [, digits, unit] = /^(\d{1,15}(?:\.\d{1,6})?)\s*([kmgt]?)(?:i?b)?$/i.exec(text) ?? [];
    if (digits === undefined || unit === undefined) return undefined;
    return within(Math.round(Number(digits) * (SIZE_UNITS[unit.toLowerCase()] ?? Number.NaN)), min, max);
  });
}

/** A duration; a bare number counts in `unit`, the unit of the result. */
export function duration(unit: 'ms' | 's', min: number, max: number) {
  const what = `must be a duration such as ${unit === 'ms' ? '5000 (ms)' : '60 (seconds)'}, 5s or 2m, from ${min} to ${max} ${unit}`;
  return scalar(what, (text) => {
    const [, digits, given] = /^(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d|)$/i.exec(text) ?? [];
    if (digits === undefined || given === undefined) return undefined;
    const unitMs = DURATION_UNITS_MS[given === '' ? unit : given.toLowerCase()] ?? Number.NaN;
    return within((Number(digits) * unitMs) / (unit === 's' ? 1000 : 1), min, max);
  });
}

/** A point in time, as ms since 1970: ISO 8601 (UTC unless it says otherwise), or unix time in seconds or ms. */
export function instant() {
  return scalar('must be a time such as 2026-01-31T12:00:00Z, or unix time in seconds or ms', (text) => {
    // Seconds have ten digits until the year 2286.
    if (/^\d{9,10}(?:\.\d{1,6})?$/.test(text)) return Math.floor(Number(text) * 1000);
    if (/^\d{12,13}$/.test(text)) return Number(text);
    const [, date, clock = '00:00', zone = 'Z'] =
      /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?)\s?(Z|[+-]\d{2}:\d{2})?)?$/i.exec(
        text,
      ) ?? [];
    const ms = Date.parse(`${date}T${clock}${zone.toUpperCase()}`);
    return Number.isNaN(ms) || ms < 0 ? undefined : ms;
  });
}

/** On or off. A flag of this kind takes no value and has a --no- form. */
export function toggle() {
  return scalar('must be true or false', (text) => {
    const lower = text.toLowerCase();
    if (['true', 'yes', 'on', '1'].includes(lower)) return true;
    return ['false', 'no', 'off', '0'].includes(lower) ? false : undefined;
  });
}

export function choice<const T extends string>(values: readonly T[]) {
  return scalar(`must be one of ${values.join(', ')}`, (text) => values.find((value) => value === text));
}

/** Text is not converted from YAML numbers: 007 would silently become 7. */
export function text(pattern = /./s, what = 'must not be empty') {
  return z.string({ error: 'must be text; put it in quotes' }).regex(pattern, { error: what });
}

/** A list: YAML array or comma-separated text. */
export function list<const T extends string>(what: string, read: (item: string) => T | undefined) {
  return z.union([z.string(), z.array(z.string())], { error: what }).transform((given, context): T[] => {
    const items = (typeof given === 'string' ? given.split(',') : given).map((item) => item.trim());
    const values = items.filter((item) => item !== '').map(read);
    const known = values.filter((value) => value !== undefined);
    if (known.length === values.length && known.length > 0) return [...new Set(known)];
    context.addIssue({ code: 'custom', message: what });
    return z.NEVER;
  });
}

/** 65536 -> 64KiB */
export function formatSize(bytes: number): string {
  for (const [unit, factor] of [
    ['GiB', KIB ** 3],
    ['MiB', KIB ** 2],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`;
  }
  return `${bytes}`;
}

function within(value: number, min: number, max: number): number | undefined {
  return value >= min && value <= max ? value : undefined;
}
