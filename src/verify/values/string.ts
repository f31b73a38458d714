import { both, bufferOf, type Pair } from './pair.ts';
import { PIECE_BYTES } from './piece.ts';

/** Where two strings differ; undefined when they are equal. Read in ranges: memory does not grow with the value. */
export async function compareStrings(pair: Pair, key: Buffer): Promise<string | undefined> {
  const [ours, theirs] = await both(pair, ['STRLEN', key]);
  if (ours !== theirs) return `string length ${String(ours)} / ${String(theirs)}`;
  const length = Number(ours);
  for (let at = 0; at < length; at += PIECE_BYTES) {
    const [a, b] = (await both(pair, ['GETRANGE', key, at, at + PIECE_BYTES - 1])).map(bufferOf);
    if (a === undefined || b === undefined || a.equals(b)) continue;
    return `string byte ${at + firstDifference(a, b)}`;
  }
  return undefined;
}

function firstDifference(a: Buffer, b: Buffer): number {
  const shorter = Math.min(a.length, b.length);
  for (let at = 0; at < shorter; at++) if (a[at] !== b[at]) return at;
  return shorter;
}
