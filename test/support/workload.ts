import type { Redis } from 'ioredis';
import { LOAD_MARK } from './canary.ts';

// A random workload that a source could have logged: every command is run on the oracle first, and only what it took
// without an error goes into the log. Order, loss and repetition are visible in the values (RPUSH of unique ids, INCR,
// APPEND), so that equality at the end proves more than the last write of each key.

export type Command = readonly string[];

export interface LoggedEntry {
  readonly db: number;
  /** When the oracle ran it: relative deadlines count from here. */
  readonly timeMs: number;
  readonly commands: readonly Command[];
}

/** Deterministic for a seed. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

export interface WorkloadOptions {
  readonly seed: number;
  readonly commands: number;
  /** Shares of 1000. */
  readonly crossing?: number;
  readonly global?: number;
  readonly transactions?: number;
  readonly databases?: number;
  readonly keys?: number;
  /** Names of commands that the target has not. */
  readonly without?: ReadonlySet<string>;
}

/** Runs a workload on the oracle and returns the log of it, cut into entries of random size. */
export async function logWorkload(oracle: Redis, options: WorkloadOptions): Promise<LoggedEntry[]> {
  const next = random(options.seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  const keys = options.keys ?? 40;
  const key = (kind: string) => `${kind}:${Math.floor(next() * keys)}`;
  let unique = 0;
  const keyed: (() => Command)[] = [
    () => ['SET', key('s'), `${LOAD_MARK}v${unique++}`],
    () => ['INCR', key('n')],
    () => ['APPEND', key('s'), `${LOAD_MARK}a${unique++},`],
    () => ['RPUSH', key('l'), `${LOAD_MARK}e${unique++}`],
    () => ['RPUSH', key('l'), `${LOAD_MARK}e${unique++}`, `${LOAD_MARK}e${unique++}`],
    () => ['LPOP', key('l')],
    () => ['HSET', key('h'), `f${Math.floor(next() * 5)}`, `${unique++}`],
    () => ['HINCRBY', key('h'), 'n', '3'],
    () => ['ZINCRBY', key('z'), '1.5', `m${Math.floor(next() * 9)}`],
    () => ['SADD', key('t'), `m${Math.floor(next() * 20)}`],
    () => ['SREM', key('t'), `m${Math.floor(next() * 20)}`],
    () => ['SETRANGE', key('s'), String(Math.floor(next() * 30)), `${LOAD_MARK}r${unique++}`],
    () => ['DEL', key('s'), key('l'), key('n')],
    () => ['MSET', key('s'), `${LOAD_MARK}x${unique++}`, key('s'), `${LOAD_MARK}y${unique++}`, key('n'), '7'],
    () => ['SET', key('s'), `b\r\n\0${unique++}`, 'EX', '10000'],
  ];
  const crossing: (() => Command)[] = [
    () => ['RENAME', key('s'), key('s')],
    () => ['RENAMENX', key('l'), key('l')],
    () => ['LMOVE', key('l'), key('l'), 'LEFT', 'RIGHT'],
    () => ['SINTERSTORE', key('t'), key('t'), key('t')],
    () => ['SUNIONSTORE', key('t'), key('t'), key('t')],
    () => ['SMOVE', key('t'), key('t'), `m${Math.floor(next() * 20)}`],
    () => ['COPY', key('h'), key('h'), 'REPLACE'],
    () => ['ZUNIONSTORE', key('z'), '2', key('z'), key('z')],
    () => ['BITOP', 'XOR', key('b'), key('b'), key('b')],
    () => ['MSETNX', `u:${unique++}`, '1', `u:${unique++}`, '2'],
  ];
  const there = options.without
    ? crossing.filter((make) => !options.without?.has(make()[0] as string))
    : crossing;
  const databases = options.databases ?? 3;
  const global: (() => Command)[] = [
    () => ['FLUSHDB'],
    () => ['FLUSHDB', 'ASYNC'],
    () => ['SWAPDB', '0', String(1 + Math.floor(next() * (databases - 1)))],
    () => ['SWAPDB', '1', '2'],
    () => ['FLUSHALL'],
  ];
  const inTransaction = keyed.slice(0, 4).concat([() => ['SADD', key('t'), `${LOAD_MARK}x${unique++}`]]);

  const entries: LoggedEntry[] = [];
  let open: Command[] = [];
  let left = 1 + Math.floor(next() * 20);
  let db = 0;
  await oracle.select(db);
  const close = () => {
    if (open.length > 0) entries.push({ db, timeMs: Date.now(), commands: open });
    open = [];
    left = 1 + Math.floor(next() * 20);
  };
  for (let made = 0; made < options.commands; made++) {
    const share = next() * 1000;
    const globalShare = options.global ?? 5;
    const crossingShare = globalShare + (options.crossing ?? 100);
    const transactionShare = crossingShare + (options.transactions ?? 30);
    let group: Command[];
    if (share < globalShare) group = [pick(databases > 2 ? global : global.slice(0, 2))()];
    else if (share < crossingShare) group = [pick(there)()];
    else if (share < transactionShare) {
      const inner = Array.from({ length: 2 + Math.floor(next() * 4) }, () => pick(inTransaction)());
      group = [['MULTI'], ...inner, ['EXEC']];
    } else group = [pick(keyed)()];
    if (await accepts(oracle, group)) open.push(...group);
    if (--left <= 0) {
      close();
      const to = Math.floor(next() * databases);
      if (next() < 0.3 && to !== db) {
        db = to;
        await oracle.select(db);
      }
    }
  }
  close();
  return entries;
}

/** Runs a group, of which the oracle may refuse a command: then it is not logged. */
export async function accepts(oracle: Redis, group: readonly Command[]): Promise<boolean> {
  let accepted = true;
  for (const [name, ...args] of group) {
    try {
      await oracle.call(name as string, ...args);
    } catch {
      accepted = false;
    }
  }
  return accepted;
}
