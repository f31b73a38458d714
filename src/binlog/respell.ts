// Commands in words that a target knows which lacks Redis' newer ones. One command may become several, which the caller
// keeps together in one transaction.

import { upperText } from './ascii.ts';
import { integerOf } from './integer.ts';

export interface Spelling {
  /** How a deadline is set: inside SET, or by a command of its own. */
  readonly deadlines: 'SET' | 'PEXPIREAT' | 'EXPIREAT' | 'none';
  readonly hsetOfOne: boolean;
}

export type Respelled =
  | { readonly kind: 'commands'; readonly commands: readonly (readonly Buffer[])[] }
  | { readonly kind: 'refused'; readonly reason: string };

type Args = readonly Buffer[];

export const RESPELLED: ReadonlySet<string> = new Set(['SET', 'HSET', 'EXPIREAT', 'PEXPIREAT']);

/** With at most so many arguments a command is the same everywhere. */
export function plainMaxOf(spec: { readonly name: string; readonly plainArgcMax: number }): number {
  if (!RESPELLED.has(spec.name)) return spec.plainArgcMax;
  if (spec.name === 'SET') return Math.min(3, spec.plainArgcMax);
  return spec.name === 'HSET' ? 4 : 0;
}

const SET = Buffer.from('SET');
const HMSET = Buffer.from('HMSET');
const OPTION_BYTES_MAX = 16;

/** Undefined if the command can go as it is. `args`: with absolute deadlines. */
export function respell(name: string, args: Args, spelling: Spelling): Respelled | undefined {
  if (name === 'HSET' && spelling.hsetOfOne && args.length > 4)
    return { kind: 'commands', commands: [[HMSET, ...args.slice(1)]] };
  if (spelling.deadlines === 'SET') return undefined;
  if (name === 'SET' && args.length > 3) return respellSet(args, spelling);
  if (name !== 'PEXPIREAT' && name !== 'EXPIREAT') return undefined;
  const [, key, value] = args;
  const at = integerOf(value ?? Buffer.alloc(0));
  if (key === undefined || at === undefined) return undefined;
  const own = deadline(key, name === 'PEXPIREAT' ? at : at * 1000, spelling);
  return own && { kind: 'commands', commands: [[...own, ...args.slice(3)]] };
}

function respellSet(args: Args, spelling: Spelling): Respelled | undefined {
  const [, key, value] = args as [Buffer, Buffer, Buffer];
  let atMs: number | undefined;
  let other: string | undefined;
  for (let i = 3; i < args.length; i++) {
    const option = upperText((args[i] as Buffer).subarray(0, OPTION_BYTES_MAX));
    if (option === 'PXAT' || option === 'EXAT') {
      const count = integerOf(args[++i] ?? Buffer.alloc(0));
      // The target will say what is wrong with it.
      if (count === undefined) return undefined;
      atMs = option === 'PXAT' ? count : count * 1000;
    } else other = option;
  }
  if (atMs === undefined) return undefined;
  if (other !== undefined) {
    const reason = `the target sets deadlines by a command of their own, which a SET ... ${other} may not be followed by`;
    return { kind: 'refused', reason };
  }
  const own = deadline(key, atMs, spelling);
  if (own === undefined) return { kind: 'refused', reason: 'the target knows no absolute deadlines' };
  return { kind: 'commands', commands: [[SET, key, value], own] };
}

/** Whole seconds are rounded up. 0 and less would be no deadline at all for a Pika: 1 is as past. */
function deadline(key: Buffer, atMs: number, { deadlines }: Spelling): Buffer[] | undefined {
  if (deadlines === 'none') return undefined;
  const at = deadlines === 'EXPIREAT' ? Math.ceil(atMs / 1000) : atMs;
  return [Buffer.from(deadlines), key, Buffer.from(String(Math.max(1, at)))];
}
