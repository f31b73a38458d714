import { Classifier, type Verdict } from '../binlog/classify.ts';
import { CommandTable } from '../binlog/command-table.ts';
import { laneOf, slotOf } from '../binlog/lane-map.ts';
import { formatCommand, formatKey, parseLine, QuotingError } from '../binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../binlog/resp.ts';
import { rewriteFor } from '../binlog/rewrite.ts';
import { TargetView } from '../roles/target-view.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import type { Identity } from '../target/control.ts';
import type { CommandContext } from './context.ts';

const LANES_DEFAULT = 8;

interface Explanation {
  readonly command: string;
  /** keyed, multi-key, global, context, ignored or refused */
  readonly class: string;
  readonly keys: readonly string[];
  readonly slots: readonly number[];
  readonly lanes: readonly number[];
  readonly lanesOf: number;
  /** Lanes that a gate waits for; null where none is needed. */
  readonly gate: readonly number[] | null;
  readonly split: boolean;
  /** What is sent instead, counted from now. */
  readonly rewrite: string | null;
  readonly refusal: { readonly code: string; readonly reason: string } | null;
  readonly why: string;
}

export async function explain(context: CommandContext): Promise<number> {
  const { config, stdout } = context;
  const args = readCommand(context.positionals);
  const identity = await identityOf(context);
  const lanes = config.lanes ?? identity?.lanes ?? LANES_DEFAULT;
  const table =
    identity === undefined ? CommandTable.shipped() : CommandTable.withAdditions(identity.commands);
  const { splitMultiKey, publish, scriptKeys, allow, deny } = config;
  const classifier = new Classifier({
    table,
    splitMultiKey,
    publish,
    scriptKeys,
    allow,
    deny,
    pipeline: config.name,
  });
  const explanation = explained(args, classifier, lanes);
  stdout.write(config.json ? `${JSON.stringify(explanation)}\n` : text(explanation));
  return 0;
}

/** One operand is a whole line, several are its words. */
function readCommand(positionals: readonly string[]): Buffer[] {
  const [line = ''] = positionals;
  if (positionals.length > 1) return positionals.map((word) => Buffer.from(word));
  try {
    const args = parseLine(line);
    if (args.length > 0) return args;
  } catch (error) {
    if (!(error instanceof QuotingError)) throw error;
    throw new ConfigurationError([`explain: ${error.message}`]);
  }
  throw new ConfigurationError(["explain: names no command; usage: lanegate explain 'RENAME a b'"]);
}

/** The pipeline's own lanes and commands, where a target is given that knows it. */
async function identityOf({ config, stderr }: CommandContext): Promise<Identity | undefined> {
  if (config.target === undefined) return undefined;
  const view = new TargetView(config.name, config.target);
  try {
    const { identity, waiting } = await view.look(undefined, Date.now());
    if (waiting !== null)
      stderr.write(`lanegate explain: ${waiting.hint}; the shipped command table is used\n`);
    return identity;
  } finally {
    view.close();
  }
}

function explained(args: readonly Buffer[], classifier: Classifier, lanes: number): Explanation {
  const scanner = new RespScanner();
  scanner.reset(encodeCommand(args));
  scanner.next();
  const verdict = classifier.classify(scanner);
  const keys = verdict.kind === 'keyed' ? verdict.keys : [];
  const slots = keys.map((key) => slotOf(key, 0, key.length));
  const all = Array.from({ length: lanes }, (_, lane) => lane);
  const own = [...new Set(slots.map((slot) => laneOf(slot, lanes)))].sort((a, b) => a - b);
  const needed = verdict.kind === 'all' ? all : own;
  const split = verdict.kind === 'keyed' && verdict.split !== undefined && needed.length > 1;
  const rewritten =
    verdict.kind === 'keyed' && verdict.rewrite ? rewriteFor(verdict.spec.name, args, Date.now()) : undefined;
  return {
    command:
      verdict.kind === 'poison' ? formatKey(args[0] ?? Buffer.alloc(0)).toUpperCase() : verdict.spec.name,
    class: classOf(verdict),
    keys: keys.map((key) => formatKey(key)),
    slots,
    lanes: needed,
    lanesOf: lanes,
    gate: verdict.kind === 'all' || (needed.length > 1 && !split) ? needed : null,
    split,
    rewrite: rewritten === undefined ? null : formatCommand(rewritten),
    refusal: verdict.kind === 'poison' ? { code: verdict.code, reason: verdict.reason } : null,
    why: whyOf(verdict, split),
  };
}

function classOf(verdict: Verdict): string {
  if (verdict.kind === 'keyed') return verdict.keys.length > 1 ? 'multi-key' : 'keyed';
  if (verdict.kind === 'all') return 'global';
  return verdict.kind === 'poison' ? 'refused' : verdict.kind;
}

const ALL_REASONS: Readonly<Record<Extract<Verdict, { kind: 'all' }>['reason'], string>> = {
  erases: 'it erases keys of every lane',
  swaps: 'it moves keys of every lane',
  script: 'a script may touch any key (--script-keys declared trusts the keys that it names)',
  library: 'it changes code that later commands of any lane may call',
  'no keys': 'it writes, and names no key',
  'keys unknown': 'its keys cannot all be told from the command',
  'sort patterns': 'BY and GET read keys that the command does not name',
};

function whyOf(verdict: Verdict, split: boolean): string {
  switch (verdict.kind) {
    case 'all':
      return ALL_REASONS[verdict.reason];
    case 'context':
      return 'it frames or places other commands, and is not sent by itself';
    case 'ignored':
      return 'it changes nothing at the target: counted and left out';
    case 'poison':
      return 'it stops ingest (--on-poison dead-letter leaves it out with a record)';
    case 'keyed':
      if (split) return 'it is cut into one part for each lane (--no-split-multi-key turns that off)';
      return verdict.undetermined
        ? 'its effect is not fixed by the log: applied as written'
        : 'its keys decide';
  }
}

function text(explanation: Explanation): string {
  const { command, keys, slots, lanes, lanesOf, gate, split, rewrite, refusal, why } = explanation;
  const rows: [string, string][] = [
    ['command', command],
    ['class', explanation.class],
  ];
  if (keys.length > 0) rows.push(['keys', keys.map((key, at) => `${key} (slot ${slots[at]})`).join(', ')]);
  if (lanes.length > 0) {
    const every = lanes.length === lanesOf ? `all ${lanesOf}` : `${lanes.join(', ')} of ${lanesOf}`;
    rows.push(['lanes', every]);
    rows.push([
      'gate',
      gate === null ? (split ? 'none: split into its lanes' : 'none') : `waits for ${every}`,
    ]);
  }
  if (rewrite !== null) rows.push(['sent as', rewrite]);
  if (refusal !== null) rows.push(['refused', `${refusal.code}: ${refusal.reason}`]);
  rows.push(['because', why]);
  return rows.map(([label, value]) => `${label.padEnd(9)}${value}\n`).join('');
}
