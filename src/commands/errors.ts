import type { Redis } from 'ioredis';
import { formatCommand } from '../binlog/quoting.ts';
import { RespError, RespScanner } from '../binlog/resp.ts';
import type { StopRecord } from '../journal/records.ts';
import type { CommandContext } from './context.ts';
import { escapeControl, formatCount } from './format.ts';
import { withPipelineOrItsRemains } from './open-pipeline.ts';
import { stopText } from './stop-text.ts';

/** Of each stream the newest are shown; the rest is counted. */
const SHOWN_MAX = 1_000;

/** What the streams hold beside the bytes: written by several places, read leniently. */
type Written = Readonly<Record<string, unknown>>;

interface Found {
  readonly id: string;
  readonly record: Written;
  /** With --values: the commands as redis-cli would take them. */
  readonly commands?: readonly string[];
}

interface Listing {
  readonly total: number;
  readonly newest: readonly Found[];
}

export async function errors(context: CommandContext): Promise<number> {
  const { config, stdout } = context;
  return await withPipelineOrItsRemains(context, async ({ redis, journal, records }) => {
    const { keys } = journal;
    const inForce = await journal.inForce();
    const stops = [...(await records.stops())]
      .filter(([place, { generation }]) => place === 'ingest' || generation === inForce?.generation)
      .map(([place, record]) => ({ place, ...record }));
    const all = await list(redis, keys.divergences, config.values);
    const deadLetters = await list(redis, keys.deadLetters, config.values);
    const leftOut = await list(redis, keys.leftOut, false);
    const divergences = all.newest.filter(({ record }) => record.kind !== 'unverified');
    const unverified = all.newest.filter(({ record }) => record.kind === 'unverified');
    if (config.json) {
      const flat = ({ id, record, commands }: Found) => ({
        id,
        ...record,
        ...(commands ? { commands } : {}),
      });
      stdout.write(
        `${JSON.stringify({
          stops,
          divergences: divergences.map(flat),
          unverified: unverified.map(flat),
          deadLetters: deadLetters.newest.map(flat),
          leftOut: leftOut.newest.map(flat),
          totals: { divergences: all.total, deadLetters: deadLetters.total, leftOut: leftOut.total },
        })}\n`,
      );
      return 0;
    }
    stdout.write(
      [
        ...section('stops', stops.length, stops.map(stopLine)),
        ...section('divergences', divergences.length, divergences.map(foundLine)),
        ...section('unverified', unverified.length, unverified.map(foundLine)),
        ...section('dead letters', deadLetters.total, deadLetters.newest.map(foundLine)),
        ...(leftOut.total > 0
          ? section('keys left out', leftOut.total, leftOut.newest.map(leftOutLine))
          : []),
        ...(all.total > SHOWN_MAX
          ? [`the newest ${SHOWN_MAX} of ${formatCount(all.total)} divergences are shown\n`]
          : []),
      ].join(''),
    );
    return 0;
  });
}

async function list(redis: Redis, key: string, values: boolean): Promise<Listing> {
  const total = await redis.xlen(key);
  const entries = (await redis.callBuffer('XREVRANGE', key, '+', '-', 'COUNT', SHOWN_MAX)) as unknown as [
    Buffer,
    Buffer[],
  ][];
  const newest = entries.reverse().map(([id, fields]): Found => {
    const record = readRecord(fields[1]);
    return { id: String(id), record, ...(values ? { commands: decode(fields[3]) } : {}) };
  });
  return { total, newest };
}

function readRecord(text: Buffer | undefined): Written {
  try {
    const value: unknown = JSON.parse(String(text));
    if (typeof value === 'object' && value !== null) return value as Written;
  } catch {
    // Said below: a record that nobody can read is still one that people must see.
  }
  return { reason: 'a record that cannot be read' };
}

/** What does not scan as commands (a malformed entry) is shown as it is. */
function decode(bytes: Buffer | undefined): string[] {
  if (bytes === undefined || bytes.length === 0) return [];
  const scanner = new RespScanner();
  scanner.reset(bytes);
  const commands: string[] = [];
  try {
    while (scanner.next()) commands.push(formatCommand(scanner.args()));
  } catch (error) {
    if (!(error instanceof RespError)) throw error;
    commands.push(formatCommand([bytes.subarray(scanner.start)]));
  }
  return commands;
}

function section(title: string, count: number, lines: readonly string[]): string[] {
  return [`${title}: ${count === 0 ? 'none' : formatCount(count)}\n`, ...lines];
}

function stopLine({ place, ...record }: StopRecord & { place: string }): string {
  return `  ${stopText(place, record).trimEnd().replace('\n', '\n  ')}\n`;
}

function leftOutLine({ record: { atMs, db, key, reason } }: Found): string {
  return `  ${escapeControl(`${whenOf(atMs)}  ${db}, key ${key}: ${reason}`)}\n`;
}

function whenOf(atMs: unknown): string {
  return typeof atMs === 'number' ? new Date(atMs).toISOString() : '?';
}

function foundLine({ record, commands }: Found): string {
  const { atMs, seq, through, lanes, place, position, command, key, reason, by, cause } = record;
  const range = through === undefined || through === seq ? `seq ${seq ?? '?'}` : `seq ${seq}..${through}`;
  const where = place ?? (Array.isArray(lanes) ? `lanes ${lanes.join(',')}` : '');
  const what = command ? `, ${command}${key ? ` of key ${key}` : ''}` : '';
  const who = by ? ` (by ${by}${cause ? `; it stood still for: ${cause}` : ''})` : '';
  const at = typeof position === 'string' && position !== '' ? ` (${position})` : '';
  const head = `  ${whenOf(atMs)}  ${where} ${range}${at}${what}: ${reason}${who}`;
  return `${[escapeControl(head), ...(commands ?? []).map((line) => `    ${line}`)].join('\n')}\n`;
}
