// Does anybody write at the source? A mark that moves with each command that changes data, and with nothing else.
//
// The replication offset moves with PING and GETACK as well, and with the DEL of each key that expires: a source with short
// deadlines would never be quiet. What a server counts as changes since its last save moves with writes alone. A server
// that does not tell it is judged by its offset.

import { sleep } from '../runtime/backoff.ts';
import { StopError } from '../runtime/errors.ts';
import type { Link } from '../verify/link.ts';
import { type Reply, ReplyError } from '../wire/replies.ts';

const POLL_MS = 100;

export type WriteMark = string;

export const MARK_QUESTION = [
  ['INFO', 'persistence'],
  ['INFO', 'replication'],
] as const;

/** From the replies to MARK_QUESTION. Equal marks: no data was written between them. */
export function writeMark(link: Link, replies: readonly Reply[]): WriteMark {
  for (const reply of replies) if (reply instanceof ReplyError) throw reply;
  const text = replies.map(String).join('\n');
  const field = (name: string) => new RegExp(`^${name}:(\\S+)`, 'm').exec(text)?.[1];
  const [changes, saved] = [field('rdb_changes_since_last_save'), field('rdb_last_save_time')];
  const told = changes === undefined ? `offset ${field('master_repl_offset')}` : `${changes} since ${saved}`;
  // A master that took over counts on its own.
  return `${link.run} ${field('role')} ${told}`;
}

export async function readWriteMark(link: Link): Promise<WriteMark> {
  return writeMark(link, await link.call(MARK_QUESTION));
}

/** Returns when nothing was written for `quietMs`. @throws StopError after `timeoutMs`; AbortedError */
export async function waitUntilQuiet(
  link: Link,
  options: { readonly quietMs: number; readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<WriteMark> {
  const { quietMs, timeoutMs, signal } = options;
  const beganMs = performance.now();
  let sinceMs = beganMs;
  let mark = await readWriteMark(link);
  for (;;) {
    if (performance.now() - sinceMs >= quietMs) return mark;
    if (performance.now() - beganMs >= timeoutMs) {
      throw new StopError('NOT_QUIET', `the source is still written to after ${timeoutMs / 1000} s`, {
        hint: 'stop the writers and repeat it, or let --freeze hold their writes; --timeout waits longer',
      });
    }
    await sleep(POLL_MS, signal);
    const now = await readWriteMark(link);
    if (now !== mark) sinceMs = performance.now();
    mark = now;
  }
}
