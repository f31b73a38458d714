// What a command must become so that it means the same when it is applied later, by an ordinary client:
// - a deadline relative to now becomes absolute, counted from the time of its entry;
// - LIMIT without '~' goes: Redis leaves it in what it propagates, and refuses it from a client;
// - where the source is a master's own link, NX/XX/GT/LT of the EXPIRE forms go: the master has decided;
// - where the source logs the DEL of an expired key itself, deadlines are held back by a grace.
// A number that cannot be read is left as it is: the target will say so, in its own words.

import { heldBack, mayHoldFieldDeadlines } from '../rdb/held-back.ts';
import { upperText } from './ascii.ts';
import { integerOf } from './integer.ts';
import { argEquals } from './keys.ts';
import type { RespScanner } from './resp.ts';
import { xaddOptions } from './xadd-options.ts';

export interface RewriteRules {
  /** The source is a replication link: conditions of EXPIRE forms are dropped. */
  readonly masterDecided: boolean;
  /** Added to every deadline, ms; above 0 absolute deadlines are rewritten as well. */
  readonly graceMs: number;
  /** The target expires keys when their deadlines say so: commands with absolute ones are looked at as well. */
  readonly watchesDeadlines?: boolean;
}

export const AS_WRITTEN: RewriteRules = { masterDecided: false, graceMs: 0 };

/** Told of a deadline, ms since 1970, that lay ahead when the source ran its command. */
type NoteDeadline = (atMs: number) => void;

interface Context extends RewriteRules {
  readonly timeMs: number;
  readonly note: NoteDeadline | undefined;
}

type Args = readonly Buffer[];
type Unit = 'EX' | 'PX' | 'EXAT' | 'PXAT';
type Rewrite = (args: Args, context: Context) => Buffer[] | undefined;

interface Rule {
  readonly rewrite: Rewrite;
  /** Cheap and without allocation: false if `rewrite` would change nothing. */
  readonly applies: (scanner: RespScanner, rules: RewriteRules) => boolean;
}

const OPTIONS_WITH_DEADLINE = ['EX', 'PX', 'EXAT', 'PXAT'] as const;
const CONDITIONS = ['NX', 'XX', 'GT', 'LT'] as const;
const DIGEST_CONDITIONS = ['IFEQ', 'IFNE', 'IFDEQ', 'IFDNE'];
const NOTHING = Buffer.alloc(0);
const PXAT = Buffer.from('PXAT');
/** Longer than any option. */
const OPTION_BYTES_MAX = 16;
const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['EXPIRE', expireRule('EX', 'PEXPIREAT')],
  ['PEXPIRE', expireRule('PX', 'PEXPIREAT')],
  ['EXPIREAT', expireRule('EXAT', 'PEXPIREAT')],
  ['PEXPIREAT', expireRule('PXAT', 'PEXPIREAT')],
  ['HEXPIRE', expireRule('EX', 'HPEXPIREAT')],
  ['HPEXPIRE', expireRule('PX', 'HPEXPIREAT')],
  ['HEXPIREAT', expireRule('EXAT', 'HPEXPIREAT')],
  ['HPEXPIREAT', expireRule('PXAT', 'HPEXPIREAT')],
  ['SETEX', setexRule('EX')],
  ['PSETEX', setexRule('PX')],
  ['SET', optionRule(() => 3)],
  ['GETEX', optionRule(() => 2)],
  ['HSETEX', optionRule(() => 2, 'FIELDS')],
  ['HGETEX', optionRule(() => 2, 'FIELDS')],
  ['MSETEX', optionRule(afterPairs)],
  ['RESTORE', restoreRule()],
  ['RESTORE-ASKING', restoreRule()],
  ['XADD', trimRule()],
  ['XTRIM', trimRule()],
]);

export const REWRITABLE: ReadonlySet<string> = new Set(RULES.keys());

/** The arguments to send instead, or undefined if the command can go as it is. */
export function rewriteFor(
  name: string,
  args: Args,
  timeMs: number,
  rules = AS_WRITTEN,
  note?: NoteDeadline,
): Buffer[] | undefined {
  return RULES.get(name)?.rewrite(args, { ...rules, timeMs, note });
}

/** Whether it is worth asking `rewriteFor`; never false where that would change something, or note what is watched. */
export function mayNeedRewrite(name: string, scanner: RespScanner, rules = AS_WRITTEN): boolean {
  return RULES.get(name)?.applies(scanner, rules) ?? false;
}

function looksAtAbsolute({ graceMs, watchesDeadlines }: RewriteRules): boolean {
  return graceMs > 0 || watchesDeadlines === true;
}

/** Absolute ms of a deadline, undefined if it needs no change or is no number. */
function deadline(unit: Unit, value: Buffer, context: Context): Buffer | undefined {
  const { timeMs, graceMs, note } = context;
  const count = integerOf(value);
  if (count === undefined) return undefined;
  const absolute = unit.endsWith('AT');
  const ms = unit.startsWith('EX') ? count * 1000 : count;
  const at = Math.max(0, absolute ? ms : ms + timeMs);
  if (at > timeMs) note?.(at);
  if (absolute && graceMs === 0) return undefined;
  return Number.isSafeInteger(at + graceMs) ? Buffer.from(String(at + graceMs)) : undefined;
}

/** Zero or less is an error for an option, where EXPIRE takes it as "delete". */
function deadlineOption(unit: Unit, value: Buffer, context: Context): Buffer | undefined {
  return (integerOf(value) ?? 0) > 0 ? deadline(unit, value, context) : undefined;
}

/** EXPIRE key n [condition] and HEXPIRE key n [condition] FIELDS ... */
function expireRule(unit: Unit, absoluteName: string): Rule {
  const ofFields = absoluteName === 'HPEXPIREAT';
  const relative = !unit.endsWith('AT');
  return {
    applies: (_scanner, rules) => relative || rules.masterDecided || looksAtAbsolute(rules),
    rewrite: (args, context) => {
      const [name, key, value] = args;
      if (name === undefined || key === undefined || value === undefined) return undefined;
      if (ofFields && (integerOf(value) ?? 0) < 0) return undefined;
      const at = deadline(unit, value, context);
      const rest = context.masterDecided ? withoutConditions(args, 3) : args.slice(3);
      if (at === undefined) return rest.length === args.length - 3 ? undefined : [name, key, value, ...rest];
      return [Buffer.from(absoluteName), key, at, ...rest];
    },
  };
}

/** Conditions stand before FIELDS, if there is any; field names are not touched. */
function withoutConditions(args: Args, from: number): Buffer[] {
  let at = from;
  while (at < args.length && isOneOf(CONDITIONS, args[at] as Buffer)) at++;
  return args.slice(at);
}

/** MSETEX numkeys key value [key value ...] options */
function afterPairs(args: Args): number {
  const pairs = integerOf(args[1] ?? NOTHING);
  return pairs === undefined ? args.length : 2 + 2 * pairs;
}

/** SETEX key n value */
function setexRule(unit: Unit): Rule {
  return {
    applies: () => true,
    rewrite: ([, key, count, value], context) => {
      if (key === undefined || count === undefined || value === undefined) return undefined;
      const at = deadlineOption(unit, count, context);
      return at === undefined ? undefined : [Buffer.from('SET'), key, value, PXAT, at];
    },
  };
}

/** EX n and PX n among the options that begin at `from(args)` and end before `endWord`. */
function optionRule(from: (args: Args) => number, endWord?: string): Rule {
  return {
    applies: (scanner, rules) => {
      for (let i = 2; i < scanner.argc; i++) {
        if (argEquals(scanner, i, 'EX') || argEquals(scanner, i, 'PX')) return true;
        if (looksAtAbsolute(rules) && (argEquals(scanner, i, 'EXAT') || argEquals(scanner, i, 'PXAT')))
          return true;
        if (endWord !== undefined && argEquals(scanner, i, endWord)) return false;
      }
      return false;
    },
    rewrite: (args, context) => {
      let changed: Buffer[] | undefined;
      for (let i = from(args); i + 1 < args.length; i++) {
        const option = optionAt(args, i);
        if (option === endWord) break;
        if (DIGEST_CONDITIONS.includes(option)) i++;
        if (!isUnit(option)) continue;
        const at = deadlineOption(option, args[++i] as Buffer, context);
        if (at === undefined) continue;
        changed ??= [...args];
        changed.splice(i - 1, 2, PXAT, at);
      }
      return changed;
    },
  };
}

/** RESTORE key ttl value [REPLACE] [ABSTTL] ...; a ttl of 0 is none. The value may be a hash whose fields have deadlines. */
function restoreRule(): Rule {
  return {
    // Most keys of a snapshot have no deadline.
    applies: (scanner, rules) =>
      (!argEquals(scanner, 2, '0') && (looksAtAbsolute(rules) || !hasArgument(scanner, 4, 'ABSTTL'))) ||
      (rules.graceMs > 0 &&
        scanner.argc > 3 &&
        mayHoldFieldDeadlines(scanner.buffer, scanner.argStart[3] as number)),
    rewrite: (args, context) => {
      const ttl = args[2];
      if (ttl === undefined || args.length < 4) return undefined;
      const absolute = args.slice(4).some((arg) => isOneOf(['ABSTTL'], arg));
      const at = deadlineOption(absolute ? 'PXAT' : 'PX', ttl, context);
      const payload = args[3] as Buffer;
      const held = context.graceMs > 0 ? heldBack(payload, context.graceMs) : undefined;
      if (at === undefined && held === undefined) return undefined;
      const changed = [...args];
      changed[2] = at ?? ttl;
      changed[3] = held ?? payload;
      return absolute || at === undefined ? changed : [...changed, Buffer.from('ABSTTL')];
    },
  };
}

function trimRule(): Rule {
  return {
    applies: (scanner) => hasArgument(scanner, 4, 'LIMIT'),
    rewrite: (args) => {
      const limit = xaddOptions((i) => optionAt(args, i), args.length).refusedLimit;
      return limit === undefined ? undefined : [...args.slice(0, limit), ...args.slice(limit + 2)];
    },
  };
}

/** Cut, so that a huge argument is not copied to be compared. */
function optionAt(args: Args, i: number): string {
  return upperText(args[i]?.subarray(0, OPTION_BYTES_MAX) ?? NOTHING);
}

function hasArgument(scanner: RespScanner, from: number, word: string): boolean {
  for (let i = from; i < scanner.argc; i++) {
    if (argEquals(scanner, i, word)) return true;
  }
  return false;
}

function isUnit(option: string): option is Unit {
  return (OPTIONS_WITH_DEADLINE as readonly string[]).includes(option);
}

function isOneOf(words: readonly string[], arg: Buffer): boolean {
  return arg.length <= OPTION_BYTES_MAX && words.includes(upperText(arg));
}
