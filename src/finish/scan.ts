import type { Link } from '../verify/link.ts';
import { isReserved } from '../verify/sample.ts';
import { bufferOf, buffersOf, listOf } from '../verify/values/pair.ts';
import { ReplyError } from '../wire/replies.ts';

/** SCAN gives as many at once as fall together, which has no bound. */
const BATCH_KEYS = 512;

/**
 * The keys of the database that the link is in, without lanegate's own, at most BATCH_KEYS at once. One may come twice; where
 * another process answers at the address its cursor means nothing, and all of them do.
 */
export async function* scanKeys(link: Link): AsyncGenerator<readonly Buffer[], void> {
  for (;;) {
    const { run } = link;
    let cursor = '0';
    do {
      const [reply] = await link.call([['SCAN', cursor, 'COUNT', BATCH_KEYS]]);
      if (reply instanceof ReplyError) throw reply;
      if (link.run !== run) break;
      const [next, found] = listOf(reply);
      cursor = bufferOf(next).toString();
      const keys = buffersOf(found).filter((key) => !isReserved(key));
      for (let at = 0; at < keys.length; at += BATCH_KEYS) yield keys.slice(at, at + BATCH_KEYS);
    } while (cursor !== '0');
    if (link.run === run) return;
  }
}
