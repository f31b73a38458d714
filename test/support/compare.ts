import { isDeepStrictEqual } from 'node:util';
import { Redis } from 'ioredis';

const SCAN_COUNT = 1_000;
const SHOWN_CHARS_MAX = 80;

/** A key as it stands, with its value in a form that is equal exactly when the values are equal. */
export interface DumpedKey {
  readonly db: number;
  readonly key: Buffer;
  readonly type: string;
  /** Bytes as latin1: lists in order, sets and hashes sorted, sorted sets as member and score, streams as entries and groups. */
  readonly value: readonly string[];
  /** Milliseconds of the epoch; undefined for a key that does not expire. */
  readonly expiresAt: number | undefined;
}

export interface Difference {
  readonly db: number;
  readonly key: string;
  readonly what: string;
}

export interface CompareOptions {
  /** Keys with this prefix are left out on both sides. */
  readonly ignorePrefix?: string;
  readonly ttlToleranceMs?: number;
  /** What the deadlines of the second are held back by. */
  readonly graceMs?: number;
}

type Raw = Buffer | string | number | null | Error | Raw[];
type Command = readonly [name: string, ...args: (Buffer | string | number)[]];

/** Every key of every database, under `<db>:<key as latin1>`. A client that is passed in is left as it is. */
export async function dumpAll(source: string | Redis): Promise<Map<string, DumpedKey>> {
  const overrides = { protocol: 2, lazyConnect: true, maxRetriesPerRequest: 1 } as const;
  const redis = typeof source === 'string' ? new Redis(source, overrides) : source.duplicate(overrides);
  redis.on('error', () => {});
  try {
    const dump = new Map<string, DumpedKey>();
    for (const db of await databases(redis)) await dumpDatabase(redis, db, dump);
    return dump;
  } finally {
    redis.disconnect();
  }
}

/** Empty when both servers hold the same; otherwise one readable line for each key that differs. */
export async function compareServers(
  a: string | Redis,
  b: string | Redis,
  options: CompareOptions = {},
): Promise<Difference[]> {
  const prefix = options.ignorePrefix ?? 'lanegate:';
  const toleranceMs = options.ttlToleranceMs ?? 2_000;
  const graceMs = options.graceMs ?? 0;
  const [left, right] = await Promise.all([dumpAll(a), dumpAll(b)]);
  const differences: Difference[] = [];
  for (const name of new Set([...left.keys(), ...right.keys()])) {
    const [x, y] = [left.get(name), right.get(name)];
    const dumped = x ?? y;
    if (dumped === undefined) continue;
    const key = dumped.key.toString('latin1');
    if (prefix !== '' && key.startsWith(prefix)) continue;
    const what = difference(x, y && { ...y, expiresAt: y.expiresAt && y.expiresAt - graceMs }, toleranceMs);
    if (what !== undefined) differences.push({ db: dumped.db, key: shown(key), what });
  }
  return differences;
}

function difference(
  x: DumpedKey | undefined,
  y: DumpedKey | undefined,
  toleranceMs: number,
): string | undefined {
  if (x === undefined) return `missing in the first, ${y?.type} in the second`;
  if (y === undefined) return `${x.type} in the first, missing in the second`;
  if (x.type !== y.type) return `type ${x.type} / ${y.type}`;
  if (!isDeepStrictEqual(x.value, y.value)) {
    let at = 0;
    while (x.value[at] === y.value[at]) at++;
    const where = x.type === 'string' ? '' : ` at ${at} of ${x.value.length} / ${y.value.length}`;
    return `${x.type}${where}: ${shown(x.value[at])} / ${shown(y.value[at])}`;
  }
  if (x.expiresAt === undefined && y.expiresAt === undefined) return undefined;
  if (x.expiresAt !== undefined && y.expiresAt !== undefined) {
    const apartMs = y.expiresAt - x.expiresAt;
    return Math.abs(apartMs) <= toleranceMs ? undefined : `expires ${apartMs} ms later in the second`;
  }
  return `expires ${x.expiresAt === undefined ? 'only in the second' : 'only in the first'}`;
}

async function databases(redis: Redis): Promise<number[]> {
  const keyspace = await redis.info('keyspace');
  return [...keyspace.matchAll(/^db(\d+)[ :]/gm)].map((match) => Number(match[1]));
}

async function dumpDatabase(redis: Redis, db: number, dump: Map<string, DumpedKey>): Promise<void> {
  await redis.select(db);
  let cursor = '0';
  do {
    const [next, keys] = (await redis.callBuffer('SCAN', [cursor, 'COUNT', SCAN_COUNT])) as [
      Buffer,
      Buffer[],
    ];
    cursor = next.toString();
    for (const dumped of await dumpKeys(redis, db, keys))
      dump.set(`${db}:${dumped.key.toString('latin1')}`, dumped);
  } while (cursor !== '0');
}

async function dumpKeys(redis: Redis, db: number, keys: readonly Buffer[]): Promise<DumpedKey[]> {
  const heads = await run(
    redis,
    keys.flatMap((key): Command[] => [
      ['TYPE', key],
      ['PTTL', key],
    ]),
  );
  const now = Date.now();
  const known = keys.flatMap((key, index) => {
    const type = text(heads[2 * index]);
    const ttlMs = Number(heads[2 * index + 1]);
    // Expired between SCAN and TYPE.
    if (type === 'none') return [];
    return [{ db, key, type, expiresAt: ttlMs < 0 ? undefined : now + ttlMs }];
  });
  const values = await run(
    redis,
    known.map(({ key, type }) => readCommand(type, key)),
  );
  const dumped: DumpedKey[] = [];
  for (const [index, head] of known.entries()) {
    const raw = values[index];
    if (raw instanceof Error)
      throw new Error(`cannot read ${shown(head.key.toString('latin1'))}`, { cause: raw });
    const value =
      head.type === 'stream' ? await streamValue(redis, head.key, raw) : canonical(head.type, raw);
    dumped.push({ ...head, value });
  }
  return dumped;
}

function readCommand(type: string, key: Buffer): Command {
  switch (type) {
    case 'string':
      return ['GET', key];
    case 'list':
      return ['LRANGE', key, 0, -1];
    case 'set':
      return ['SMEMBERS', key];
    case 'zset':
      return ['ZRANGE', key, 0, -1, 'WITHSCORES'];
    case 'hash':
      return ['HGETALL', key];
    case 'stream':
      return ['XRANGE', key, '-', '+'];
    default:
      return ['DUMP', key];
  }
}

function canonical(type: string, raw: Raw | undefined): string[] {
  const flat = flatten(raw);
  if (type === 'set') return flat.sort();
  if (type === 'hash') return pairs(flat).sort();
  // Servers print the same score in different ways: 1e3 and 1000.
  if (type === 'zset') return pairs(flat, (score) => String(Number(score.replace('inf', 'Infinity'))));
  return flat;
}

/** Field and value in one string; the length keeps `a`+`bc` and `ab`+`c` apart. */
function pairs(flat: readonly string[], second: (text: string) => string = (text) => text): string[] {
  const joined: string[] = [];
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [first, other] = [flat[at] ?? '', flat[at + 1] ?? ''];
    joined.push(`${first.length}:${first} = ${second(other)}`);
  }
  return joined;
}

async function streamValue(redis: Redis, key: Buffer, entries: Raw | undefined): Promise<string[]> {
  const value = (Array.isArray(entries) ? entries : []).map((entry) => lengths(flatten(entry)));
  const [about, groups] = await run(redis, [
    ['XINFO', 'STREAM', key],
    ['XINFO', 'GROUPS', key],
  ]);
  value.push(`last id ${field(about, 'last-generated-id')}`);
  for (const group of Array.isArray(groups) ? groups : []) {
    const name = field(group, 'name');
    const [pending] = await run(redis, [['XPENDING', key, Buffer.from(name, 'latin1'), '-', '+', 1_000_000]]);
    // Without the idle time, which differs by nature.
    const held = (Array.isArray(pending) ? pending : []).map((entry) =>
      flatten(entry).slice(0, 2).join(' to '),
    );
    value.push(`group ${name} at ${field(group, 'last-delivered-id')} pending [${held.join(', ')}]`);
  }
  return value;
}

function lengths(parts: readonly string[]): string {
  return parts.map((part) => `${part.length}:${part}`).join(' ');
}

function field(raw: Raw | undefined, name: string): string {
  const list = Array.isArray(raw) ? raw : [];
  const at = list.findIndex((item, index) => index % 2 === 0 && text(item) === name);
  return at === -1 ? '' : text(list[at + 1]);
}

function flatten(raw: Raw | undefined): string[] {
  return Array.isArray(raw) ? raw.flatMap(flatten) : [text(raw)];
}

function text(raw: Raw | undefined): string {
  return Buffer.isBuffer(raw) ? raw.toString('latin1') : String(raw);
}

async function run(redis: Redis, commands: readonly Command[]): Promise<(Raw | undefined)[]> {
  if (commands.length === 0) return [];
  const pipeline = redis.pipeline();
  // Upper-case names pass ioredis' reply transformers by: its HGETALL makes an object with UTF-8 field names.
  for (const [name, ...args] of commands) pipeline.callBuffer(name, args);
  const results = (await pipeline.exec()) ?? [];
  return results.map(([error, reply]) => error ?? (reply as Raw));
}

function shown(latin1: string | undefined): string {
  if (latin1 === undefined) return 'nothing';
  const printable = latin1.replace(
    /[^\x20-\x7e]/g,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return printable.length <= SHOWN_CHARS_MAX
    ? printable
    : `${printable.slice(0, SHOWN_CHARS_MAX)}... (${printable.length})`;
}
