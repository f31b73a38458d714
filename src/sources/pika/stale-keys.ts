// Keys of one database whose values at the target are not what its log has led to: what becomes stale, and what an item
// does to such a key, follows from the log alone. Whoever reads the log again from further back finds at least as many.

import { RESERVED_PREFIX } from '../../binlog/reserved-keys.ts';
import { RespScanner } from '../../binlog/resp.ts';
import type { ItemEffect } from './item-effect.ts';

const scanner = new RespScanner();

export class StaleKeys {
  /** True: to be written to the target even if the master has nothing there. */
  readonly #keys = new Map<string, boolean>();

  get size(): number {
    return this.#keys.size;
  }

  keys(): IterableIterator<string> {
    return this.#keys.keys();
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  mustBeWritten(key: string): boolean {
    return this.#keys.get(key) ?? false;
  }

  delete(key: string): void {
    this.#keys.delete(key);
  }

  /** The target is emptied; `suspects` may be alive at the master all the same. */
  emptied(suspects: Iterable<string>): void {
    this.#keys.clear();
    for (const key of suspects) if (!isReserved(key)) this.#keys.set(key, false);
  }

  /** @returns false: the key is not ours to write. */
  untold(key: string): boolean {
    if (isReserved(key)) return false;
    this.#keys.set(key, true);
    return true;
  }

  /** True: the item is passed on. */
  passes(effect: ItemEffect): boolean {
    if (effect.kind !== 'keys' && effect.kind !== 'untold') return true;
    const { keys } = effect;
    if (!keys.some((key) => this.#keys.has(key))) return true;
    if (keys.length === 1 && effect.kind === 'keys' && overwrites(effect.resp)) {
      this.#keys.delete(keys[0] as string);
      return true;
    }
    for (const key of keys) this.untold(key);
    return false;
  }
}

function isReserved(key: string): boolean {
  return key.startsWith(RESERVED_PREFIX);
}

/** The key is behind it what it is whatever it was: then the log tells all of it again. */
function overwrites(resp: Buffer): boolean {
  scanner.reset(resp);
  scanner.next();
  const verb = scanner.arg(0).toString('latin1').toUpperCase();
  if (verb === 'DEL' || verb === 'UNLINK') return scanner.argc === 2;
  if (verb !== 'SET') return false;
  if (scanner.argc === 3) return true;
  return scanner.argc === 5 && /^(EX|PX|EXAT|PXAT)$/i.test(scanner.arg(3).toString('latin1'));
}
