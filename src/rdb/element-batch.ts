// Elements on their way from a stored value into commands: collected until a command is large enough, never cut
// between a member and its score or a field and its value.

import type { Sink } from './rebuilt.ts';

const BATCH_BYTES = 16_384;
const BATCH_ARGS = 1024;

export interface Collector {
  /** The next element in the order in which it is stored. */
  add(element: Buffer): void;
  /** The end of the value. */
  flush(): void;
  readonly isFull: boolean;
}

class Batch implements Collector {
  readonly #sink: Sink;
  readonly #head: readonly Buffer[];
  #args: Buffer[] = [];
  #bytes = 0;

  constructor(sink: Sink, ...head: readonly Buffer[]) {
    this.#sink = sink;
    this.#head = head;
  }

  get isFull(): boolean {
    return this.#sink.isFull;
  }

  /** True if the batch has become empty by that. */
  addGroup(...elements: readonly Buffer[]): boolean {
    for (const element of elements) {
      this.#args.push(element);
      this.#bytes += element.length;
    }
    const isLarge = this.#bytes >= BATCH_BYTES || this.#args.length >= BATCH_ARGS;
    if (isLarge) this.flush();
    return isLarge;
  }

  add(element: Buffer): void {
    this.addGroup(element);
  }

  flush(): void {
    if (this.#args.length > 0) this.#sink.command([...this.#head, ...this.#args]);
    this.#args = [];
    this.#bytes = 0;
  }
}

/** Takes elements in groups of `size`. */
class Grouped implements Collector {
  readonly #batch: Batch;
  readonly #size: number;
  readonly #take: (group: readonly Buffer[]) => void;
  readonly #flush: () => void;
  #group: Buffer[] = [];

  constructor(
    batch: Batch,
    size: number,
    take: (group: readonly Buffer[]) => void,
    flush = () => batch.flush(),
  ) {
    this.#batch = batch;
    this.#size = size;
    this.#take = take;
    this.#flush = flush;
  }

  get isFull(): boolean {
    return this.#batch.isFull;
  }

  add(element: Buffer): void {
    this.#group.push(element);
    if (this.#group.length < this.#size) return;
    this.#take(this.#group);
    this.#group = [];
  }

  flush(): void {
    this.#flush();
  }
}

/** RPUSH, SADD */
export function plain(sink: Sink, command: string, key: Buffer): Collector {
  return new Batch(sink, Buffer.from(command), key);
}

/** ZADD; stored are member and score. */
export function scores(sink: Sink, key: Buffer): Collector {
  const batch = new Batch(sink, Buffer.from('ZADD'), key);
  return new Grouped(batch, 2, ([member, score]) => batch.addGroup(score as Buffer, member as Buffer));
}

/** HSET */
export function fields(sink: Sink, key: Buffer): Collector {
  const batch = new Batch(sink, Buffer.from('HSET'), key);
  return new Grouped(batch, 2, (group) => batch.addGroup(...group));
}

/** HSET and HPEXPIREAT; stored are field, value and deadline (0 or below: none), or the deadline first. */
export function fieldsWithDeadlines(sink: Sink, key: Buffer, deadlineStands: 'first' | 'last'): Collector {
  const batch = new Batch(sink, Buffer.from('HSET'), key);
  let expiring: (readonly [field: Buffer, deadline: Buffer])[] = [];
  const expire = () => {
    for (const [field, deadline] of expiring) {
      sink.command([HPEXPIREAT, key, deadline, FIELDS, ONE, field]);
    }
    expiring = [];
  };
  const take = (group: readonly Buffer[]) => {
    const [field, value, deadline] = (
      deadlineStands === 'first' ? [group[1], group[2], group[0]] : group
    ) as [Buffer, Buffer, Buffer];
    if (deadline[0] !== MINUS && deadline[0] !== ZERO) expiring.push([field, deadline]);
    if (batch.addGroup(field, value)) expire();
  };
  return new Grouped(batch, 3, take, () => {
    batch.flush();
    expire();
  });
}

const HPEXPIREAT = Buffer.from('HPEXPIREAT');
const FIELDS = Buffer.from('FIELDS');
const ONE = Buffer.from('1');
const MINUS = 45;
const ZERO = 48;
