// Which rule of ours holds for a command: the policy of the product, as opposed to the facts in the table.
// A change here changes where commands go: raise RULES_VERSION, which is part of the routing fingerprint.

import type { SpecFacts, SpecOrigin } from './command-spec.ts';

export const RULES_VERSION = 3;

export type Rule =
  /** keys from the key specs; without keys all lanes */
  | 'keys'
  | 'split'
  | 'sort'
  | 'georadius'
  | 'copy'
  | 'move'
  | 'pfcount'
  | 'xreadgroup'
  | 'script'
  | 'publish'
  /** all lanes, erases nothing */
  | 'all'
  | 'erase'
  | 'swap'
  | 'context'
  /** has no effect on data */
  | 'ignored'
  /** refused unless the operator allows it by name */
  | 'forbidden'
  /** would break the session that applies, or end the target: refused whatever the operator says */
  | 'never';

const NAMED: ReadonlyMap<string, Rule> = new Map([
  ...named('split', 'MSET DEL UNLINK TOUCH'),
  ...named('sort', 'SORT'),
  ...named('georadius', 'GEORADIUS GEORADIUSBYMEMBER'),
  ...named('copy', 'COPY'),
  ...named('move', 'MOVE'),
  ...named('pfcount', 'PFCOUNT'),
  ...named('xreadgroup', 'XREADGROUP'),
  ...named('script', 'EVAL EVALSHA FCALL'),
  ...named('publish', 'PUBLISH SPUBLISH'),
  ...named('all', 'FUNCTION|LOAD FUNCTION|DELETE FUNCTION|FLUSH FUNCTION|RESTORE SCRIPT|LOAD SCRIPT|FLUSH'),
  ...named('erase', 'FLUSHDB FLUSHALL'),
  ...named('swap', 'SWAPDB'),
  ...named('context', 'SELECT MULTI EXEC DISCARD'),
  // Tells the replicas of a Valkey in a cluster which node has a slot.
  ...named('ignored', 'CLUSTER|SETSLOT'),
  ...named('ignored', 'REPLCONF WAIT WAITAOF WATCH UNWATCH PING ECHO'),
  ...named(
    'never',
    'CLIENT AUTH HELLO MONITOR PSYNC SYNC RESET QUIT SHUTDOWN REPLICAOF SLAVEOF FAILOVER SCRIPT|DEBUG',
  ),
  ...named('never', 'SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE'),
  ...named('forbidden', 'CONFIG DEBUG MODULE ACL CLUSTER MIGRATE SAVE BGSAVE BGREWRITEAOF LATENCY'),
]);

/** Up to so many arguments a command of this name has one key, at argument 1, and needs no rewriting. */
const PLAIN_ARGC: ReadonlyMap<string, number> = new Map([
  ['SET', 3],
  ['GETEX', 2],
  ['MSET', 3],
  ['DEL', 2],
  ['UNLINK', 2],
  ['TOUCH', 2],
  ['PFCOUNT', 2],
]);

export const PLAIN_ALWAYS = 2 ** 30;

function named(rule: Rule, names: string): (readonly [string, Rule])[] {
  return names.split(' ').map((name) => [name.replaceAll('|', ' '), rule]);
}

export function ruleOf(spec: SpecFacts, origin: SpecOrigin): Rule {
  const container = spec.name.slice(0, `${spec.name} `.indexOf(' '));
  const byName = NAMED.get(spec.name) ?? NAMED.get(container);
  if (byName !== undefined) return byName;
  if (spec.flags.includes('admin')) return 'forbidden';
  if (spec.flags.includes('write')) return spec.flags.includes('blocking') ? 'forbidden' : 'keys';
  // What a target's own command does is only known from its flags: without either, it might write.
  return spec.flags.includes('readonly') || origin !== 'target' ? 'ignored' : 'keys';
}

/** 0: never plain. `rewritable`: the command is one of those that rewrite.ts may change. */
export function plainArgcMaxOf(spec: SpecFacts, rule: Rule, rewritable: boolean): number {
  const byName = PLAIN_ARGC.get(spec.name);
  if (byName !== undefined) return byName;
  return !rewritable && hasOneKeyFirst(spec, rule) ? PLAIN_ALWAYS : 0;
}

/** Exactly one key, always at argument 1, and an effect that the log fixes. */
export function hasOneKeyFirst(spec: SpecFacts, rule: Rule): boolean {
  const [only] = spec.keySpecs;
  if (rule !== 'keys' || isUndetermined(spec.name) || spec.keySpecs.length !== 1 || only === undefined)
    return false;
  // With fewer than two arguments there might be no key to look at.
  if (Math.abs(spec.arity) < 2 || only.incomplete || only.notKey) return false;
  const first = only.begin.type === 'index' && only.begin.index === 1;
  return first && only.find.type === 'range' && only.find.lastKey === 0;
}

/** Commands whose effect the log does not fix (a random member, an id from a clock): counted by the caller. */
export function isUndetermined(name: string): boolean {
  return name === 'SPOP' || name === 'XADD';
}
