// The deadlines of a log in files, which are held back by FILE_GRACE_MS while it is applied, become what the log says. A key
// whose time has come goes with that, as it does where a server has loaded the file. A deadline tells by itself whether it is
// still held back, so that a pass may be cut short and repeated at will.

import { failpoint } from '../runtime/failpoints.ts';
import { FILE_GRACE_MS } from '../target/control.ts';
import type { Link } from '../verify/link.ts';
import { ReplyError } from '../wire/replies.ts';
import { FieldDeadlines } from './field-deadlines.ts';
import { deadlinesOf, knowsDeadlines, questionOf } from './key-deadlines.ts';
import { scanKeys } from './scan.ts';

export interface FileDeadlineCounts {
  /** Keys of the target, without lanegate's own; SCAN may show one twice. */
  scanned: number;
  /** Deadlines that were put back. */
  restored: number;
  /** Keys whose time had come: they are gone. */
  expired: number;
  /** Of single hash fields, those that are gone among them. */
  fields: number;
}

/** @throws StopError, AbortedError; `counts` grows on the way */
export async function restoreFileDeadlines(target: Link, counts: FileDeadlineCounts): Promise<void> {
  const exact = await knowsDeadlines(target);
  const fields = new FieldDeadlines(target, async (_key, _fields, held) => held.map(trueDeadline));
  for (const db of [...(await target.databases()).keys()].sort((a, b) => a - b)) {
    if (!(await target.select(db))) continue;
    for await (const keys of scanKeys(target)) {
      counts.scanned += keys.length;
      await restoreKeys(target, keys, { exact, counts });
      counts.fields += await fields.restore(keys);
    }
  }
}

async function restoreKeys(
  target: Link,
  keys: readonly Buffer[],
  { exact, counts }: { readonly exact: boolean; readonly counts: FileDeadlineCounts },
): Promise<void> {
  const deadlines = deadlinesOf(await target.call(questionOf(keys, exact)), keys.length);
  const commands = keys.flatMap((key, at) => {
    const held = deadlines[at] ?? -1;
    const deadline = trueDeadline(held);
    if (deadline === held) return [];
    if (deadline <= Date.now()) counts.expired++;
    else counts.restored++;
    return [['PEXPIREAT', key, deadline]];
  });
  if (commands.length === 0) return;
  for (const reply of await target.call(commands)) if (reply instanceof ReplyError) throw reply;
  await failpoint('finish-after-batch');
}

/** As the log has it; the same where it is not held back (any more). One beyond the year 2920 is not told from that, and stays. */
function trueDeadline(held: number): number {
  return held >= FILE_GRACE_MS && held < 2 * FILE_GRACE_MS ? held - FILE_GRACE_MS : held;
}
