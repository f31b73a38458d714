import type { PipelineContext } from './context.ts';

/** A lane, and what the target says it has applied. */
interface Reached {
  readonly journalId: string;
  readonly generation: string;
  readonly lane: number;
  readonly seq: number;
}

/**
 * Accounts for what a lane has applied without anybody having read the replies. False when this is not the moment to go on:
 * then the lane sleeps, and whoever is about to write the account wakes it.
 */
export async function accountOrSleep(context: PipelineContext, at: Reached): Promise<boolean> {
  if (await accountForUnread(context, at)) return true;
  const { journal } = context;
  await journal.sleep(at.journalId, at.lane, at.seq, 'gate');
  // It may have been written in between.
  if (!(await accountForUnread(context, at))) return false;
  await journal.wake(at.lane);
  return true;
}

/**
 * Commands that are applied but whose replies nobody read: their errors, if any, went unseen. They are recorded as
 * unverified. False when there is nobody to account to (another journal), or when a gate is about to write its own
 * account; its announcement brings the lane back.
 */
async function accountForUnread(context: PipelineContext, at: Reached): Promise<boolean> {
  const { journal, records, redis, now, options } = context;
  const { journalId, generation, lane, seq } = at;
  const before = await journal.seenThrough(journalId, lane);
  if (!before) return false;
  if ((before.seen ?? -1) >= seq) return true;
  if (await redis.exists(journal.keys.gateClaim(journalId, seq))) return false;
  // A gate that gave up its claim just now had written its account before.
  const known = await journal.seenThrough(journalId, lane);
  if (!known) return false;
  if ((known.seen ?? -1) >= seq) return true;
  if (known.seen !== undefined) {
    const reason = 'applied, but the replies were not read before the process or the connection died';
    const span = { seq: known.seen + 1, through: seq, lanes: [lane], command: null, key: null, reason };
    await records.divergence({ kind: 'unverified', generation, ...span, atMs: now() }, Buffer.alloc(0));
  }
  const nothing = { outBytes: 0, applied: 0, wakeBelowBytes: options.budgetBytes / 2 };
  await journal.progress(journalId, { where: lane, seq, ...nothing });
  return true;
}
