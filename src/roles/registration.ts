import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import * as z from 'zod';
import type { JournalKeys } from '../journal/keys.ts';

/** Without a new registration for so long, a worker counts as dead. */
export const REGISTRATION_MS_MAX = 10_000;

const registrationSchema = z.object({
  id: z.string(),
  host: z.string(),
  pid: z.int(),
  /** None while it is not admitted yet. */
  roles: z.array(z.string()),
  /** Of a process that may ingest: fingerprint of what decides which commands are applied, and of how it writes the journal. */
  policy: z.string().optional(),
  lanes: z.array(z.int()),
  atMs: z.number(),
  /** Of the ingest's holder: what it knows of the source. */
  ingest: z
    .object({
      /** Not of a process of an older version. */
      kind: z.string().optional(),
      connected: z.boolean(),
      sourcePosition: z.string().nullable(),
      headPosition: z.string().nullable().default(null),
      lagEntries: z.number().nullable(),
      unreadSinceMs: z.number().nullable().default(null),
      snapshot: z
        .object({
          phase: z.enum(['connecting', 'waiting', 'receiving', 'loading', 'streaming', 'full']),
          receivedBytes: z.number(),
          totalBytes: z
            .number()
            .nullish()
            .transform((bytes) => bytes ?? null),
          loadedBytes: z.number(),
          keys: z.number(),
          spooledBytes: z.number(),
          bytesPerSecond: z.number().nullable(),
          msLeft: z.number().nullable(),
        })
        .nullable()
        .default(null),
    })
    .nullish(),
});

/** What each process writes into the workers' hash once a second. */
export type Registration = z.infer<typeof registrationSchema>;

/** Workers whose registration is fresh, by id. */
export async function aliveWorkers(redis: Redis, keys: JournalKeys, nowMs: number): Promise<Registration[]> {
  const all = Object.values(await redis.hgetall(keys.workers)).flatMap((text) => {
    const parsed = registrationSchema.safeParse(readJson(text));
    return parsed.success ? [parsed.data] : [];
  });
  return all.filter(({ atMs }) => nowMs - atMs <= REGISTRATION_MS_MAX).sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Raised when processes of before must not write the same journal: 2 since a commit watches its fence. */
const JOURNAL_VERSION = 2;

export function policyFingerprint(policy: Readonly<Record<string, unknown>>): string {
  return createHash('sha256')
    .update(JSON.stringify([JOURNAL_VERSION, policy]))
    .digest('hex')
    .slice(0, 16);
}

function readJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
