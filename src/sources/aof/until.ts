import { StopError } from '../../runtime/errors.ts';
import { type LogFile, readHead } from './files.ts';
import { indexOf, type LogOptions, readLog } from './log.ts';
import { type Place, startOf } from './place.ts';

/** ctime is among the first things in an RDB. */
const RDB_HEAD_BYTES = 512;
const CTIME = Buffer.from('\xfa\x05ctime\xc2', 'latin1');

/**
 * Whether the log can tell where the wanted time is, before any of it is applied: finds the first timestamp behind
 * `from`, which is near the beginning, or nowhere.
 * @throws StopError UNTIL_TIME
 */
export async function checkUntilTime(from: Place, options: LogOptions, signal: AbortSignal): Promise<void> {
  const { files, untilMs } = options;
  if (untilMs === undefined || from.seconds !== undefined) return;
  const base = files[indexOf(from, files)] as LogFile;
  const madeMs = base.hasRdb && (from.rdb !== undefined || from.offset === 0) ? madeAt(base) : undefined;
  if (madeMs !== undefined && madeMs > untilMs) throw tooEarly(base.path, madeMs, untilMs);
  const first = await firstTimestamp(behindBase(from, base, files), options, signal);
  if (first === 'none' && !signal.aborted) throw withoutTimestamps(base.path);
  if (typeof first === 'object' && first.hasBefore && first.ms > untilMs)
    throw tooEarly(base.path, first.ms, untilMs);
}

/** Nothing in an RDB that is a file of its own has a timestamp: the search need not read it. */
function behindBase(from: Place, base: LogFile, files: readonly LogFile[]): Place {
  const next = files[files.indexOf(base) + 1];
  return base.hasRdb && next !== undefined ? startOf(next.id) : from;
}

async function firstTimestamp(
  from: Place,
  options: LogOptions,
  signal: AbortSignal,
): Promise<'none' | 'no commands' | { readonly ms: number; readonly hasBefore: boolean }> {
  let hasBefore = false;
  for await (const entries of readLog(from, { ...options, untilMs: undefined, onNotice: () => {} })) {
    if (signal.aborted) break;
    for (const entry of entries) {
      if (entry.from.seconds !== undefined) return { ms: entry.from.seconds * 1000, hasBefore };
      // What an RDB holds is as old as the RDB.
      if (!entry.isMade) hasBefore = true;
    }
  }
  return hasBefore ? 'none' : 'no commands';
}

function madeAt({ fd }: LogFile): number | undefined {
  const head = readHead(fd, RDB_HEAD_BYTES);
  const at = head.indexOf(CTIME);
  return at < 0 || at + CTIME.length + 4 > head.length
    ? undefined
    : head.readUInt32LE(at + CTIME.length) * 1000;
}

function tooEarly(path: string, firstMs: number, untilMs: number): StopError {
  const [first, until] = [firstMs, untilMs].map((ms) => new Date(ms).toISOString());
  return new StopError(
    'UNTIL_TIME',
    `${path} holds what is later than --until-time ${until}: it tells times from ${first} on`,
    {
      hint: 'give a later time, or an older copy of the log',
    },
  );
}

function withoutTimestamps(path: string): StopError {
  return new StopError('UNTIL_TIME', `${path} has no timestamps: it cannot be read up to a time`, {
    hint: 'leave --until-time out; for later logs: CONFIG SET aof-timestamp-enabled yes at the server that writes them',
  });
}
