// What must happen to a command of the log, decided from its name, its shape and its keys, never from its
// values. The verdict's kinds are the classes of design section 9. Pure, and of one command only: what a
// MULTI makes of several commands is the sequencer's business.
//
// Order of judgement: known? denied? forbidden? right number of arguments? then the rule of its own.
// Everything that is not understood ends as `poison` (stops its lane) or `all` (waits for every lane).

import { upperText } from './ascii.ts';
import { isNamed, type Policy, type PolicyLists, policyOf, strangerSpec } from './command-policy.ts';
import { isUndetermined } from './command-rules.ts';
import { arityMatches, type CommandSpec, type CommandTable } from './command-table.ts';
import { argEquals, argInteger, type FoundKeys, keysOf } from './keys.ts';
import { formatKey } from './quoting.ts';
import { type Reserved, ReservedKeys } from './reserved-keys.ts';
import type { RespScanner } from './resp.ts';
import { plainMaxOf, RESPELLED } from './respell.ts';
import { AS_WRITTEN, mayNeedRewrite, type RewriteRules } from './rewrite.ts';
import { sortKeys } from './sort-keys.ts';
import type { Splittable } from './split.ts';
import { xaddOptions } from './xadd-options.ts';

export interface KeyedVerdict {
  readonly kind: 'keyed';
  readonly spec: CommandSpec;
  /** The keys (the channel for PUBLISH) as views of the scanner's buffer; at least one, not deduplicated. */
  readonly keys: readonly Buffer[];
  /** The command is a loop over its keys and may be cut into lanes by `splitByLane`. */
  readonly split: Splittable | undefined;
  /** Ask `rewriteFor`: it may have something to change. */
  readonly rewrite: boolean;
  /** Further databases that the command names (MOVE, COPY ... DB). Their range is the caller's business. */
  readonly databases: readonly number[];
  /** Its effect is not fixed by the log (SPOP, XADD with *): applied as written, and counted. */
  readonly undetermined: boolean;
}

export interface AllVerdict {
  readonly kind: 'all';
  readonly spec: CommandSpec;
  readonly reason: 'erases' | 'swaps' | 'script' | 'library' | 'no keys' | 'keys unknown' | 'sort patterns';
  readonly erases: 'nothing' | 'db' | 'everything' | 'swap';
  /** Of SWAPDB the two that it names. */
  readonly databases: readonly number[];
}

export type ContextVerdict = {
  readonly kind: 'context';
  readonly spec: CommandSpec;
} & ({ readonly what: 'SELECT'; readonly db: number } | { readonly what: 'MULTI' | 'EXEC' | 'DISCARD' });

export interface IgnoredVerdict {
  readonly kind: 'ignored';
  readonly spec: CommandSpec;
}

export type PoisonCode =
  | 'UNKNOWN_COMMAND'
  | 'WRONG_ARITY'
  | 'SYNTAX'
  | 'FORBIDDEN_COMMAND'
  | 'DENIED_COMMAND'
  | 'NOT_AT_TARGET'
  | 'RESERVED_KEY';

export interface PoisonVerdict {
  readonly kind: 'poison';
  readonly code: PoisonCode;
  /** For people: names the command and perhaps the key, escaped and shortened; never a value. */
  readonly reason: string;
  /** The key at fault, or the first one that can be told; never a value. A view of the scanner's buffer. */
  readonly key: Buffer | undefined;
}

export type Verdict = KeyedVerdict | AllVerdict | ContextVerdict | IgnoredVerdict | PoisonVerdict;

export interface ClassifierOptions extends PolicyLists {
  readonly table: CommandTable;
  readonly splitMultiKey: boolean;
  readonly publish: boolean;
  readonly scriptKeys: 'all' | 'declared';
  /** The pipeline whose log it is: its own keys are out of bounds, those of others mean nothing here. */
  readonly pipeline: string | undefined;
  readonly rewriteRules?: RewriteRules;
  /** The target takes some commands in other words only (respell.ts): these are never plain. */
  readonly respells?: boolean;
}

const FIRST_ARGUMENT: readonly number[] = [1];
const NONE: readonly number[] = [];
const NAME_BYTES_MAX = 64;
const OPTION_BYTES_MAX = 16;
const STAR = 42;

export class Classifier {
  readonly #table: CommandTable;
  readonly #options: ClassifierOptions;
  readonly #reserved: ReservedKeys;
  readonly #rewriteRules: RewriteRules;
  /** By spec.index. */
  readonly #policy: readonly Policy[];
  /** By spec.index: plainArgcMax, or 0 where a policy of the operator holds. */
  readonly #plainArgcMax: Int32Array;

  constructor(options: ClassifierOptions) {
    this.#table = options.table;
    this.#options = options;
    this.#reserved = new ReservedKeys(options.pipeline);
    this.#rewriteRules = options.rewriteRules ?? AS_WRITTEN;
    this.#policy = options.table.specs.map((spec) => policyOf(spec, options));
    const plainMax = options.respells === true ? plainMaxOf : (spec: CommandSpec) => spec.plainArgcMax;
    this.#plainArgcMax = Int32Array.from(options.table.specs, (spec) =>
      this.#policy[spec.index] === undefined ? plainMax(spec) : 0,
    );
  }

  /**
   * The hot path: true iff the command, whose spec `table.lookup` gave, has exactly one key, at argument 1,
   * nothing to rewrite and nothing wrong with it. False says only "ask `classify`". Allocates nothing.
   */
  passesPlain(spec: CommandSpec, scanner: RespScanner): boolean {
    const { argc } = scanner;
    if (argc > (this.#plainArgcMax[spec.index] as number) && !this.#needsNoRewrite(spec, scanner))
      return false;
    if (!arityMatches(spec, argc)) return false;
    return !this.#reserved.has(scanner, 1);
  }

  classify(scanner: RespScanner): Verdict {
    const spec = this.#table.resolve(scanner);
    if (spec === undefined) return this.#unresolved(scanner);
    const verdict = this.#refusal(scanner, spec) ?? this.#judge(scanner, spec);
    if (verdict.kind !== 'poison' || verdict.key !== undefined) return verdict;
    const [key] = keysOf(scanner, spec).keys;
    return key === undefined ? verdict : { ...verdict, key: scanner.arg(key) };
  }

  #refusal(scanner: RespScanner, spec: CommandSpec): PoisonVerdict | undefined {
    const policy = this.#policy[spec.index];
    if (policy === 'denied') return poison('DENIED_COMMAND', `${spec.name} is denied by configuration`);
    if (policy === 'lacking') return poison('NOT_AT_TARGET', `the target does not know ${spec.name}`);
    if (spec.rule === 'never' || (spec.rule === 'forbidden' && policy !== 'allowed')) {
      return poison('FORBIDDEN_COMMAND', `${spec.name} is never sent to a target`);
    }
    return arityMatches(spec, scanner.argc) ? undefined : wrongArity(spec);
  }

  /** A replication link is full of SET ... PXAT and PEXPIREAT: rewritable by name, but not by their options. */
  #needsNoRewrite(spec: CommandSpec, scanner: RespScanner): boolean {
    if (!spec.oneKeyFirst || this.#policy[spec.index] !== undefined) return false;
    if (this.#options.respells === true && RESPELLED.has(spec.name)) return false;
    return !mayNeedRewrite(spec.name, scanner, this.#rewriteRules);
  }

  #judge(scanner: RespScanner, spec: CommandSpec): Verdict {
    switch (spec.rule) {
      case 'ignored':
        return { kind: 'ignored', spec };
      case 'context':
        return contextOf(scanner, spec);
      case 'erase':
        return all(spec, 'erases', spec.name === 'FLUSHALL' ? 'everything' : 'db');
      case 'swap':
        return swapOf(scanner, spec);
      case 'all':
        return all(spec, 'library');
      case 'script':
        return this.#script(scanner, spec);
      case 'publish':
        return this.#options.publish ? keyed(spec, scanner.arg(1)) : { kind: 'ignored', spec };
      case 'sort':
        return this.#sort(scanner, spec);
      case 'georadius':
        return this.#georadius(scanner, spec);
      case 'copy':
        return this.#copy(scanner, spec);
      case 'move':
        return this.#intoDb(scanner, spec, FIRST_ARGUMENT, 2);
      case 'xreadgroup':
        return this.#xreadgroup(scanner, spec);
      case 'pfcount':
        // Of one key it may store the cardinality in it, which a master propagates; of several it only reads.
        return scanner.argc === 2 ? this.#ofKeys(scanner, spec, FIRST_ARGUMENT) : { kind: 'ignored', spec };
      case 'split':
        if (spec.name === 'MSET' && scanner.argc % 2 === 0) return wrongArity(spec);
        return this.#fromSpecs(scanner, spec, keysOf(scanner, spec));
      default:
        return this.#fromSpecs(scanner, spec, keysOf(scanner, spec));
    }
  }

  #fromSpecs(scanner: RespScanner, spec: CommandSpec, found: FoundKeys): Verdict {
    if (found.certainty === 'invalid') return syntax(spec, 'its keys cannot be found');
    if (found.certainty === 'exact' && found.keys.length > 0) return this.#ofKeys(scanner, spec, found.keys);
    const reason = found.certainty === 'partial' ? 'keys unknown' : 'no keys';
    return this.#reservedKey(scanner, spec, found.keys) ?? all(spec, reason);
  }

  #ofKeys(scanner: RespScanner, spec: CommandSpec, keys: readonly number[], databases = NONE): Verdict {
    const reserved = this.#reserved.judge(scanner, keys);
    if (reserved?.foreign === true) return { kind: 'ignored', spec };
    if (reserved !== undefined) return reservedKey(spec, reserved);
    const split = spec.rule === 'split' && keys.length > 1 && this.#options.splitMultiKey;
    return {
      kind: 'keyed',
      spec,
      keys: keys.map((key) => scanner.arg(key)),
      split: split ? (spec.name as Splittable) : undefined,
      rewrite: spec.mayRewrite && mayNeedRewrite(spec.name, scanner, this.#rewriteRules),
      databases,
      undetermined: isUndetermined(spec.name) && (spec.name !== 'XADD' || hasStar(scanner)),
    };
  }

  /** The declared keys of a script are checked even where they do not route it. */
  #script(scanner: RespScanner, spec: CommandSpec): Verdict {
    const found = keysOf(scanner, spec);
    if (found.certainty === 'invalid') return syntax(spec, 'the number of its keys is wrong');
    if (this.#options.scriptKeys === 'declared' && found.keys.length > 0) {
      return this.#ofKeys(scanner, spec, found.keys);
    }
    return this.#reservedKey(scanner, spec, found.keys) ?? all(spec, 'script');
  }

  #sort(scanner: RespScanner, spec: CommandSpec): Verdict {
    const sort = sortKeys(scanner);
    if (sort === undefined) return syntax(spec, 'its options are wrong');
    if (sort.store === undefined) return { kind: 'ignored', spec };
    const keys = [1, sort.store];
    if (!sort.readsOtherKeys) return this.#ofKeys(scanner, spec, keys);
    return this.#reservedKey(scanner, spec, keys) ?? all(spec, 'sort patterns');
  }

  /** The last STORE or STOREDIST counts; without one it is a read. */
  #georadius(scanner: RespScanner, spec: CommandSpec): Verdict {
    let store: number | undefined;
    for (let i = spec.name === 'GEORADIUS' ? 6 : 5; i + 1 < scanner.argc; i++) {
      if (argEquals(scanner, i, 'STORE') || argEquals(scanner, i, 'STOREDIST')) store = ++i;
    }
    return store === undefined ? { kind: 'ignored', spec } : this.#ofKeys(scanner, spec, [1, store]);
  }

  #copy(scanner: RespScanner, spec: CommandSpec): Verdict {
    let db: number | undefined;
    for (let i = 3; i < scanner.argc; i++) {
      if (argEquals(scanner, i, 'DB')) db = ++i;
    }
    return db === undefined ? this.#ofKeys(scanner, spec, [1, 2]) : this.#intoDb(scanner, spec, [1, 2], db);
  }

  #intoDb(scanner: RespScanner, spec: CommandSpec, keys: readonly number[], at: number): Verdict {
    const db = databaseAt(scanner, at);
    if (db === undefined) return syntax(spec, 'its database number is none');
    return this.#ofKeys(scanner, spec, keys, [db]);
  }

  /** GROUP group consumer [COUNT n] [BLOCK ms] [NOACK] STREAMS ...; a consumer may be called BLOCK. */
  #xreadgroup(scanner: RespScanner, spec: CommandSpec): Verdict {
    const allowed = this.#policy[spec.index] === 'allowed';
    for (let i = 4; i < scanner.argc && !argEquals(scanner, i, 'STREAMS'); i++) {
      if (!argEquals(scanner, i, 'BLOCK') || allowed) continue;
      return poison('FORBIDDEN_COMMAND', 'XREADGROUP with BLOCK would hold up its lane');
    }
    return this.#fromSpecs(scanner, spec, keysOf(scanner, spec));
  }

  #reservedKey(scanner: RespScanner, spec: CommandSpec, keys: readonly number[]): PoisonVerdict | undefined {
    const found = this.#reserved.judge(scanner, keys);
    return found && reservedKey(spec, found);
  }

  /** An unknown subcommand of a container that is refused as a whole is refused for that reason. */
  #unresolved(scanner: RespScanner): Verdict {
    const first = scanner.arg(0);
    const container = this.#table.lookup(
      scanner.buffer,
      scanner.argStart[0] as number,
      scanner.argEnd[0] as number,
    );
    if (container?.rule === 'never' || container?.rule === 'forbidden') {
      return poison('FORBIDDEN_COMMAND', `${container.name} is never sent to a target`);
    }
    const words = container === undefined ? [first] : [first, scanner.arg(1)];
    const name = words.map((word) => formatKey(word, NAME_BYTES_MAX)).join(' ');
    if (isNamed(name.toUpperCase(), this.#options.deny))
      return poison('DENIED_COMMAND', `${name} is denied by configuration`);
    if (isNamed(name.toUpperCase(), this.#options.allow))
      return all(strangerSpec(name.toUpperCase()), 'keys unknown');
    return poison('UNKNOWN_COMMAND', `${name} is not a known command`);
  }
}

function keyed(spec: CommandSpec, key: Buffer): KeyedVerdict {
  return {
    kind: 'keyed',
    spec,
    keys: [key],
    split: undefined,
    rewrite: false,
    databases: NONE,
    undetermined: false,
  };
}

function all(
  spec: CommandSpec,
  reason: AllVerdict['reason'],
  erases: AllVerdict['erases'] = 'nothing',
): AllVerdict {
  return { kind: 'all', spec, reason, erases, databases: NONE };
}

function swapOf(scanner: RespScanner, spec: CommandSpec): Verdict {
  const first = databaseAt(scanner, 1);
  const second = databaseAt(scanner, 2);
  if (first === undefined || second === undefined) return syntax(spec, 'a database number is none');
  return { kind: 'all', spec, reason: 'swaps', erases: 'swap', databases: [first, second] };
}

function contextOf(scanner: RespScanner, spec: CommandSpec): Verdict {
  const what = spec.name as ContextVerdict['what'];
  if (what !== 'SELECT') return { kind: 'context', spec, what };
  const db = databaseAt(scanner, 1);
  return db === undefined ? syntax(spec, 'its database number is none') : { kind: 'context', spec, what, db };
}

function databaseAt(scanner: RespScanner, i: number): number | undefined {
  const db = argInteger(scanner, i);
  return db === undefined || db < 0 ? undefined : db;
}

/** XADD with an id that the server completes: `*` or `ms-*`. */
function hasStar(scanner: RespScanner): boolean {
  const word = (i: number): string =>
    i < scanner.argc ? upperText(scanner.arg(i).subarray(0, OPTION_BYTES_MAX)) : '';
  const id = isDigit(scanner.buffer[scanner.argStart[2] as number]) ? 2 : xaddOptions(word, scanner.argc).end;
  return id < scanner.argc && scanner.buffer[(scanner.argEnd[id] as number) - 1] === STAR;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= 48 && byte <= 57;
}

function wrongArity(spec: CommandSpec): PoisonVerdict {
  return poison('WRONG_ARITY', `wrong number of arguments for ${spec.name}`);
}

function syntax(spec: CommandSpec, what: string): PoisonVerdict {
  return poison('SYNTAX', `${spec.name} cannot be read: ${what}`);
}

function reservedKey(spec: CommandSpec, { why, key }: Reserved): PoisonVerdict {
  return poison('RESERVED_KEY', `${spec.name} on ${why}`, key);
}

function poison(code: PoisonCode, reason: string, key?: Buffer): PoisonVerdict {
  return { kind: 'poison', code, reason, key };
}
