// The set of known commands, and the look-up that every command of the log passes: a hash over the name's
// bytes with the case bit masked out, open addressing, then a comparison byte by byte. No string is made.

import { createHash } from 'node:crypto';
import { equalsUpper } from './ascii.ts';
import {
  hasOneKeyFirst,
  PLAIN_ALWAYS,
  plainArgcMaxOf,
  RULES_VERSION,
  type Rule,
  ruleOf,
} from './command-rules.ts';
import { decodeSpec, encodeSpec, type SpecFacts, type SpecOrigin, specsFromReply } from './command-spec.ts';
import { SHIPPED_SPECS } from './command-table.data.ts';
import { HANDMADE_SPECS } from './command-table.extra.ts';
import type { RespScanner } from './resp.ts';
import { REWRITABLE } from './rewrite.ts';

export interface CommandSpec extends SpecFacts {
  readonly origin: SpecOrigin;
  /** Place in its table, from 0: for tables beside it. */
  readonly index: number;
  readonly rule: Rule;
  readonly write: boolean;
  /** With at most so many arguments: one key, at argument 1, nothing to rewrite. 0: never. */
  readonly plainArgcMax: number;
  /** The same whatever the number of arguments. */
  readonly plainSingleKey: boolean;
  /** Exactly one key, at argument 1, but perhaps something to rewrite. */
  readonly oneKeyFirst: boolean;
  /** Whether `rewriteFor` knows the command at all. */
  readonly mayRewrite: boolean;
  readonly subcommands: readonly CommandSpec[];
  /** The last word of the name in upper case. */
  readonly word: Buffer;
}

interface Origin {
  readonly facts: SpecFacts;
  readonly origin: SpecOrigin;
}

const CASE_MASK = 0xdf;

export class CommandTable {
  readonly fingerprint: string;
  readonly specs: readonly CommandSpec[];
  readonly #origins: readonly Origin[];
  readonly #byName: ReadonlyMap<string, CommandSpec>;
  readonly #slots: (CommandSpec | undefined)[];
  readonly #mask: number;

  private constructor(origins: readonly Origin[]) {
    this.#origins = origins;
    this.fingerprint = fingerprintOf(origins);
    this.specs = specsOf(origins);
    this.#byName = new Map(this.specs.map((spec) => [spec.name, spec]));
    const top = this.specs.filter((spec) => !spec.name.includes(' '));
    const size = 2 ** Math.ceil(Math.log2(top.length * 4));
    this.#mask = size - 1;
    this.#slots = new Array<CommandSpec | undefined>(size).fill(undefined);
    for (const spec of top) this.#insert(spec);
  }

  static shipped(): CommandTable {
    return new CommandTable([...parse(SHIPPED_SPECS, 'shipped'), ...parse(HANDMADE_SPECS, 'handmade')]);
  }

  /** The table that `additions()` of an earlier one belongs to. */
  static withAdditions(additions: string): CommandTable {
    const base = CommandTable.shipped();
    return additions === '' ? base : new CommandTable([...base.#origins, ...parse(additions, 'target')]);
  }

  /** Adds what a target's COMMAND reply has and this table has not; never changes what it has. */
  completedBy(commandReply: readonly unknown[]): CommandTable {
    const known = new Set(this.#byName.keys());
    const added: Origin[] = [];
    for (const facts of specsFromReply(commandReply)) {
      if (known.has(facts.name)) continue;
      known.add(facts.name);
      added.push({ facts: cautious(facts), origin: 'target' });
    }
    return added.length === 0 ? this : new CommandTable([...this.#origins, ...added]);
  }

  /** What `completedBy` added, as text to keep with the pipeline; '' if nothing. */
  additions(): string {
    return this.#origins
      .flatMap(({ facts, origin }) => (origin === 'target' ? [encodeSpec(facts)] : []))
      .join('\n');
  }

  /** The command named by [start, end), in any case; a container for a command with subcommands. */
  lookup(buffer: Uint8Array, start: number, end: number): CommandSpec | undefined {
    let hash = end - start;
    for (let i = start; i < end; i++) hash = (hash * 31 + ((buffer[i] as number) & CASE_MASK)) | 0;
    for (let at = hash & this.#mask; ; at = (at + 1) & this.#mask) {
      const spec = this.#slots[at];
      if (spec === undefined || equalsUpper(buffer, start, end, spec.word)) return spec;
    }
  }

  /** The scanner's command, or its subcommand; undefined if either is unknown. */
  resolve(scanner: RespScanner): CommandSpec | undefined {
    const { buffer, argStart, argEnd } = scanner;
    const spec = this.lookup(buffer, argStart[0] as number, argEnd[0] as number);
    if (spec === undefined || spec.subcommands.length === 0 || scanner.argc === 1) return spec;
    const start = argStart[1] as number;
    const end = argEnd[1] as number;
    return spec.subcommands.find((sub) => equalsUpper(buffer, start, end, sub.word));
  }

  /** By name in any case: 'SET', 'xgroup create'. */
  find(name: string): CommandSpec | undefined {
    return this.#byName.get(name.toUpperCase());
  }

  #insert(spec: CommandSpec): void {
    let hash = spec.word.length;
    for (const byte of spec.word) hash = (hash * 31 + (byte & CASE_MASK)) | 0;
    let at = hash & this.#mask;
    while (this.#slots[at] !== undefined) at = (at + 1) & this.#mask;
    this.#slots[at] = spec;
  }
}

export function arityMatches(spec: SpecFacts, argc: number): boolean {
  return spec.arity < 0 ? argc >= -spec.arity : argc === spec.arity;
}

function parse(text: string, origin: SpecOrigin): Origin[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line) => ({ facts: decodeSpec(line), origin }));
}

/** A module's `movablekeys` says that its key specs are not the whole truth: then they count as unknown. */
function cautious(facts: SpecFacts): SpecFacts {
  const exact = facts.keySpecs.some(({ begin, find }) => begin.type === 'keyword' || find.type === 'keynum');
  if (exact || !facts.flags.includes('movablekeys')) return facts;
  return { ...facts, keySpecs: facts.keySpecs.map((spec) => ({ ...spec, incomplete: true })) };
}

function fingerprintOf(origins: readonly Origin[]): string {
  const lines = origins.map(({ facts }) => encodeSpec(facts)).sort();
  const hash = createHash('sha256').update(`rules ${RULES_VERSION}\n${lines.join('\n')}`);
  return hash.digest('hex').slice(0, 16);
}

function specsOf(origins: readonly Origin[]): CommandSpec[] {
  const subcommands = new Map<string, CommandSpec[]>();
  const specs = origins.map((origin, index) => {
    const siblings = subcommands.get(origin.facts.name) ?? [];
    subcommands.set(origin.facts.name, siblings);
    return markedSpec(origin, index, siblings);
  });
  for (const spec of specs) {
    const container = spec.name.slice(0, `${spec.name} `.indexOf(' '));
    if (container !== spec.name) subcommands.get(container)?.push(spec);
  }
  return specs;
}

function markedSpec(
  { facts, origin }: Origin,
  index: number,
  subcommands: readonly CommandSpec[],
): CommandSpec {
  const rule = ruleOf(facts, origin);
  const mayRewrite = REWRITABLE.has(facts.name);
  const plainArgcMax = plainArgcMaxOf(facts, rule, mayRewrite);
  return {
    ...facts,
    origin,
    index,
    rule,
    write: facts.flags.includes('write'),
    plainArgcMax,
    plainSingleKey: plainArgcMax === PLAIN_ALWAYS,
    oneKeyFirst: hasOneKeyFirst(facts, rule),
    mayRewrite,
    subcommands,
    word: Buffer.from(facts.name.slice(facts.name.lastIndexOf(' ') + 1), 'latin1'),
  };
}
