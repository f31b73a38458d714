// What an operator decides about a place that stands still: go on, leave one command out, or hold it.
//
// resume: the stop goes first, then the pause, then work is announced: whoever is woken finds no stop any more. A queue
//         that a gate has paused (its flag says 'gate') stays the gate's.
// skip:   first the dead letter, then the skip, then as resume. A crash in between leaves a second dead letter, never a
//         command that is left out without one (I7).
// Each step can be repeated; the watchdog finishes what was begun.

import { setTimeout as delay } from 'node:timers/promises';
import type { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { GATE_QUEUE, INGEST_QUEUE, laneQueue } from '../../queues/names.ts';
import type { QueueSet } from '../../queues/queue-set.ts';
import { RespScanner } from '../binlog/resp.ts';
import { readIndex } from '../journal/item.ts';
import type { Journal } from '../journal/journal.ts';
import type { Records, Skip, StopPlace, StopRecord } from '../journal/records.ts';

export type Place =
  | { readonly kind: 'lane'; readonly lane: number }
  | { readonly kind: 'gate' }
  | { readonly kind: 'ingest' };

export interface OperatorOptions {
  readonly redis: Redis;
  readonly journal: Journal;
  readonly records: Records;
  readonly queues: QueueSet;
  /** `user@host`, kept with what he decides. */
  readonly by: string;
  readonly now: () => number;
}

export interface StopFound {
  readonly place: StopPlace;
  readonly record: StopRecord;
}

export type SkipOutcome =
  | { readonly kind: 'skipped'; readonly stop: StopFound }
  /** It does not stand at that seq; `stops`: where it stands. */
  | { readonly kind: 'elsewhere'; readonly stops: readonly StopFound[] }
  /** The stop is not about one command: skipping would not cure it. */
  | { readonly kind: 'no command'; readonly stop: StopFound };

/** A job ends after its slice; one whose worker was lost is at work until its lock has run out. */
const AT_WORK_MS_MAX = 5_000;
const AT_WORK_POLL_MS = 20;

export class Operator {
  readonly #options: OperatorOptions;

  constructor(options: OperatorOptions) {
    this.#options = options;
  }

  /** The stops in force at a place; of the gate there may be several. */
  async stopsAt(place: Place): Promise<StopFound[]> {
    const { journal, records } = this.#options;
    const [inForce, stops] = await Promise.all([journal.inForce(), records.stops()]);
    return [...stops]
      .filter(([where]) => isAt(where, place))
      .filter(([, { generation }]) => place.kind === 'ingest' || generation === inForce?.generation)
      .map(([where, record]) => ({ place: where, record }))
      .sort((a, b) => a.record.seq - b.record.seq);
  }

  /** True if there was a stop or an operator's pause to end. */
  async resume(place: Place): Promise<boolean> {
    const { redis, journal, records, queues } = this.#options;
    const stops = [...(await records.stops()).keys()].filter((where) => isAt(where, place));
    for (const where of stops) await records.clearStop(where);
    const name = queueName(place);
    const lifted = await redis.hdel(journal.keys.pauses, `${name}|stop`, `${name}|operator`);
    const flag = await redis.hget(`${journal.keys.prefix}:${name}:meta`, 'paused');
    if (flag !== null && flag !== 'gate') await this.#queue(place).resume();
    if (place.kind === 'ingest') await queues.addIngest();
    else await this.#announce(place);
    return stops.length > 0 || lifted > 0;
  }

  /** Survives restarts. Waits for a job that is at work; false if it has not ended within AT_WORK_MS_MAX. */
  async pause(place: Place, reason: string | undefined): Promise<boolean> {
    const { queues, by, now } = this.#options;
    const record = { by, atMs: now(), ...(reason === undefined ? {} : { reason }) };
    await queues.pauseAs('operator', queueName(place), JSON.stringify(record));
    const queue = this.#queue(place);
    // The ingest's job never ends by itself: its holder looks at the pause.
    if (place.kind === 'ingest') return true;
    const beganMs = performance.now();
    while ((await queue.getActiveCount()) > 0) {
      if (performance.now() - beganMs > AT_WORK_MS_MAX) return false;
      await delay(AT_WORK_POLL_MS);
    }
    return true;
  }

  async skip(place: Place, seq: number, reason: string): Promise<SkipOutcome> {
    const { journal, records, by, now } = this.#options;
    const stops = await this.stopsAt(place);
    const stop = stops.find(({ record }) => record.seq === seq);
    if (stop === undefined) return { kind: 'elsewhere', stops };
    const inForce = await journal.inForce();
    const { generation } = stop.record;
    // An ingest that stops for another reason than a command names the journal's head, which is behind it.
    const ofCommand = place.kind !== 'ingest' || (inForce?.generation === generation && seq > inForce.head);
    if (seq === 0 || !ofCommand) return { kind: 'no command', stop };
    const atMs = now();
    if (place.kind !== 'ingest') {
      const { position, command, key, reason: cause } = stop.record;
      const what = { place: stop.place, generation, seq, position, command, key };
      const record = { ...what, reason, cause, by, atMs };
      await records.deadLetter(record, await this.#bytesOf(stop));
    }
    await records.skip({ generation, seq, place: skipPlace(place), by, reason, atMs });
    await this.resume(place);
    return { kind: 'skipped', stop };
  }

  /** The command as the journal holds it; empty when it is gone from there. */
  async #bytesOf({ place, record }: StopFound): Promise<Buffer> {
    const { journal } = this.#options;
    const { seq } = record;
    if (place.startsWith('gate:')) {
      const gate = await journal.readGate(Number(place.slice('gate:'.length)));
      return gate ? commandsOf(gate.commands, readIndex(gate.index, 'gate'), seq) : Buffer.alloc(0);
    }
    const [item] = await journal.readLane(Number(place.slice('lane:'.length)), seq - 1, 1);
    const own = item !== undefined && item.kind === 'batch' && item.first <= seq;
    // A gate's failed command stops its lanes, and stands in the gate's log.
    if (!own)
      return item?.kind === 'marker'
        ? await this.#bytesOf({ place: `gate:${item.seq}`, record })
        : Buffer.alloc(0);
    return commandsOf(item.commands, readIndex(item.index, item.first), seq);
  }

  async #announce(place: Place): Promise<void> {
    const { journal, queues } = this.#options;
    const inForce = await journal.inForce();
    if (inForce === undefined) return;
    // A gate is helped along by any lane that waits at it.
    const lanes =
      place.kind === 'lane' ? [place.lane] : Array.from({ length: inForce.lanes }, (_, lane) => lane);
    for (const lane of lanes) {
      const known = await journal.seenThrough(inForce.id, lane);
      if (known !== undefined && (known.seen ?? 0) < known.tail) {
        await queues.addApply(lane, (known.seen ?? 0) + 1, known.tail);
      }
    }
  }

  #queue(place: Place): Queue {
    const { queues } = this.#options;
    if (place.kind === 'lane') return queues.lane(place.lane);
    return place.kind === 'gate' ? queues.gate : queues.ingest;
  }
}

export function queueName(place: Place): string {
  if (place.kind === 'lane') return laneQueue(place.lane);
  return place.kind === 'gate' ? GATE_QUEUE : INGEST_QUEUE;
}

export function placeName(place: Place): string {
  return place.kind === 'lane' ? `lane ${place.lane}` : place.kind === 'gate' ? 'the gate' : 'ingest';
}

function isAt(where: StopPlace, place: Place): boolean {
  if (place.kind === 'gate') return where.startsWith('gate:');
  return where === (place.kind === 'lane' ? `lane:${place.lane}` : 'ingest');
}

/** Every RESP command that carries `seq`: the parts of a split one share it. */
function commandsOf(
  bytes: Buffer,
  index: readonly { readonly seq: number; readonly inserted: boolean }[],
  seq: number,
): Buffer {
  const scanner = new RespScanner();
  scanner.reset(bytes);
  const found: Buffer[] = [];
  for (const command of index) {
    if (!scanner.next()) break;
    if (command.seq === seq && !command.inserted) found.push(bytes.subarray(scanner.start, scanner.end));
  }
  return Buffer.concat(found);
}

function skipPlace(place: Place): Skip['place'] {
  return place.kind === 'lane' ? `lane:${place.lane}` : place.kind;
}
