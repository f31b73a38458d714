// The logs that are drained, and how they get into the stream.

import { laneOf, slotOf } from '../src/binlog/lane-map.ts';
import { encodeCommand } from '../src/binlog/resp.ts';
import { BinlogWriter, type EncodedEntry } from '../src/sources/binlog-writer.ts';
import { randomFrom } from './figures.ts';
import { type Bench, type Filled, KEYSPACE, LANES } from './support.ts';

const COMMANDS_PER_ENTRY = 100;
/** Of entries with large values. */
const ENTRY_BYTES = 64 * 1024;
const ENTRIES_PER_APPEND = 200;
const APPEND_BYTES = 4 * 1024 * 1024;
const VALUE = Buffer.alloc(100, 'x');
const SEED = 20_240_601;
/** Of each kind of crossing command: enough that its lanes differ all the time. */
const CROSSING_KEYS = 1_000;

/** Appends entries as they are made; keeps the log's figures. */
class Filler {
  readonly #writer: BinlogWriter;
  readonly #key: string;
  #entries: EncodedEntry[] = [];
  #entriesBytes = 0;
  #bytes = 0;
  #open: Buffer[] = [];
  #commandsInEntry = 0;
  #sending: Promise<unknown> = Promise.resolve();
  #seqs = 0;
  #commands = 0;

  constructor(bench: Bench, key: string) {
    this.#key = key;
    this.#writer = new BinlogWriter({ url: `redis-stream://127.0.0.1:${bench.source.port}?key=${key}` });
  }

  get commands(): number {
    return this.#commands;
  }

  /** Several commands are a MULTI ... EXEC, which no entry may cut. */
  async add(commands: readonly Buffer[]): Promise<void> {
    const [first] = commands;
    if (commands.length === 1 && first) this.#open.push(first);
    else this.#open.push(MULTI, ...commands, EXEC);
    this.#seqs += commands.length === 1 ? 1 : commands.length + 2;
    this.#commands += commands.length;
    this.#commandsInEntry += commands.length;
    if (this.#commandsInEntry >= COMMANDS_PER_ENTRY) await this.#closeEntry();
  }

  /** A whole entry that is made already. */
  async entry(resp: Buffer, commands: number): Promise<void> {
    this.#seqs += commands;
    this.#commands += commands;
    await this.#push(resp);
  }

  async finish(keys: number | undefined): Promise<Filled> {
    if (this.#open.length > 0) await this.#closeEntry();
    await this.#append();
    await this.#sending;
    await this.#writer.close();
    return { key: this.#key, seqs: this.#seqs, commands: this.#commands, keys, bytes: this.#bytes };
  }

  async #closeEntry(): Promise<void> {
    const resp = Buffer.concat(this.#open);
    this.#open = [];
    this.#commandsInEntry = 0;
    await this.#push(resp);
  }

  async #push(resp: Buffer): Promise<void> {
    this.#entries.push({ resp });
    this.#entriesBytes += resp.length;
    this.#bytes += resp.length;
    if (this.#entries.length >= ENTRIES_PER_APPEND || this.#entriesBytes >= APPEND_BYTES)
      await this.#append();
  }

  async #append(): Promise<void> {
    const entries = this.#entries;
    this.#entries = [];
    this.#entriesBytes = 0;
    await this.#sending;
    this.#sending = this.#writer.appendEncoded(entries);
    this.#sending.catch(() => {});
  }
}

const MULTI = encodeCommand(['MULTI']);
const EXEC = encodeCommand(['EXEC']);

/** What redis-benchmark -t set -d 100 -r 1000000 sends: SET key:<12 digits> <100 x>. */
export async function fillSets(
  bench: Bench,
  key: string,
  commands: number,
  { valueBytes = VALUE.length, keyspace = KEYSPACE, keysFrom = 0 } = {},
): Promise<Filled> {
  const filler = new Filler(bench, key);
  const random = randomFrom(SEED);
  const set = encodeCommand(['SET', `key:${'0'.repeat(12)}`, Buffer.alloc(valueBytes, 'x')]);
  const perEntry = Math.max(1, Math.min(COMMANDS_PER_ENTRY, Math.floor(ENTRY_BYTES / set.length)));
  const digitsAt = set.indexOf('key:') + 'key:'.length;
  const template = Buffer.concat(new Array<Buffer>(perEntry).fill(set));
  const seen = new Uint8Array(keyspace);
  let keys = 0;
  for (let left = commands; left > 0; left -= perEntry) {
    const count = Math.min(left, perEntry);
    const resp = Buffer.from(template.subarray(0, count * set.length));
    for (let i = 0; i < count; i++) {
      const number = Math.floor(random() * keyspace);
      if (seen[number] === 0) keys++;
      seen[number] = 1;
      resp.write(String(keysFrom + number).padStart(12, '0'), i * set.length + digitsAt, 'latin1');
    }
    await filler.entry(resp, count);
  }
  return filler.finish(keys);
}

/** Plain SETs of which a share is replaced by RENAME, SINTERSTORE and MULTI/SET/SET/EXEC over two lanes, in turn. */
export async function fillMix(bench: Bench, key: string, commands: number, share: number): Promise<Filled> {
  const filler = new Filler(bench, key);
  const random = randomFrom(SEED + 1);
  const at = () => Math.floor(random() * CROSSING_KEYS);
  const pairs = Array.from({ length: CROSSING_KEYS }, (_, n) => crossingKeys(`rename:${n}`));
  const sets = Array.from({ length: CROSSING_KEYS }, (_, n) => crossingKeys(`set:${n}`));
  for (const [from] of pairs) await filler.add([encodeCommand(['SET', from, VALUE])]);
  for (const [, to] of sets) {
    await filler.add([encodeCommand(['SADD', `{${to}}:1`, 'a', 'b', 'c'])]);
    await filler.add([encodeCommand(['SADD', `{${to}}:2`, 'b', 'c', 'd'])]);
  }
  for (let kind = 0; filler.commands < commands; ) {
    if (random() >= share) {
      await filler.add([encodeCommand(['SET', randomKey(random), VALUE])]);
      continue;
    }
    if (kind === 0) {
      const n = at();
      const [from, to] = pairs[n] as [string, string];
      pairs[n] = [to, from];
      await filler.add([encodeCommand(['RENAME', from, to])]);
    } else if (kind === 1) {
      const [store, to] = sets[at()] as [string, string];
      await filler.add([encodeCommand(['SINTERSTORE', store, `{${to}}:1`, `{${to}}:2`])]);
    } else {
      // Two commands that cross: one draw in two, so that the share is kept.
      const [one, two] = crossingKeys(`multi:${at()}`);
      if (random() < 0.5)
        await filler.add([encodeCommand(['SET', one, VALUE]), encodeCommand(['SET', two, VALUE])]);
      else continue;
    }
    kind = (kind + 1) % 3;
  }
  return filler.finish(undefined);
}

/** FLUSHDB with `between` SETs before each. */
export async function fillFlushes(
  bench: Bench,
  key: string,
  options: { flushes: number; between: number },
): Promise<Filled> {
  const filler = new Filler(bench, key);
  const random = randomFrom(SEED + 2);
  for (let n = 0; n < options.flushes; n++) {
    for (let i = 0; i < options.between; i++)
      await filler.add([encodeCommand(['SET', randomKey(random), 'v'])]);
    await filler.add([encodeCommand(['FLUSHDB'])]);
  }
  return filler.finish(0);
}

/** One key for each lane. */
export function keyOfEachLane(): string[] {
  return Array.from({ length: LANES }, (_, lane) => {
    for (let n = 0; ; n++) if (laneOfKey(`lane:${n}`) === lane) return `lane:${n}`;
  });
}

function randomKey(random: () => number): string {
  return `key:${String(Math.floor(random() * KEYSPACE)).padStart(12, '0')}`;
}

function crossingKeys(stem: string): [string, string] {
  const from = `${stem}:a`;
  for (let n = 0; ; n++) {
    const to = `${stem}:b${n}`;
    if (laneOfKey(to) !== laneOfKey(from)) return [from, to];
  }
}

function laneOfKey(key: string): number {
  const bytes = Buffer.from(key);
  return laneOf(slotOf(bytes, 0, bytes.length), LANES);
}
