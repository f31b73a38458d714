// What stands in the lane logs and in the gate log, and how it is written down.
//
// An item's `commands` bytes (RESP, ready for the target) and its `index` (varints, one group per RESP
// command) belong together: group = (delta << 2 | inTransaction << 1 | inserted). `inserted` marks a SELECT
// that the sequencer put in; it has no seq of its own. `inTransaction` ties a command to the one before it.
// In the gate log each group is followed by its lanes: a count (0 = all lanes of the gate), then the lanes.

/** One RESP command of an item. */
export interface IndexedCommand {
  /** Source number; for an inserted SELECT that of the command behind it. */
  readonly seq: number;
  /** An inserted SELECT. */
  readonly inserted: boolean;
  /** Belongs to the same MULTI ... EXEC as the command before it. */
  readonly continues: boolean;
  /** Gate log only: its own lanes; undefined = all lanes of the gate. */
  readonly lanes: readonly number[] | undefined;
}

export interface LaneItem {
  readonly kind: 'batch' | 'marker';
  readonly generation: string;
  /** The item's last seq; of a marker, the seq of the gate. */
  readonly seq: number;
  /** The lane's seq directly before this item. */
  readonly previous: number;
  readonly first: number;
  /** RESP commands in `commands`, inserted SELECTs included; of a marker the number of lanes of its gate. */
  readonly count: number;
  /** Database in which the bytes start, in which they end, and the highest between. */
  readonly db: number;
  readonly dbLast: number;
  readonly dbMax: number;
  /** When the source ran the first of them, ms since 1970. */
  readonly timeMs: number;
  /** The first deadline that one of them sets, ms since 1970, where deadlines are watched; else Infinity. */
  readonly deadlineMs: number;
  /** Bytes of the lane log before this item since the journal was created. */
  readonly bytesBefore: number;
  readonly index: Buffer;
  readonly commands: Buffer;
}

/** `swap` names the two databases of each SWAPDB of the segment. */
export interface GateItem {
  readonly generation: string;
  /** The gate's number: last seq of its segment. */
  readonly seq: number;
  readonly first: number;
  readonly lanes: readonly number[];
  /** Per lane of `lanes`: the lane's seq directly before the marker. */
  readonly previous: readonly number[];
  readonly count: number;
  readonly db: number;
  readonly dbLast: number;
  readonly dbMax: number;
  readonly timeMs: number;
  readonly deadlineMs: number;
  readonly bytesBefore: number;
  /** The control keys of the target do not survive the batch and are written again behind it. */
  readonly erases: boolean;
  readonly swapped: readonly number[];
  /** Name of the crossing command, `+n` for n more in the segment. */
  readonly title: string;
  readonly index: Buffer;
  readonly commands: Buffer;
}

const EMPTY = Buffer.alloc(0);
const ITEM_OVERHEAD_BYTES = 128;

/** What an item weighs in the budget, with what the server keeps around it. */
export function itemBytes(item: { readonly commands: Buffer; readonly index: Buffer }): number {
  return item.commands.length + item.index.length + ITEM_OVERHEAD_BYTES;
}

/** Grows; holds the index of one item while the sequencer builds it. */
export class IndexWriter {
  #bytes = Buffer.allocUnsafe(256);
  #length = 0;
  #last = 0;

  get length(): number {
    return this.#length;
  }

  begin(first: number): void {
    this.#length = 0;
    this.#last = first;
  }

  add(seq: number, inserted: boolean, continues: boolean): void {
    const delta = seq - this.#last;
    this.#last = seq;
    const flags = (continues ? 2 : 0) | (inserted ? 1 : 0);
    if (delta < 32) {
      if (this.#length === this.#bytes.length) this.#grow();
      this.#bytes[this.#length++] = (delta << 2) | flags;
    } else {
      this.#varint(delta * 4 + flags);
    }
  }

  /** Undefined stands for all lanes of the gate. */
  addLanes(lanes: readonly number[] | undefined): void {
    this.#varint(lanes?.length ?? 0);
    for (const lane of lanes ?? []) this.#varint(lane);
  }

  /** The same as `addLanes([lane])`. */
  addLane(lane: number): void {
    this.#varint(1);
    this.#varint(lane);
  }

  take(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  #varint(value: number): void {
    while (this.#length + 10 > this.#bytes.length) this.#grow();
    let rest = value;
    while (rest >= 128) {
      this.#bytes[this.#length++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    this.#bytes[this.#length++] = rest;
  }

  #grow(): void {
    const larger = Buffer.allocUnsafe(this.#bytes.length * 2);
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** Reads the index of a lane item (`first` is its first seq), or of a gate item, which counts from 0 and has lanes. */
export function readIndex(index: Buffer, first: number | 'gate'): IndexedCommand[] {
  const withLanes = first === 'gate';
  const commands: IndexedCommand[] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = index[at++];
      if (byte === undefined) throw new RangeError('the index of a journal item is cut short');
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  for (let seq = withLanes ? 0 : first; at < index.length; ) {
    const group = varint();
    seq += Math.floor(group / 4);
    const lanes = withLanes ? Array.from({ length: varint() }, varint) : [];
    commands.push({
      seq,
      inserted: (group & 1) === 1,
      continues: (group & 2) === 2,
      lanes: withLanes && lanes.length > 0 ? lanes : undefined,
    });
  }
  return commands;
}

/** How many of the RESP commands behind an index are SELECTs that were put in. */
export function insertedIn(index: Buffer, of: 'lane' | 'gate'): number {
  let inserted = 0;
  // A varint ends with the first byte below 128; the flags of a group are in its first one.
  for (let at = 0; at < index.length; ) {
    inserted += (index[at] as number) & 1;
    while ((index[at++] as number) >= 128);
    if (of === 'lane') continue;
    let lanes = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = index[at++] ?? 0;
      lanes += (byte & 127) * scale;
      if (byte < 128) break;
    }
    for (; lanes > 0; lanes--) while ((index[at++] ?? 0) >= 128);
  }
  return inserted;
}

/** The header of an item as text; a commit appends `bytesBefore`. */
export function laneHeader(item: Omit<LaneItem, 'bytesBefore' | 'index' | 'commands'>): string {
  const kind = item.kind === 'batch' ? 'b' : 'm';
  return `${kind} ${item.generation} ${item.previous} ${item.first} ${item.count} ${item.db} ${item.dbLast} ${item.dbMax} ${item.timeMs}${deadlineWord(item)}`;
}

export function gateHeader(item: Omit<GateItem, 'bytesBefore' | 'index' | 'commands'>): string {
  const erases = item.erases ? 1 : 0;
  const lists = [item.lanes, item.previous, item.swapped].map((list) =>
    list.length === 0 ? '-' : list.join(','),
  );
  return `g ${item.generation} ${item.first} ${item.count} ${item.db} ${item.dbLast} ${item.dbMax} ${item.timeMs} ${erases} ${lists.join(' ')} ${item.title.replaceAll(' ', '_')}${deadlineWord(item)}`;
}

/** Most items have none, and are read by every version. */
function deadlineWord({ deadlineMs }: { readonly deadlineMs: number }): string {
  return deadlineMs === Infinity ? '' : ` ${deadlineMs}`;
}

export type RawItem = readonly [id: Buffer, fields: readonly Buffer[]];

export function parseLaneItem([id, fields]: RawItem): LaneItem {
  const header = parseLaneHeader(String(id), String(fields[1]));
  return { ...header, index: fields[3] ?? EMPTY, commands: fields[5] ?? EMPTY };
}

/** The same without the bytes: `index` and `commands` are empty. */
export function parseLaneHeader(id: string, header: string): LaneItem {
  const words = header.split(' ');
  const bytesBefore = Number(words.pop());
  if (words.length < 9 || words.length > 10 || (words[0] !== 'b' && words[0] !== 'm'))
    throw new Error(`not a lane item at ${id}`);
  return {
    kind: words[0] === 'b' ? 'batch' : 'marker',
    generation: String(words[1]),
    seq: Number.parseInt(id, 10),
    previous: Number(words[2]),
    first: Number(words[3]),
    count: Number(words[4]),
    db: Number(words[5]),
    dbLast: Number(words[6]),
    dbMax: Number(words[7]),
    timeMs: Number(words[8]),
    deadlineMs: Number(words[9] ?? Infinity),
    bytesBefore,
    index: EMPTY,
    commands: EMPTY,
  };
}

export function parseGateItem(seq: number, header: string, fields: readonly Buffer[]): GateItem {
  return { ...parseGateHeader(`${seq}-0`, header), index: fields[1] ?? EMPTY, commands: fields[3] ?? EMPTY };
}

export function parseGateHeader(id: string, header: string): GateItem {
  const words = header.split(' ');
  const bytesBefore = Number(words.pop());
  if (words.length < 13 || words.length > 14 || words[0] !== 'g') throw new Error(`not a gate item at ${id}`);
  const list = (text: string | undefined) => (text === '-' ? [] : String(text).split(',').map(Number));
  return {
    generation: String(words[1]),
    seq: Number.parseInt(id, 10),
    first: Number(words[2]),
    count: Number(words[3]),
    db: Number(words[4]),
    dbLast: Number(words[5]),
    dbMax: Number(words[6]),
    timeMs: Number(words[7]),
    deadlineMs: Number(words[13] ?? Infinity),
    erases: words[8] === '1',
    lanes: list(words[9]),
    previous: list(words[10]),
    swapped: list(words[11]),
    title: String(words[12]).replaceAll('_', ' '),
    bytesBefore,
    index: EMPTY,
    commands: EMPTY,
  };
}
