import type { CommandSpec } from './command-table.ts';

/** What the operator, or the target, has to say about a command. */
export type Policy = 'allowed' | 'denied' | 'lacking' | undefined;

export interface PolicyLists {
  /** Names (a container stands for its subcommands) that lift "forbidden" or "unknown" by the operator's will. */
  readonly allow?: readonly string[];
  /** Names that are refused; stronger than `allow`. */
  readonly deny?: readonly string[];
  /** First words of commands that the target does not know. */
  readonly lacks?: ReadonlySet<string>;
}

export function policyOf(spec: CommandSpec, { allow, deny, lacks }: PolicyLists): Policy {
  if (isNamed(spec.name, deny)) return 'denied';
  if (spec.write && lacks?.has(spec.name.split(' ', 1)[0] as string) === true) return 'lacking';
  return isNamed(spec.name, allow) ? 'allowed' : undefined;
}

export function isNamed(name: string, list: readonly string[] = []): boolean {
  return list.some((entry) => entry.toUpperCase() === name || name.startsWith(`${entry.toUpperCase()} `));
}

/** A command that no table has and the operator allows: nobody knows its keys. */
export function strangerSpec(name: string): CommandSpec {
  return {
    name,
    arity: -1,
    flags: [],
    keySpecs: [],
    origin: 'handmade',
    index: -1,
    rule: 'keys',
    write: true,
    plainArgcMax: 0,
    plainSingleKey: false,
    oneKeyFirst: false,
    mayRewrite: false,
    subcommands: [],
    word: Buffer.from(name.slice(name.lastIndexOf(' ') + 1)),
  };
}
