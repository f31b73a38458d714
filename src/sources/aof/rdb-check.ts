import { Crc64 } from '../../rdb/crc64.ts';
import { RdbError } from '../../rdb/rdb-error.ts';
import { blocksOf } from './blocks.ts';
import { type LogFile, readHead } from './files.ts';
import { malformedRdb } from './log.ts';

const CHECKSUM_BYTES = 8;
/** Older files end without one; newer ones may have zeros there (`rdbchecksum no`). */
const CHECKSUM_SINCE = 5;
const NO_CHECKSUM = Buffer.alloc(CHECKSUM_BYTES);
/** Checking takes about a second a gigabyte: for larger files it is said how far it is. */
const NOTICE_BYTES = 4 * 1024 ** 3;

/**
 * Reads an RDB file once to its end and compares its CRC64, so that a damaged one is refused before its first key is
 * applied. @throws StopError MALFORMED
 */
export async function checkRdb(
  file: LogFile,
  { signal, onNotice }: { readonly signal: AbortSignal; readonly onNotice: (text: string) => void },
): Promise<void> {
  const { path, fd, bytes } = file;
  const end = bytes - CHECKSUM_BYTES;
  const version = Number(/^(?:REDIS|VALKEY)(\d{3,4})$/.exec(readHead(fd, 9).toString('latin1'))?.[1] ?? 0);
  if (version < CHECKSUM_SINCE) return;
  const stored = readHead(fd, CHECKSUM_BYTES, Math.max(0, end));
  if (stored.equals(NO_CHECKSUM)) {
    onNotice(`${path} has no checksum (rdbchecksum no): damage in it cannot be seen beforehand`);
    return;
  }
  const crc = new Crc64();
  let sum: Buffer = Buffer.alloc(CHECKSUM_BYTES);
  let at = 0;
  for await (const block of blocksOf({ path, fd, from: 0, to: Math.max(0, end) })) {
    if (signal.aborted) return;
    sum = crc.sum(sum, block);
    if (Math.floor(at / NOTICE_BYTES) < Math.floor((at + block.length) / NOTICE_BYTES))
      onNotice(`${path}: checked ${gib(at + block.length)} of ${gib(bytes)} GiB`);
    at += block.length;
  }
  if (!sum.equals(stored))
    throw malformedRdb(
      path,
      new RdbError(end, 'the CRC64 of what stands in front of it (the file is damaged)'),
    );
}

function gib(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1);
}
