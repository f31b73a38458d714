// SORT's key specs say "unknown": its STORE key may stand anywhere, and BY and GET name other keys by pattern.
// This is the parser of the server's sortCommandGeneric: the same words, in the same order of trial.

import { argEquals, argInteger } from './keys.ts';
import type { RespScanner } from './resp.ts';

export interface SortKeys {
  /** Argument index of the key to store to; the last STORE counts. */
  readonly store: number | undefined;
  /** A pattern with '*' reads keys that only the data knows. */
  readonly readsOtherKeys: boolean;
}

const STAR = 42;

/** Undefined if the server would answer with a syntax error. */
export function sortKeys(scanner: RespScanner): SortKeys | undefined {
  let store: number | undefined;
  let readsOtherKeys = false;
  for (let i = 2; i < scanner.argc; i++) {
    const left = scanner.argc - 1 - i;
    if (argEquals(scanner, i, 'ASC') || argEquals(scanner, i, 'DESC') || argEquals(scanner, i, 'ALPHA'))
      continue;
    if (argEquals(scanner, i, 'LIMIT') && left >= 2) {
      if (argInteger(scanner, i + 1) === undefined || argInteger(scanner, i + 2) === undefined)
        return undefined;
      i += 2;
    } else if (argEquals(scanner, i, 'STORE') && left >= 1) {
      store = ++i;
    } else if ((argEquals(scanner, i, 'BY') || argEquals(scanner, i, 'GET')) && left >= 1) {
      i++;
      readsOtherKeys ||= hasStar(scanner, i);
    } else {
      return undefined;
    }
  }
  return { store, readsOtherKeys };
}

function hasStar(scanner: RespScanner, i: number): boolean {
  return scanner.arg(i).includes(STAR);
}
