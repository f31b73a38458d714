import { RespScanner } from '../../../src/binlog/resp.ts';
import {
  type RdbEnd,
  type RdbEntry,
  type ReadRdbOptions,
  type RestoreRules,
  readRdb,
} from '../../../src/rdb/rdb-log.ts';

/** What a Redis 7.0 takes. */
export const REDIS_7_0: RestoreRules = { rdbVersion: 10, bulkBytesMax: 512 * 1024 * 1024 };
/** A target without RESTORE. */
export const NO_RESTORE: RestoreRules = { rdbVersion: 0, bulkBytesMax: 512 * 1024 * 1024 };

export interface Collected {
  readonly entries: RdbEntry[];
  readonly end: RdbEnd;
  readonly notices: string[];
  readonly aux: Map<string, string>;
}

export async function collect(
  bytes: AsyncIterable<Buffer>,
  options: Partial<ReadRdbOptions> = {},
): Promise<Collected> {
  const entries: RdbEntry[] = [];
  const notices: string[] = [];
  const aux = new Map<string, string>();
  const log = readRdb(bytes, {
    rules: REDIS_7_0,
    onNotice: (text) => notices.push(text),
    onAux: (name, value) => aux.set(name, value),
    ...options,
  });
  for (;;) {
    const step = await log.next();
    if (step.done === true) return { entries, end: step.value, notices, aux };
    entries.push(...step.value.entries);
  }
}

/** The bytes in pieces of the sizes that `size` gives. */
export async function* cut(file: Buffer, size: () => number): AsyncGenerator<Buffer> {
  for (let at = 0; at < file.length; ) {
    const end = Math.min(file.length, at + size());
    // A copy of its own: whoever keeps a view too long would see it overwritten.
    const piece = Buffer.from(file.subarray(at, end));
    yield piece;
    at = end;
  }
}

export function whole(file: Buffer): AsyncGenerator<Buffer> {
  return cut(file, () => file.length);
}

export function commandsOf(entries: readonly RdbEntry[]): Buffer[][] {
  const scanner = new RespScanner();
  const commands: Buffer[][] = [];
  for (const { resp } of entries) {
    scanner.reset(resp);
    while (scanner.next()) commands.push(scanner.args());
  }
  return commands;
}

/** `SET k v` */
export function textOf(entries: readonly RdbEntry[]): string[] {
  return commandsOf(entries).map((args) => args.map((arg) => arg.toString('latin1')).join(' '));
}
