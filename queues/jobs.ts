import * as z from 'zod';

// What jobs carry: numbers, never payload. A job says that there is work; what the work is stands in the journal.

/** Raised when a field changes its meaning: a process that reads a newer version hands the job back. */
export const JOB_VERSION = 1;

const version = z.literal(JOB_VERSION);

/** Apply lane `lane` at least through `to`. */
export const applyJobSchema = z.object({
  v: version,
  kind: z.literal('apply'),
  lane: z.int(),
  from: z.int(),
  to: z.int(),
});

/** Apply lane `lane` up to the marker of gate `gate`. */
export const barrierJobSchema = z.object({
  v: version,
  kind: z.literal('barrier'),
  lane: z.int(),
  gate: z.int(),
  command: z.string(),
});

export const laneJobSchema = z.discriminatedUnion('kind', [applyJobSchema, barrierJobSchema]);

/** Execute gate `gate` once all of `lanes` have arrived. */
export const gateJobSchema = z.object({
  v: version,
  kind: z.literal('gate'),
  gate: z.int(),
  lanes: z.array(z.int()),
  command: z.string(),
});

export const ingestJobSchema = z.object({ v: version, kind: z.literal('ingest') });

export type LaneJob = z.infer<typeof laneJobSchema>;
export type GateJob = z.infer<typeof gateJobSchema>;

/** What a lane's job leaves behind for people. */
export interface LaneResult {
  readonly ended: 'caught up' | 'at a gate' | 'stopped' | 'handed over' | 'waiting';
  readonly from: number;
  readonly to: number;
  readonly commands: number;
  readonly bytes: number;
  readonly ms: number;
}

export interface GateResult {
  readonly ended: 'executed' | 'already executed' | 'early' | 'stopped' | 'void';
  readonly ms: number;
}
