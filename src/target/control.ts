import { randomBytes } from 'node:crypto';
import * as z from 'zod';
import { RESERVED_PREFIX } from '../binlog/reserved-keys.ts';

// What the pipeline keeps in the target, in the same EXEC as the data: identity, low-water mark and one
// checkpoint per lane. Together with the source it is enough to go on from (I5).

export const FORMAT = 1;

/**
 * By how much the deadlines of a file are held back, ms (some 950 years): it may be of any age. So large that a deadline says
 * by itself whether it still is, and small enough for those of hash fields (46 bits in Redis).
 */
export const FILE_GRACE_MS = 3e13;

const identitySchema = z
  .strictObject({
    format: z.literal(FORMAT),
    pipeline: z.string(),
    source: z.string(),
    from: z.string(),
    lanes: z.int().min(1),
    routing: z.string(),
    generation: z.string(),
    journal: z.string(),
    /** Commands that the target has and the shipped table has not, as CommandTable.additions() writes them. */
    commands: z.string(),
    graceMs: z.number(),
    /** Deadlines are not held back: the target is in import mode, and has to stay in it. */
    importMode: z.literal(true).optional(),
  })
  .readonly();

/** Who writes here. `routing` is the fingerprint of everything that decides which lanes a command needs. */
export type Identity = z.infer<typeof identitySchema>;

const markSchema = z
  .strictObject({
    generation: z.string(),
    mark: z.int(),
    /** Resume position at or before the mark, the seq before it, and the lanes' tails there. */
    position: z.string(),
    seq: z.int(),
    tails: z.array(z.int()).readonly(),
    timeMs: z.number(),
  })
  .readonly();

/** Everything up to `mark` is applied. */
export type Mark = z.infer<typeof markSchema>;

export interface Checkpoint {
  readonly generation: string;
  readonly seq: number;
}

export class ControlKeys {
  readonly prefix: string;
  readonly identity: string;
  readonly mark: string;
  /** Stands while a FLUSHDB that must be alone is about to run, and is gone once it has (protocol/flush-gate.ts). */
  readonly sentinel: string;

  constructor(name: string) {
    this.prefix = `${RESERVED_PREFIX}${name}:`;
    this.identity = `${this.prefix}identity`;
    this.mark = `${this.prefix}mark`;
    this.sentinel = `${this.prefix}flush`;
  }

  checkpoint(lane: number): string {
    return `${this.prefix}ck:${lane}`;
  }

  checkpoints(lanes: number): string[] {
    return Array.from({ length: lanes }, (_, lane) => this.checkpoint(lane));
  }

  all(lanes: number): string[] {
    return [this.identity, this.mark, ...this.checkpoints(lanes)];
  }
}

export function formatCheckpoint(checkpoint: Checkpoint): string {
  return `${checkpoint.generation}:${checkpoint.seq}`;
}

/** Undefined for anything that is not a checkpoint: the caller stops, it never starts from 0. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const found = /^(\d+\.[0-9a-f]+):(\d+)$/.exec(text);
  if (!found?.[1]) return undefined;
  return { generation: found[1], seq: Number(found[2]) };
}

/** A counter and a random suffix, compared whole. */
export function nextGeneration(current: string | undefined): string {
  const counter = current === undefined ? 0 : Number.parseInt(current, 10);
  return `${counter + 1}.${randomBytes(4).toString('hex')}`;
}

export function newJournalId(): string {
  return `j${randomBytes(8).toString('hex')}`;
}

export const parseIdentity = remembering((text) => parseAs(identitySchema, text));

export const parseMark = remembering((text) => parseAs(markSchema, text));

/** Looks come many times a second and find the same text. What is handed out is frozen (`readonly` of the schemas). */
function remembering<T>(parse: (text: string) => T): (text: string) => T {
  let last: { readonly text: string; readonly value: T } | undefined;
  return (text) => {
    if (last?.text !== text) last = { text, value: parse(text) };
    return last.value;
  };
}

function parseAs<T>(schema: z.ZodType<T>, text: string): T | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const parsed = schema.safeParse(value);
  return parsed.success ? parsed.data : undefined;
}
