import type { Argument } from '../support/pika-log.ts';
import { random } from '../support/workload.ts';
import { PIKA_DATABASES, type PikaDatabase, type PikaOrigin } from './pika-source.ts';

// The workload as a Pika's log carries it: the rewritten forms of several versions (INCR as it stands, PSETEX as
// `pksetexat` in seconds or milliseconds, multi-key commands whole as before 3.5), each command in the log of its database.

const KEYS = 40;
const LEDGER: PikaDatabase = 'db5';
const FLUSHED = PIKA_DATABASES.filter((db) => db !== LEDGER);
const LEDGER_LISTS = 16;
const GROUP_COMMANDS_MAX = 20;
const DAY_S = 86_400;

type Maker = () => readonly Argument[];

export class PikaWorkload {
  readonly #origin: PikaOrigin;
  readonly #next: () => number;
  readonly #keyed: readonly Maker[];
  readonly #crossing: readonly Maker[];
  #unique = 0;

  constructor(origin: PikaOrigin, seed: number) {
    this.#origin = origin;
    this.#next = random(seed);
    const draw = {
      key: (kind: string) => `${kind}:${this.#below(KEYS)}`,
      id: () => String(++this.#unique),
      below: (limit: number) => this.#below(limit),
    };
    this.#keyed = keyedCommands(draw);
    this.#crossing = crossingCommands(draw);
  }

  /** Writes the next few commands; how many items of the log that were. */
  write(): number {
    const ledger = this.#next() < 0.25;
    const db = ledger ? LEDGER : this.#pick(FLUSHED);
    const wanted = 1 + this.#below(GROUP_COMMANDS_MAX);
    let items = 0;
    for (let made = 0; made < wanted; made++) items += ledger ? this.#ledgerCommand() : this.#command(db);
    return items;
  }

  #ledgerCommand(): number {
    this.#origin.write(LEDGER, [['RPUSH', `ledger:${this.#below(LEDGER_LISTS)}`, String(++this.#unique)]]);
    return 1;
  }

  #command(db: PikaDatabase): number {
    const share = this.#next() * 10_000;
    if (share < 2) {
      this.#origin.writeFlushAll(this.#pick(PIKA_DATABASES));
      return 1;
    }
    // A FLUSHALL of 4.0.1.
    if (share < 4) {
      for (const one of PIKA_DATABASES) this.#origin.write(one, [['flushdb']]);
      return PIKA_DATABASES.length;
    }
    this.#origin.write(db, [this.#made(share)]);
    return 1;
  }

  #made(share: number): readonly Argument[] {
    if (share < 50) return ['flushdb'];
    if (share < 60) return ['PKPATTERNMATCHDEL', `${this.#pick(['s', 'l', 'n'])}:${this.#below(4)}*`];
    return this.#pick(share < 500 ? this.#crossing : this.#keyed)();
  }

  #below(limit: number): number {
    return Math.floor(this.#next() * limit);
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#below(list.length)] as T;
  }
}

interface Draw {
  key(kind: string): string;
  id(): string;
  below(limit: number): number;
}

function keyedCommands({ key, id, below }: Draw): Maker[] {
  const deadlineS = () => Math.floor(Date.now() / 1_000) + DAY_S + below(DAY_S);
  return [
    () => ['INCR', key('n')],
    () => ['INCRBY', key('n'), '3'],
    () => ['APPEND', key('s'), `${id()},`],
    () => ['RPUSH', key('l'), id()],
    () => ['rpush', key('l'), id(), id()],
    () => ['lpop', key('l')],
    () => ['LINSERT', key('l'), 'BEFORE', id(), id()],
    () => ['SETRANGE', key('s'), below(30), id()],
    () => ['set', key('s'), `b\r\n\0${id()}`],
    () => ['pksetexat', key('s'), deadlineS(), id()],
    () => ['pksetexat', key('s'), deadlineS() * 1_000 + below(1_000), id()],
    () => ['pksetexat', key('s'), 0, id()],
    // Long over: the key goes.
    () => ['pksetexat', key('s'), 1_000_000_000, id()],
    () => ['expireat', key('l'), deadlineS()],
    () => ['PERSIST', key('s')],
    () => ['HINCRBY', key('h'), `f${below(5)}`, '3'],
    () => ['ZINCRBY', key('z'), '1.5', `m${below(9)}`],
    () => ['SADD', key('t'), `m${below(20)}`],
    () => ['srem', key('t'), `m${below(20)}`],
    () => ['DEL', key('l')],
    () => ['setnx', key('s'), id()],
    // A read, logged by mistake.
    () => ['SINTER', key('t'), key('t')],
  ];
}

/** As masters before 3.5 log them. */
function crossingCommands({ key, id, below }: Draw): Maker[] {
  return [
    () => ['RPOPLPUSH', key('l'), key('l')],
    () => ['SMOVE', key('t'), key('t'), `m${below(20)}`],
    () => ['SUNIONSTORE', key('t'), key('t'), key('t')],
    () => ['SINTERSTORE', key('t'), key('t'), key('t')],
    () => ['ZUNIONSTORE', key('z'), '2', key('z'), key('z')],
    () => ['DEL', key('s'), key('n')],
    () => ['MSET', key('s'), id(), key('n'), '7'],
  ];
}
