import type { Redis } from 'ioredis';
import { type FlushIntent, type FlushRecord, parseIntent } from './flush-intent.ts';
import {
  type GateItem,
  type LaneItem,
  parseGateHeader,
  parseGateItem,
  parseLaneHeader,
  parseLaneItem,
  type RawItem,
} from './item.ts';
import { JournalKeys } from './keys.ts';
import type { LaneView } from './mark.ts';
import { runScript } from './scripts.ts';

/** One thing that a round appends: a lane's batch or marker, a gate's batch, or a dead letter. */
export interface RoundItem {
  readonly where: number | 'g' | 'd';
  readonly seq: number;
  readonly header: string;
  readonly index: Buffer;
  readonly commands: Buffer;
}

/** What one commit appends. Sequence numbers up to `lastSeq` are spoken for, also those that left no item. */
export interface Round {
  readonly lastSeq: number;
  readonly position: string;
  readonly timeMs: number;
  readonly ignored: number;
  /** Commands whose effect the log does not fix. */
  readonly undetermined: number;
  readonly items: readonly RoundItem[];
}

export type CommitOutcome =
  | { readonly kind: 'ok' | 'repeated'; readonly unappliedBytes: number; readonly asleep: readonly number[] }
  | { readonly kind: 'fenced'; readonly by: string }
  | { readonly kind: 'missing' }
  /** A log holds what the head does not know; it has been reported, and the journal must be made anew. */
  | { readonly kind: 'damaged'; readonly why: string };

export interface JournalStart {
  readonly epoch: number;
  readonly head: number;
  readonly position: string;
  readonly lanes: number;
  readonly generation: string;
  readonly headTimeMs: number;
  readonly tails: readonly number[];
}

export interface Snapshot {
  readonly id: string;
  readonly epoch: number;
  readonly generation: string;
  readonly lanes: number;
  readonly head: number;
  readonly position: string;
  readonly headTimeMs: number;
  readonly holder: string;
  readonly backpressure: boolean;
  /** Epoch in which the journal was created anew; 0 for none. */
  readonly rebuiltAtEpoch: number;
  readonly gateOutBytes: number;
  readonly gateInBytes: number;
  readonly views: readonly LaneView[];
}

/** What a lane, or the gate, has done through `seq`, whose replies are read. */
export interface Step {
  readonly where: number | 'g';
  readonly seq: number;
  /** Bytes of its log through `seq`. */
  readonly outBytes: number;
  /** Commands. */
  readonly applied: number;
  /** Unapplied bytes below which an ingest that waits for room is woken. */
  readonly wakeBelowBytes: number;
}

export interface ResumePoint {
  readonly seq: number;
  readonly position: string;
  readonly tails: readonly number[];
}

/** Of a gate that is not closed the watchdog's announcements bring the lanes back well before. */
const ARRIVALS_KEPT_MS = 60_000;

/** The durable log between the source and the lanes: Redis Streams in the queue's Redis, changed by Lua steps, and rounds by fenced transactions. */
export class Journal {
  readonly keys: JournalKeys;
  readonly #redis: Redis;

  /** `redis` may re-send on reconnect: every step here can be repeated. */
  constructor(name: string, redis: Redis) {
    this.keys = new JournalKeys(name);
    this.#redis = redis;
  }

  /** What is in force now; undefined when there is no journal. */
  async inForce(): Promise<
    { id: string; generation: string; lanes: number; epoch: number; head: number } | undefined
  > {
    const [id, generation, lanes, epoch, head] = await this.#redis.hmget(
      this.keys.state,
      'id',
      'generation',
      'lanes',
      'epoch',
      'head',
    );
    if (!id || !generation || !lanes || !head) return undefined;
    return { id, generation, lanes: Number(lanes), epoch: Number(epoch), head: Number(head) };
  }

  async begin(id: string, holder: string): Promise<JournalStart | 'fenced' | 'missing'> {
    const reply = (await runScript(
      this.#redis,
      'begin',
      [this.keys.state, this.keys.fence],
      [id, holder],
    )) as string[];
    if (reply[0] !== 'ok') return reply[0] === 'fenced' ? 'fenced' : 'missing';
    return {
      epoch: Number(reply[1]),
      head: Number(reply[2]),
      position: String(reply[3]),
      lanes: Number(reply[4]),
      generation: String(reply[5]),
      headTimeMs: Number(reply[6]),
      tails: reply.slice(7).map(Number),
    };
  }

  /** What is recorded of a flush that must run alone; it outlives the journal that it was recorded in. */
  async flushRecord(): Promise<FlushRecord> {
    const [sentinel, record] = await this.#redis.hmget(this.keys.flush, 'sentinel', 'record');
    return { newest: sentinel ?? '', intent: record ? parseIntent(record) : undefined };
  }

  /** False when another journal is in force, or somebody was faster. `newest`: the sentinel that was seen, '' for none. */
  async recordFlush(id: string, intent: FlushIntent, newest: string): Promise<boolean> {
    const { generation, gate, sentinel } = intent;
    const keys = [this.keys.state, this.keys.flush];
    const args = [id, generation, gate, newest, sentinel, JSON.stringify(intent)];
    return (await runScript(this.#redis, 'flush-intent', keys, args)) === 1;
  }

  async flushSettled({ sentinel }: FlushIntent): Promise<void> {
    await runScript(this.#redis, 'flush-settled', [this.keys.flush], [sentinel]);
  }

  async rebuild(options: {
    replaces: { id: string; epoch: number } | undefined;
    id: string;
    generation: string;
    lanes: number;
    lanesBefore: number;
    start: ResumePoint;
    timeMs: number;
    holder: string;
  }): Promise<{ epoch: number } | 'fenced'> {
    const { start, replaces } = options;
    const logs = this.keys.logs(Math.max(options.lanes, options.lanesBefore));
    const reply = (await runScript(
      this.#redis,
      'rebuild',
      [
        this.keys.state,
        this.keys.positions,
        this.keys.gates,
        this.keys.gateCommands,
        this.keys.room,
        this.keys.fence,
        ...logs,
      ],
      [
        replaces?.id ?? '',
        replaces?.epoch ?? '',
        options.id,
        options.generation,
        options.lanes,
        start.seq,
        start.position,
        options.holder,
        options.timeMs,
        ...Array.from({ length: options.lanes }, (_, lane) => start.tails[lane] ?? start.seq),
      ],
    )) as [string, number];
    return reply[0] === 'ok' ? { epoch: Number(reply[1]) } : 'fenced';
  }

  async snapshot(lanes: number, checkpoints: readonly (number | undefined)[]): Promise<Snapshot | undefined> {
    const reply = (await runScript(
      this.#redis,
      'snapshot',
      [this.keys.state, ...this.keys.logs(lanes)],
      Array.from({ length: lanes }, (_, lane) => checkpoints[lane] ?? 0),
    )) as unknown[];
    if (reply[0] !== 'ok') return undefined;
    const text = (at: number) => String(reply[at]);
    return {
      id: text(1),
      epoch: Number(reply[2]),
      generation: text(3),
      lanes: Number(reply[4]),
      head: Number(reply[5]),
      position: text(6),
      headTimeMs: Number(reply[7]),
      holder: text(8),
      backpressure: text(9) === '1',
      rebuiltAtEpoch: Number(reply[10]),
      gateOutBytes: Number(reply[11]),
      gateInBytes: Number(reply[12]),
      views: (reply.slice(13) as string[][]).map(laneView),
    };
  }

  async resumePoint(id: string, seq: number): Promise<ResumePoint | undefined> {
    const reply = await runScript(
      this.#redis,
      'resume-point',
      [this.keys.state, this.keys.positions],
      [id, seq],
    );
    if (reply === null) return undefined;
    const [before, position, tails] = reply as [string, string, string];
    return { seq: Number(before), position, tails: tails.split(',').map(Number) };
  }

  /** Position behind the round that holds a seq. */
  async roundEnd(seq: number): Promise<string | undefined> {
    const [found] = await this.#redis.xrange(this.keys.positions, `${seq}-0`, '+', 'COUNT', 1);
    return found?.[1][1];
  }

  /** Items of a lane behind `after`, oldest first. */
  async readLane(lane: number, after: number, itemsMax: number): Promise<LaneItem[]> {
    const reply = await this.#redis.callBuffer(
      'XRANGE',
      this.keys.log(lane),
      `(${after}-0`,
      '+',
      'COUNT',
      itemsMax,
    );
    return (reply as unknown as RawItem[]).map(parseLaneItem);
  }

  async readGate(seq: number): Promise<GateItem | undefined> {
    const id = `${seq}-0`;
    const [headers, commands] = (await Promise.all([
      this.#redis.callBuffer('XRANGE', this.keys.gates, id, id),
      this.#redis.callBuffer('XRANGE', this.keys.gateCommands, id, id),
    ])) as unknown as [RawItem[], RawItem[]];
    const [header] = headers;
    const [bytes] = commands;
    return header && bytes && parseGateItem(seq, String(header[1][1]), bytes[1]);
  }

  /** Tells ingest of a gate that a lane has met and that is not in the journal. True if it really is missing. */
  async reportHole(id: string, gate: number | ''): Promise<boolean> {
    const { state, gates, gateCommands } = this.keys;
    return (await runScript(this.#redis, 'hole', [state, gates, gateCommands], [id, gate])) === 1;
  }

  /** A gate of this journal was found missing. */
  async hasHole(): Promise<boolean> {
    return (await this.#redis.hexists(this.keys.state, 'hole')) === 1;
  }

  /** Gates behind `after`, oldest first, without their bytes. */
  async gatesBehind(after: number, itemsMax: number): Promise<GateItem[]> {
    const found = await this.#redis.xrange(this.keys.gates, `(${after}-0`, '+', 'COUNT', itemsMax);
    return found.map(([id, fields]) => parseGateHeader(id, String(fields[1])));
  }

  async progress(id: string, step: Step): Promise<void> {
    const { state, counters, room } = this.keys;
    await runScript(this.#redis, 'progress', [state, counters, room], [id, ...stepArgs(step)]);
  }

  /** What each lane's replies are read through (seq; 0 when unknown), with the journal and generation it is true of. */
  async seen(lanes: number): Promise<{ id: string; generation: string; seen: readonly number[] }> {
    const fields = Array.from({ length: lanes }, (_, lane) => `seen:${lane}`);
    const [id, generation, ...seen] = await this.#redis.hmget(this.keys.state, 'id', 'generation', ...fields);
    return { id: id ?? '', generation: generation ?? '', seen: seen.map((seq) => Number(seq ?? 0)) };
  }

  /** Replies of this lane are read through this seq, as far as the journal knows. */
  async seenThrough(
    id: string,
    lane: number,
  ): Promise<{ seen: number | undefined; tail: number } | undefined> {
    const [inForce, seen, tail] = await this.#redis.hmget(
      this.keys.state,
      'id',
      `seen:${lane}`,
      `tail:${lane}`,
    );
    if (inForce !== id) return undefined;
    return { seen: seen === null || seen === undefined ? undefined : Number(seen), tail: Number(tail ?? 0) };
  }

  async wake(lane: number): Promise<void> {
    await this.#redis.hset(this.keys.state, `awake:${lane}`, '1');
  }

  /** A gate has executed; the lanes that have more behind it and need a job, or undefined for another journal. */
  async gateClosed(
    id: string,
    gate: { readonly seq: number; readonly lanes: readonly number[] },
    step: {
      readonly outBytes: number;
      readonly applied: number;
      readonly wakeBelowBytes: number;
      /** Its lanes have been stopped behind it. */
      readonly stopped: boolean;
    },
  ): Promise<number[] | undefined> {
    const { state, counters, room, closed } = this.keys;
    const reply = await runScript(
      this.#redis,
      'gate-closed',
      [state, counters, room, this.keys.arrivals(id, gate.seq), closed],
      [id, gate.seq, step.outBytes, step.applied, step.wakeBelowBytes, step.stopped ? 1 : 0, ...gate.lanes],
    );
    return reply === null ? undefined : (reply as string[]).map(Number);
  }

  /** Lanes stand at a marker: is the gate worth a try from here? `steps`: what they have done before (arrive.lua). */
  async arrive(
    id: string,
    gate: { readonly seq: number; readonly lanes: number },
    here: { readonly lanes: readonly number[]; readonly steps: readonly Step[] },
    claim: { readonly by: string; readonly ms: number },
  ): Promise<'try' | 'wait' | 'void'> {
    const { state, counters, room } = this.keys;
    const keys = [state, counters, room, this.keys.arrivals(id, gate.seq), this.keys.gateClaim(id, gate.seq)];
    const args = [id, gate.lanes, claim.by, claim.ms, ARRIVALS_KEPT_MS, here.steps.length];
    const all = [...args, ...here.steps.flatMap(stepArgs), ...here.lanes];
    return (await runScript(this.#redis, 'arrive', keys, all)) as 'try' | 'wait' | 'void';
  }

  /** False when more was appended behind `tail` meanwhile: the caller goes on. */
  async sleep(id: string, lane: number, tail: number, how: 'idle' | 'gate'): Promise<boolean> {
    return (await runScript(this.#redis, 'sleep', [this.keys.state], [id, lane, tail, how])) === 1;
  }

  /** Unapplied bytes; says that ingest waits while they are at or above `limitBytes`. */
  async room(id: string, lanes: number, limitBytes: number): Promise<number | undefined> {
    const reply = await runScript(
      this.#redis,
      'room',
      [this.keys.state, this.keys.room],
      [id, lanes, limitBytes],
    );
    return reply === null ? undefined : Number(reply);
  }

  /** `short`: bytes, not age, ask for it (trim.lua). Returns the items dropped. */
  async trim(id: string, lanes: number, seq: number, short: boolean): Promise<number> {
    const { state, positions, gates, gateCommands } = this.keys;
    const keys = [state, positions, gates, gateCommands, ...this.keys.logs(lanes)];
    return Number(await runScript(this.#redis, 'trim', keys, [id, seq, short ? '1' : '0']));
  }

  /** The journal was trimmed by bytes: it covers less than the retention window. */
  async isShort(): Promise<boolean> {
    return (await this.#redis.hget(this.keys.state, 'short')) === '1';
  }
}

/** In the order of account.lua. */
function stepArgs({ where, seq, outBytes, applied, wakeBelowBytes }: Step): (number | string)[] {
  return [where, seq, outBytes, applied, wakeBelowBytes];
}

function laneView(row: string[], lane: number): LaneView {
  const [tail, inBytes, outBytes, seen, awake, nextId, header] = row;
  return {
    lane,
    tail: Number(tail),
    inBytes: Number(inBytes),
    outBytes: Number(outBytes),
    seen: seen === '' ? undefined : Number(seen),
    awake: String(awake),
    next: nextId === undefined || header === undefined ? undefined : parseLaneHeader(nextId, header),
  };
}
