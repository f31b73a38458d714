// Vector sets (Redis 8). Their DUMPs differ wherever an element came by VADD: each server draws the levels of its graph by
// chance. What counts is which elements there are, and the vector and the attributes of each.

import { formatKey } from '../../binlog/quoting.ts';
import type { Argument } from '../../wire/encode.ts';
import type { Reply } from '../../wire/replies.ts';
import { both, buffersOf, checked, one, type Pair } from './pair.ts';

/** Asked for at once; a server has no cursor for them. */
const ELEMENTS_MAX = 1_000_000;
const PIECE = 64;
const SHOWN_BYTES_MAX = 64;

/** Where two vector sets differ; undefined when they are equal. */
export async function compareVectorSets(pair: Pair, key: Buffer): Promise<string | undefined> {
  const [ours, theirs] = await both(pair, ['VCARD', key]);
  if (ours !== theirs) return `vector set of ${String(ours)} / ${String(theirs)} elements`;
  const count = Number(ours);
  if (count > ELEMENTS_MAX) return `vector set of ${count} elements: too many to be compared`;
  const elements = buffersOf(await one(pair.source, ['VRANDMEMBER', key, count]));
  for (let at = 0; at < elements.length; at += PIECE) {
    const piece = elements.slice(at, at + PIECE);
    const questions = piece.flatMap((element): Argument[][] => [
      ['VEMB', key, element],
      ['VGETATTR', key, element],
    ]);
    const [a, b] = await Promise.all([pair.source.call(questions), pair.target.call(questions)]);
    const differs = a.findIndex((reply, i) => textOf(reply) !== textOf(b[i]));
    if (differs >= 0) return `element ${formatKey(piece[differs >> 1] as Buffer, SHOWN_BYTES_MAX)}`;
  }
  return undefined;
}

function textOf(reply: Reply | undefined): string {
  const part = checked(reply);
  return JSON.stringify(Array.isArray(part) ? part.map(String) : part);
}
