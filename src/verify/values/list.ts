import { both, buffersOf, type Pair, weightOf } from './pair.ts';
import { PieceSize } from './piece.ts';

/** Where two lists differ; undefined when they are equal. Memory: one piece of each, or one element. */
export async function compareLists(pair: Pair, key: Buffer): Promise<string | undefined> {
  const [ours, theirs] = await both(pair, ['LLEN', key]);
  if (ours !== theirs) return `list length ${String(ours)} / ${String(theirs)}`;
  const size = new PieceSize();
  const length = Number(ours);
  for (let at = 0; at < length; ) {
    const { count } = size;
    const [a = [], b = []] = (await both(pair, ['LRANGE', key, at, at + count - 1])).map(buffersOf);
    const elements = Math.max(a.length, b.length);
    for (let i = 0; i < elements; i++) {
      if (!same(a[i], b[i])) return `list index ${at + i}`;
    }
    // Shorter than it was: nothing more to compare, and the next look finds another length.
    if (elements === 0) return `list index ${at}`;
    size.learn(elements, Math.max(weightOf(a), weightOf(b)));
    at += elements;
  }
  return undefined;
}

function same(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a !== undefined && b !== undefined && a.equals(b);
}
