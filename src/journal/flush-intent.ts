import * as z from 'zod';

const intentSchema = z.strictObject({
  generation: z.string(),
  gate: z.int(),
  sentinel: z.string(),
  command: z.enum(['FLUSHDB', 'FLUSHALL']),
  /** Texts of identity, mark and all checkpoints as they stood. */
  before: z.array(z.string()),
});

/** A flush that a gate is about to send alone, and what the control keys of the target were before (flush-intent.lua). */
export type FlushIntent = z.infer<typeof intentSchema>;

export function parseIntent(text: string): FlushIntent | undefined {
  try {
    return intentSchema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

export interface FlushRecord {
  /** Sentinel of the newest flush, also of one that is settled; '' for none. */
  readonly newest: string;
  /** Of one that is not settled. */
  readonly intent: FlushIntent | undefined;
}
