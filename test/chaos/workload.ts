import type { Redis } from 'ioredis';
import { accepts, type Command, type LoggedEntry, random } from '../support/workload.ts';

// An endless workload in which a command that is lost, run twice or run out of order leaves a trace. A quarter of it goes
// into a database of its own that no FLUSHDB and no SWAPDB touches: lists of unique ids, which only a FLUSHALL shortens,
// and those are few.

const KEYS = 40;
const DATABASES = 3;
const LEDGER_DB = 5;
const LEDGER_LISTS = 16;
const ENTRY_COMMANDS_MAX = 20;

type Maker = () => Command;

export class ChaosWorkload {
  readonly #model: Redis;
  readonly #next: () => number;
  readonly #keyed: readonly Maker[];
  readonly #crossing: readonly Maker[];
  readonly #global: readonly Maker[];
  #unique = 0;

  /** `model`: what a command means is asked there first; only what it takes is logged. */
  constructor(model: Redis, seed: number) {
    this.#model = model;
    this.#next = random(seed);
    const key = (kind: string) => `${kind}:${this.#below(KEYS)}`;
    const id = () => String(++this.#unique);
    this.#keyed = keyedCommands(key, id, (limit) => this.#below(limit));
    this.#crossing = crossingCommands(key, id, (limit) => this.#below(limit));
    this.#global = [
      () => ['FLUSHDB'],
      () => ['FLUSHDB', 'ASYNC'],
      () => ['SWAPDB', '0', String(1 + this.#below(DATABASES - 1))],
      () => ['SWAPDB', '1', '2'],
    ];
  }

  /** The next entry, run on the model; undefined when the model took nothing of it. */
  async entry(): Promise<LoggedEntry | undefined> {
    const ledger = this.#next() < 0.25;
    const db = ledger ? LEDGER_DB : this.#below(DATABASES);
    await this.#model.select(db);
    const commands: Command[] = [];
    const wanted = 1 + this.#below(ENTRY_COMMANDS_MAX);
    for (let made = 0; made < wanted; made++) {
      const group = ledger ? [this.#ledgerCommand()] : this.#group();
      if (await accepts(this.#model, group)) commands.push(...group);
    }
    return commands.length === 0 ? undefined : { db, timeMs: Date.now(), commands };
  }

  #ledgerCommand(): Command {
    return ['RPUSH', `ledger:${this.#below(LEDGER_LISTS)}`, String(++this.#unique)];
  }

  #group(): Command[] {
    const share = this.#next() * 10_000;
    if (share < 2) return [['FLUSHALL']];
    if (share < 60) return [this.#pick(this.#global)()];
    if (share < 700) return [this.#pick(this.#crossing)()];
    if (share > 1_000) return [this.#pick(this.#keyed)()];
    const inner = Array.from({ length: 2 + this.#below(4) }, () => this.#pick(this.#keyed.slice(0, 4))());
    return [['MULTI'], ...inner, ['EXEC']];
  }

  #below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }
}

function keyedCommands(
  key: (kind: string) => string,
  id: () => string,
  below: (limit: number) => number,
): Maker[] {
  return [
    () => ['INCR', key('n')],
    () => ['APPEND', key('s'), `${id()},`],
    () => ['RPUSH', key('l'), id()],
    () => ['SADD', key('t'), `m${below(20)}`],
    () => ['SET', key('s'), `b\r\n\0${id()}`],
    () => ['SET', key('s'), id(), 'EX', '100000'],
    () => ['RPUSH', key('l'), id(), id()],
    () => ['LPOP', key('l')],
    () => ['HINCRBY', key('h'), `f${below(5)}`, '3'],
    () => ['ZINCRBY', key('z'), '1.5', `m${below(9)}`],
    () => ['SREM', key('t'), `m${below(20)}`],
    () => ['SETRANGE', key('s'), String(below(30)), id()],
    () => ['DEL', key('s'), key('l'), key('n')],
    () => ['MSET', key('s'), id(), key('n'), '7'],
  ];
}

function crossingCommands(
  key: (kind: string) => string,
  id: () => string,
  below: (limit: number) => number,
): Maker[] {
  return [
    () => ['RENAME', key('s'), key('s')],
    () => ['RENAMENX', key('l'), key('l')],
    () => ['LMOVE', key('l'), key('l'), 'LEFT', 'RIGHT'],
    () => ['SINTERSTORE', key('t'), key('t'), key('t')],
    () => ['SUNIONSTORE', key('t'), key('t'), key('t')],
    () => ['SMOVE', key('t'), key('t'), `m${below(20)}`],
    () => ['COPY', key('h'), key('h'), 'REPLACE'],
    () => ['ZUNIONSTORE', key('z'), '2', key('z'), key('z')],
    () => ['MSETNX', `u:${id()}`, '1', `u:${id()}`, '2'],
  ];
}
