import { RESERVED_PREFIX } from '../src/binlog/reserved-keys.ts';
import type { FencedSession } from '../src/target/session.ts';
import { ReplyError } from '../src/wire/replies.ts';

const SCAN_COUNT = 5_000;

/** Keys per database of the target, from INFO keyspace. */
export async function dataOf(
  session: FencedSession,
): Promise<{ keys: number; text: string; databases: readonly number[] }> {
  if (session.traits.pika !== undefined) return await scannedData(session);
  const info = String(await session.call(['INFO', 'keyspace']));
  const found = [...info.matchAll(/^db(\d+):keys=(\d+)/gm)].map(([, db, keys]) => ({
    db: Number(db),
    keys: Number(keys),
  }));
  return {
    keys: found.reduce((sum, { keys }) => sum + keys, 0),
    text: found.map(({ db, keys }) => `db${db}: ${keys}`).join(', '),
    databases: found.map(({ db }) => db),
  };
}

/** INFO of a Pika counts when it is asked to, and later: here it only matters whether there is anything. */
async function scannedData(
  session: FencedSession,
): Promise<{ keys: number; text: string; databases: readonly number[] }> {
  const found: { db: number; keys: number }[] = [];
  try {
    for (let db = 0, databases = await databasesOf(session); db < databases; db++) {
      await session.call(['SELECT', db]);
      const [, keys] = (await session.call(['SCAN', '0', 'COUNT', SCAN_COUNT])) as [Buffer, Buffer[]];
      if (keys.length > 0) found.push({ db, keys: keys.length });
    }
  } finally {
    await session.call(['SELECT', session.db]);
  }
  return {
    keys: found.reduce((sum, { keys }) => sum + keys, 0),
    text: found.map(({ db, keys }) => `db${db}: ${keys}${keys < SCAN_COUNT ? '' : ' or more'}`).join(', '),
    databases: found.map(({ db }) => db),
  };
}

/** Name of another pipeline whose identity lies in this target, in any database. */
export async function otherPipeline(session: FencedSession, ownPrefix: string): Promise<string | undefined> {
  const { databases } = await dataOf(session);
  try {
    for (const db of databases) {
      await session.call(['SELECT', db]);
      for (let cursor = '0', first = true; first || cursor !== '0'; first = false) {
        const reply = await session.call([
          'SCAN',
          cursor,
          'MATCH',
          `${RESERVED_PREFIX}*:identity`,
          'COUNT',
          SCAN_COUNT,
        ]);
        const [next, keys] = reply as [Buffer, Buffer[]];
        const other = keys.map(String).find((key) => !key.startsWith(ownPrefix));
        if (other !== undefined) return other.slice(RESERVED_PREFIX.length, -':identity'.length);
        cursor = String(next);
      }
    }
  } finally {
    await session.call(['SELECT', session.db]);
  }
  return undefined;
}

const DATABASES_DEFAULT = 16;

/** Number of databases; servers that do not answer CONFIG are taken to have the usual 16. */
export async function databasesOf(session: FencedSession): Promise<number> {
  try {
    const reply = (await session.call(['CONFIG', 'GET', 'databases'])) as Buffer[];
    return Number(reply[1] ?? DATABASES_DEFAULT);
  } catch (error) {
    if (error instanceof ReplyError) return await probeDatabases(session);
    throw error;
  }
}

async function probeDatabases(session: FencedSession): Promise<number> {
  try {
    for (let db = 1; db < DATABASES_DEFAULT; db++) {
      try {
        await session.call(['SELECT', db]);
      } catch (error) {
        if (error instanceof ReplyError) return db;
        throw error;
      }
    }
    return DATABASES_DEFAULT;
  } finally {
    await session.call(['SELECT', session.db]);
  }
}
