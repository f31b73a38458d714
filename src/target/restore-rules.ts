import type { RestoreRules } from '../rdb/rdb-log.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { Connection } from '../wire/connection.ts';
import { ReplyError } from '../wire/replies.ts';

const TIMEOUTS = { connectTimeoutMs: 5_000, replyTimeoutMs: 10_000 };
const BULK_BYTES_DEFAULT = 512 * 1024 * 1024;
/** Footer of what DUMP gives: version (2 bytes), CRC64. */
const FOOTER_BYTES = 10;
/** Below Redis 7.0 there is nothing to dump that is always there: the version of the server tells. */
const BEFORE_FUNCTIONS: readonly (readonly [major: number, minor: number, rdbVersion: number])[] = [
  [5, 0, 9],
  [4, 0, 8],
  [3, 2, 7],
];
const OLDEST_RDB_VERSION = 6;

/**
 * What the target's RESTORE takes, found out without a write. A target that does not say is given what every server of
 * its version takes.
 * @throws ConnectionLost, ReplyError when it cannot be reached
 */
export async function restoreRulesOf(target: Endpoint): Promise<RestoreRules> {
  const connection = await Connection.open(target, TIMEOUTS);
  try {
    const [functions, info, limit, restore] = await connection.callMany([
      ['FUNCTION', 'DUMP'],
      ['INFO', 'server'],
      ['CONFIG', 'GET', 'proto-max-bulk-len'],
      ['COMMAND', 'INFO', 'RESTORE'],
    ]);
    const bulkBytesMax = Array.isArray(limit) ? Number(limit[1] ?? BULK_BYTES_DEFAULT) : BULK_BYTES_DEFAULT;
    // A Pika knows neither.
    const lacking = restore instanceof ReplyError && /^pika_version:/m.test(String(info));
    if (lacking || (Array.isArray(restore) && restore[0] === null)) return { rdbVersion: 0, bulkBytesMax };
    if (Buffer.isBuffer(functions) && functions.length >= FOOTER_BYTES)
      return { rdbVersion: functions.readUInt16LE(functions.length - FOOTER_BYTES), bulkBytesMax };
    return { rdbVersion: rdbVersionOf(String(info)), bulkBytesMax };
  } finally {
    connection.close();
  }
}

function rdbVersionOf(info: string): number {
  const [major = 0, minor = 0] = (/^redis_version:(\d+)\.(\d+)/m.exec(info) ?? []).slice(1).map(Number);
  const found = BEFORE_FUNCTIONS.find(([a, b]) => major > a || (major === a && minor >= b));
  return found?.[2] ?? OLDEST_RDB_VERSION;
}
