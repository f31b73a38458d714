// The keys that the journal's records name: those of commands that failed inside EXEC, and those of batches whose replies
// nobody read, as long as the lane log still holds them. A record whose keys cannot be told counts as `unnamed`.
// Memory: KEYS_MAX keys; a record that would need more is `unnamed` as well.

import type { Redis } from 'ioredis';
import type { CommandTable } from '../binlog/command-table.ts';
import { keysOf } from '../binlog/keys.ts';
import { RespError, RespScanner } from '../binlog/resp.ts';
import type { LaneItem } from '../journal/item.ts';
import type { Journal } from '../journal/journal.ts';

const PAGE = 200;
const ITEMS = 16;
const KEYS_MAX = 20_000;

export interface NamedKeys {
  readonly records: number;
  readonly unnamed: number;
  readonly keys: readonly Buffer[];
}

interface Span {
  readonly kind: string;
  readonly generation: string;
  readonly seq: number;
  readonly through: number;
  readonly lanes: readonly number[];
}

export async function namedKeys(redis: Redis, journal: Journal, table: CommandTable): Promise<NamedKeys> {
  const found = new Map<string, Buffer>();
  let records = 0;
  let unnamed = 0;
  for (let from = '-'; ; ) {
    const page = (await redis.callBuffer(
      'XRANGE',
      journal.keys.divergences,
      from,
      '+',
      'COUNT',
      PAGE,
    )) as unknown as [Buffer, Buffer[]][];
    for (const [, fields] of page) {
      records++;
      const keys = await keysOfRecord(journal, table, fields);
      if (keys === undefined || found.size + keys.length > KEYS_MAX) unnamed++;
      else for (const key of keys) found.set(key.toString('latin1'), Buffer.from(key));
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return { records, unnamed, keys: [...found.values()] };
    from = `(${last[0]}`;
  }
}

async function keysOfRecord(
  journal: Journal,
  table: CommandTable,
  fields: readonly Buffer[],
): Promise<Buffer[] | undefined> {
  const span = readSpan(fields[1]);
  if (span === undefined) return undefined;
  if (span.kind !== 'unverified') return keysOfCommands(table, [fields[3] ?? Buffer.alloc(0)]);
  const commands: Buffer[] = [];
  for (const lane of span.lanes) {
    const some = await commandsOfLane(journal, lane, span);
    if (some === undefined) return undefined;
    commands.push(...some);
  }
  return keysOfCommands(table, commands);
}

/** Undefined when the lane log does not hold the whole span any more. */
async function commandsOfLane(journal: Journal, lane: number, span: Span): Promise<Buffer[] | undefined> {
  const commands: Buffer[] = [];
  for (let after = span.seq - 1; after < span.through; ) {
    const items = await journal.readLane(lane, after, ITEMS);
    for (const item of items) {
      // What was trimmed, or cut anew, leaves a gap.
      if (item.generation !== span.generation || item.previous > after) return undefined;
      const bytes = await bytesOf(journal, item);
      if (bytes === undefined) return undefined;
      commands.push(bytes);
      after = item.seq;
      if (after >= span.through) return commands;
    }
    if (items.length === 0) return undefined;
  }
  return commands;
}

async function bytesOf(journal: Journal, item: LaneItem): Promise<Buffer | undefined> {
  return item.kind === 'batch' ? item.commands : (await journal.readGate(item.seq))?.commands;
}

/** Undefined when one of them touches keys that it does not name. */
function keysOfCommands(table: CommandTable, commands: readonly Buffer[]): Buffer[] | undefined {
  const keys: Buffer[] = [];
  const scanner = new RespScanner();
  try {
    for (const bytes of commands) {
      scanner.reset(bytes);
      while (scanner.next()) {
        const spec = table.resolve(scanner);
        if (spec === undefined) return undefined;
        const found = keysOf(scanner, spec);
        const isContext = ['SELECT', 'MULTI', 'EXEC'].includes(spec.name);
        if (found.certainty !== 'exact' || (found.keys.length === 0 && !isContext)) return undefined;
        for (const at of found.keys) keys.push(scanner.arg(at));
      }
    }
  } catch (error) {
    if (error instanceof RespError) return undefined;
    throw error;
  }
  return keys.length === 0 ? undefined : keys;
}

function readSpan(text: Buffer | undefined): Span | undefined {
  try {
    const { kind, generation, seq, through, lanes } = JSON.parse(String(text)) as Partial<Span>;
    if (kind === undefined || generation === undefined || seq === undefined || !Array.isArray(lanes))
      return undefined;
    return { kind, generation, seq, through: through ?? seq, lanes };
  } catch {
    return undefined;
  }
}
