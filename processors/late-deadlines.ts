import { lateDeadlines } from '../src/binlog/late-deadlines.ts';
import type { Batch } from '../src/target/plan.ts';
import type { PipelineContext } from './context.ts';

/** Counts what expires at the target before the commands that the source has run in the meantime are applied. */
export async function countLateDeadlines(
  { records, now }: PipelineContext,
  { parts, timeMs, deadlineMs }: Batch,
): Promise<void> {
  const nowMs = now();
  if (deadlineMs > nowMs) return;
  const late = lateDeadlines(parts, timeMs, nowMs);
  if (late > 0) await records.count('lateDeadlines', late);
}
