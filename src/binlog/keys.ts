// Finds a command's keys from its key specs, by the rules of the server itself (getKeysUsingKeySpecs in
// Redis' db.c). Keys are given as argument indexes.

import { equalsUpper } from './ascii.ts';
import type { KeySpec, SpecFacts } from './command-spec.ts';
import { integerAt } from './integer.ts';
import type { RespScanner } from './resp.ts';

export interface FoundKeys {
  /**
   * exact: these and no others. partial: there may be more, or other ones, that the specs cannot name.
   * invalid: the arguments do not have the shape that the specs ask for (a syntax error).
   */
  readonly certainty: 'exact' | 'partial' | 'invalid';
  readonly keys: readonly number[];
}

const NOT_FOUND = 0;
const KEYWORDS = new Map<string, Buffer>();

export function keysOf(scanner: RespScanner, spec: SpecFacts): FoundKeys {
  const keys: number[] = [];
  let certainty: FoundKeys['certainty'] = 'exact';
  for (const keySpec of spec.keySpecs) {
    if (keySpec.notKey) continue;
    if (keySpec.incomplete || keySpec.begin.type === 'unknown' || keySpec.find.type === 'unknown')
      certainty = 'partial';
    const first = beginOf(scanner, keySpec);
    if (first === NOT_FOUND) continue;
    if (!collect(scanner, keySpec, first, keys)) return { certainty: 'invalid', keys };
  }
  return { certainty, keys };
}

function beginOf(scanner: RespScanner, { begin }: KeySpec): number {
  if (begin.type === 'index') return begin.index;
  return begin.type === 'keyword' ? afterKeyword(scanner, begin.keyword, begin.startFrom) : NOT_FOUND;
}

/** A negative start counts from the end and searches towards the front. */
function afterKeyword(scanner: RespScanner, keyword: string, startFrom: number): number {
  const step = startFrom > 0 ? 1 : -1;
  const stop = startFrom > 0 ? scanner.argc - 1 : 1;
  for (let i = startFrom > 0 ? startFrom : scanner.argc + startFrom; i * step < stop * step; i += step) {
    if (argEquals(scanner, i, keyword)) return i + 1;
  }
  return NOT_FOUND;
}

function collect(scanner: RespScanner, { find }: KeySpec, first: number, keys: number[]): boolean {
  if (find.type === 'unknown') return true;
  let from = first;
  let last: number;
  if (find.type === 'range') {
    last = lastOfRange(scanner.argc, first, find.lastKey, find.limit);
  } else {
    const count = argInteger(scanner, first + find.keyNumIndex);
    if (count === undefined || count < 0) return false;
    if (count === 0) return true;
    from = first + find.firstKey;
    last = from + (count - 1) * find.keyStep;
  }
  if (last >= scanner.argc || last < from || from >= scanner.argc) return false;
  for (let i = from; i <= last; i += Math.max(1, find.keyStep)) keys.push(i);
  return true;
}

function lastOfRange(argc: number, first: number, lastKey: number, limit: number): number {
  if (lastKey >= 0) return first + lastKey;
  return limit === 0 ? argc + lastKey : first + Math.trunc((argc - first) / limit) + lastKey;
}

/** `text` in upper case. */
export function argEquals(scanner: RespScanner, i: number, text: string): boolean {
  if (i >= scanner.argc) return false;
  const start = scanner.argStart[i] as number;
  const end = scanner.argEnd[i] as number;
  return end - start === text.length && equalsUpper(scanner.buffer, start, end, bytesOf(text));
}

/** Keywords are few: those in this folder and in the key specs of the table. */
function bytesOf(keyword: string): Buffer {
  const known = KEYWORDS.get(keyword);
  if (known !== undefined) return known;
  const bytes = Buffer.from(keyword, 'latin1');
  KEYWORDS.set(keyword, bytes);
  return bytes;
}

export function argInteger(scanner: RespScanner, i: number): number | undefined {
  if (i >= scanner.argc) return undefined;
  return integerAt(scanner.buffer, scanner.argStart[i] as number, scanner.argEnd[i] as number);
}
