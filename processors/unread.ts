import type { PipelineContext } from './context.ts';

/**
 * Commands that are applied but whose replies nobody read: their errors, if any, went unseen. They are recorded as
 * unverified. False when there is nobody to account to (another journal), or when a gate is about to write its own
 * account; its announcement brings the lane back.
 */
export async function accountForUnread(
  context: PipelineContext,
  at: {
    readonly journalId: string;
    readonly generation: string;
    readonly lane: number;
    readonly seq: number;
  },
): Promise<boolean> {
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
