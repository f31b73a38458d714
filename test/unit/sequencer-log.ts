import { Classifier } from '../../src/binlog/classify.ts';
import { CommandTable } from '../../src/binlog/command-table.ts';
import { parseLine } from '../../src/binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import {
  type GateItem,
  type LaneItem,
  parseGateItem,
  parseLaneItem,
  readIndex,
} from '../../src/journal/item.ts';
import type { Round } from '../../src/journal/journal.ts';
import { Sequencer, type SequencerOptions, type SequencerStep } from '../../src/sequencer/sequencer.ts';
import type { Entry } from '../../src/sources/source.ts';

// What the tests of the sequencer share: entries from text, a sequencer with defaults, and rounds read back.

const table = CommandTable.shipped();
export const GENERATION = '1.ab';
export const LANES = 4;

export interface Made {
  readonly steps: SequencerStep[];
  readonly rounds: Round[];
  readonly seq: number;
}

/** One line per command, in redis-cli's quoting; `position` is the entry's number from 1. */
export function entry(at: number, lines: readonly string[], more: Partial<Entry> = {}): Entry {
  const resp = Buffer.concat(lines.map((line) => encodeCommand(parseLine(line))));
  return { position: String(at), resp, skip: 0, db: 0, timeMs: 1_000, malformed: undefined, ...more };
}

export function sequencer(
  options: Partial<SequencerOptions> & { splitMultiKey?: boolean; lacks?: ReadonlySet<string> } = {},
): Sequencer {
  const { splitMultiKey = true, lacks = new Set<string>(), limits, ...rest } = options;
  const classifier = new Classifier({
    table,
    splitMultiKey,
    publish: false,
    scriptKeys: 'all',
    pipeline: 'default',
    lacks,
    respells: options.spelling !== undefined,
    ...(options.rewriteRules === undefined ? {} : { rewriteRules: options.rewriteRules }),
  });
  const defaults = {
    roundBytesMax: 1e6,
    segmentBytesMax: 1e6,
    segmentGapMax: 4,
    transactionBytesMax: 1e6,
  };
  return new Sequencer({
    table,
    classifier,
    generation: GENERATION,
    head: 0,
    tails: Array.from({ length: LANES }, () => 0),
    databases: 16,
    positionInside: (entry, taken) => `${entry.position}:${taken}`,
    onPoison: () => ({ kind: 'stop' }),
    ...rest,
    limits: { ...defaults, ...limits },
  });
}

export function run(made: Sequencer, ...chunks: readonly (readonly Entry[])[]): Made {
  const steps = chunks.flatMap((chunk) => [...made.rounds(chunk)]);
  const rounds = steps.flatMap((step) => (step.kind === 'round' ? [step.round] : []));
  return { steps, rounds, seq: made.seq };
}

export interface Read {
  readonly lanes: Map<number, LaneItem[]>;
  readonly gates: GateItem[];
  readonly dead: { seq: number; record: string; commands: string }[];
}

const NAME = Buffer.from('h');

/** The items of rounds as the journal would give them back. */
export function read(rounds: readonly Round[]): Read {
  const lanes = new Map<number, LaneItem[]>();
  const gates: GateItem[] = [];
  const dead: Read['dead'] = [];
  for (const item of rounds.flatMap((round) => round.items)) {
    const header = `${item.header} 0`;
    const fields = [NAME, item.index, NAME, item.commands];
    if (item.where === 'd')
      dead.push({ seq: item.seq, record: item.header, commands: String(item.commands) });
    else if (item.where === 'g') gates.push(parseGateItem(item.seq, header, fields));
    else {
      const raw = [NAME, Buffer.from(header), ...(item.commands.length > 0 ? fields : [])];
      const known = lanes.get(item.where) ?? [];
      lanes.set(item.where, [...known, parseLaneItem([Buffer.from(`${item.seq}-0`), raw])]);
    }
  }
  return { lanes, gates, dead };
}

/** Commands of an item as `seq db words`, inserted SELECTs left out. */
export function commandsOf(item: LaneItem | GateItem): string[] {
  const scanner = new RespScanner();
  scanner.reset(item.commands);
  let db = item.db;
  const found: string[] = [];
  for (const command of readIndex(item.index, 'lanes' in item ? 'gate' : item.first)) {
    scanner.next();
    const words = scanner.args().map(String).join(' ');
    if (command.inserted) db = Number(scanner.arg(1));
    else found.push(`${command.seq} db${db} ${words}${command.lanes ? ` [${command.lanes}]` : ''}`);
  }
  if (scanner.next()) throw new Error('more commands than the index has');
  return found;
}
