import { RESERVED_PREFIX } from '../binlog/reserved-keys.ts';

const HASHES = 2 ** 32;
const PREFIX = Buffer.from(RESERVED_PREFIX);

/** Chooses the keys to compare: by the key alone, so that both directions and every run choose the same ones. */
export class Sample {
  readonly #below: number;

  /** `share`: from 0 to 1. */
  constructor(share: number) {
    this.#below = share * HASHES;
  }

  has(key: Buffer): boolean {
    return this.#below >= HASHES || hashOf(key) < this.#below;
  }
}

/** FNV-1a, with MurmurHash3's finish: keys that differ in the last digit alone must spread over the whole range. */
function hashOf(key: Buffer): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ (key[at] as number), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Lanegate's own keys are no data. */
export function isReserved(key: Buffer): boolean {
  return (
    key[0] === PREFIX[0] &&
    key.length >= PREFIX.length &&
    key.compare(PREFIX, 0, PREFIX.length, 0, PREFIX.length) === 0
  );
}
