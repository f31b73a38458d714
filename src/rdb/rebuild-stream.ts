// A stream by XADD, XSETID, XGROUP and XCLAIM, as the server itself writes it into a rewritten AOF.
//
// Memory: one node of entries (4 KiB as a rule), and about 150 bytes for each pending entry of one group.
// What commands cannot make: pending entries of deleted messages (XCLAIM drops them since Redis 7), seen and active
// times of consumers, what XNACK and idempotent producers left (Redis 8); the latter two are told as notices.

import { TYPE } from './format.ts';
import { listpack } from './packed.ts';
import { RdbError } from './rdb-error.ts';
import { type Rebuilt, type Sink, type Steps, whole } from './rebuilt.ts';
import type { ValueReader } from './value-reader.ts';

/** Since this version XSETID and XGROUP CREATE take counters. */
const COUNTERS_SINCE = 10;
const DELETED = 1;
const SAME_FIELDS = 2;

const REVISIONS: ReadonlyMap<number, number> = new Map([
  [TYPE.streamListpacks, 1],
  [TYPE.streamListpacks2, 2],
  [TYPE.streamListpacks3, 3],
  [TYPE.streamListpacks4, 4],
  [TYPE.streamListpacks5, 5],
]);

interface StreamState {
  readonly value: Rebuilt;
  readonly reader: ValueReader;
  readonly sink: Sink;
  readonly revision: number;
  readonly withCounters: boolean;
}

export function* rebuildStream(value: Rebuilt, reader: ValueReader, sink: Sink): Steps {
  const revision = REVISIONS.get(value.type) ?? 1;
  const withCounters = revision >= 2 && value.targetVersion >= COUNTERS_SINCE;
  const state = { value, reader, sink, revision, withCounters };
  let nodes = yield* whole(() => reader.length());
  for (; nodes > 0; nodes--) yield* node(state);
  yield* lastId(state);
  let groups = yield* whole(() => reader.length());
  for (; groups > 0; groups--) yield* group(state);
  if (revision >= 4) yield* idempotence(state);
}

function* node(state: StreamState): Steps {
  const { reader, sink, value } = state;
  const { offset } = reader.window;
  const id = yield* whole(() => reader.string());
  const bytes = yield* whole(() => reader.string());
  if (id.length !== 16) throw new RdbError(offset, 'a stream id of 16 bytes');
  for (const entry of nodeEntries(id, bytes, offset)) {
    sink.command([XADD, value.key, ...entry]);
    if (sink.isFull) yield;
  }
}

/** Id, then fields and values in turn, of each entry that is not deleted. */
function* nodeEntries(id: Buffer, bytes: Buffer, offset: number): Generator<Buffer[], void> {
  const elements = listpack({ bytes, offset });
  const next = (): Buffer => {
    const step = elements.next();
    if (step.done === true) throw new RdbError(offset, 'a whole stream entry');
    return step.value;
  };
  const number = () => numberOf(next(), offset);
  const ms = id.readBigUInt64BE(0);
  const seq = id.readBigUInt64BE(8);
  const total = number() + number();
  const shared: Buffer[] = [];
  for (let left = number(); left > 0; left--) shared.push(next());
  next();
  for (let i = 0; i < total; i++) {
    const flags = number();
    const idText = `${wrap(ms, next(), offset)}-${wrap(seq, next(), offset)}`;
    const entry: Buffer[] = [Buffer.from(idText)];
    if ((flags & SAME_FIELDS) !== 0) for (const field of shared) entry.push(field, next());
    else for (let left = 2 * number(); left > 0; left--) entry.push(next());
    next();
    if ((flags & DELETED) === 0) yield entry;
  }
}

function numberOf(text: Buffer, offset: number): number {
  const number = Number(text.toString('latin1'));
  if (!Number.isSafeInteger(number) || number < 0) throw new RdbError(offset, 'a count in a stream');
  return number;
}

/** Differences are signed and ids wrap at 64 bits. */
function wrap(base: bigint, difference: Buffer, offset: number): bigint {
  const text = difference.toString('latin1');
  if (difference.length > 20 || !Number.isInteger(Number(text)) || text === '') {
    throw new RdbError(offset, 'a difference of stream ids');
  }
  return BigInt.asUintN(64, base + BigInt(text));
}

function* lastId(state: StreamState): Steps {
  const { reader, sink, value, revision } = state;
  const numbers: bigint[] = [];
  for (let count = revision >= 2 ? 8 : 3; count > 0; count--) {
    const number = yield* whole(() => reader.wide());
    numbers.push(number);
  }
  const [length, ms, seq] = numbers as [bigint, bigint, bigint];
  if (length === 0n) {
    // An empty stream comes to be by an entry that is trimmed at once.
    const id = ms === 0n && seq === 0n ? '0-1' : `${ms}-${seq}`;
    sink.command(['XADD', value.key, 'MAXLEN', '0', id, 'x', 'y'].map(bytesOf));
  }
  const command = ['XSETID', value.key, `${ms}-${seq}`];
  if (state.withCounters) {
    command.push('ENTRIESADDED', String(numbers[7]), 'MAXDELETEDID', `${numbers[5]}-${numbers[6]}`);
  }
  sink.command(command.map(bytesOf));
}

interface Delivery {
  readonly time: string;
  readonly count: string;
}

function* group(state: StreamState): Steps {
  const { reader, sink, value, revision } = state;
  const name = yield* whole(() => reader.string());
  const numbers: bigint[] = [];
  for (let count = revision >= 2 ? 3 : 2; count > 0; count--) {
    const number = yield* whole(() => reader.wide());
    numbers.push(number);
  }
  const command = ['XGROUP', 'CREATE', value.key, name, `${numbers[0]}-${numbers[1]}`];
  const entriesRead = BigInt.asIntN(64, numbers[2] ?? -1n);
  if (state.withCounters && entriesRead >= 0n) command.push('ENTRIESREAD', String(entriesRead));
  sink.command(command.map(bytesOf));

  const pending = new Map<string, Delivery>();
  yield* deliveries(state, pending);
  let consumers = yield* whole(() => reader.length());
  for (; consumers > 0; consumers--) yield* consumer(state, name, pending);
  if (revision >= 5) yield* unowned(state);
  if (pending.size > 0)
    value.onNotice(`left out ${pending.size} pending entries of a group that nobody holds`);
}

function* deliveries({ reader }: StreamState, pending: Map<string, Delivery>): Steps {
  let left = yield* whole(() => reader.length());
  for (; left > 0; left--) {
    const id = yield* whole(() => reader.bytes(16));
    const time = yield* whole(() => reader.time());
    const count = yield* whole(() => reader.wide());
    pending.set(id.toString('latin1'), { time, count: String(count) });
  }
}

function* consumer(state: StreamState, groupName: Buffer, pending: Map<string, Delivery>): Steps {
  const { reader, sink, value, revision } = state;
  const name = yield* whole(() => reader.string());
  yield* whole(() => reader.bytes(revision >= 3 ? 16 : 8));
  let left = yield* whole(() => reader.length());
  if (left === 0) {
    sink.command(['XGROUP', 'CREATECONSUMER', value.key, groupName, name].map(bytesOf));
  }
  for (; left > 0; left--) {
    const id = yield* whole(() => reader.bytes(16));
    const raw = id.toString('latin1');
    const delivery = pending.get(raw);
    if (delivery === undefined) throw reader.window.bad('a pending entry of the group', -16);
    pending.delete(raw);
    const idText = `${id.readBigUInt64BE(0)}-${id.readBigUInt64BE(8)}`;
    const claim = ['XCLAIM', value.key, groupName, name, '0', idText, 'TIME', delivery.time];
    sink.command([...claim, 'RETRYCOUNT', delivery.count, 'JUSTID', 'FORCE'].map(bytesOf));
    if (sink.isFull) yield;
  }
}

/** Ids that are pending but were given back by their consumers. */
function* unowned({ reader }: StreamState): Steps {
  let left = yield* whole(() => reader.length());
  for (; left > 0; left--) yield* whole(() => reader.bytes(16));
}

function* idempotence({ reader, value }: StreamState): Steps {
  for (let i = 0; i < 2; i++) yield* whole(() => reader.wide());
  let producers = yield* whole(() => reader.length());
  if (producers > 0) value.onNotice('left out what a stream remembers of its idempotent producers');
  for (; producers > 0; producers--) {
    yield* whole(() => reader.string());
    let left = yield* whole(() => reader.length());
    for (; left > 0; left--) {
      yield* whole(() => reader.string());
      for (let i = 0; i < 2; i++) yield* whole(() => reader.wide());
    }
  }
  for (let i = 0; i < 2; i++) yield* whole(() => reader.wide());
}

const XADD = Buffer.from('XADD');

function bytesOf(arg: string | Buffer): Buffer {
  return Buffer.isBuffer(arg) ? arg : Buffer.from(arg);
}
