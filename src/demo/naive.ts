// Lanes without a gate, the way Pika's slave applied its binlog: the problem that lanegate solves, kept for the demo.
// It is really executed, with no delay added anywhere: N connections, each with its own queue, and a dispatcher that
// chooses the lane by the hash of the first argument or, for a command without one, of its name. FLUSHDB so always
// takes the same lane, and nothing makes it wait for the other ones.
//
// Nothing but the demo imports this file; no option of a production command leads here. Keep it so.

import type { Redis } from 'ioredis';
import { laneOf, slotOf } from '../binlog/lane-map.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError } from '../runtime/errors.ts';
import type { Command } from '../sources/binlog-writer.ts';
import { connect } from './servers.ts';

const BATCH_MAX = 64;
/** Commands that wait in all lanes together before the dispatcher waits for them. */
const QUEUED_MAX = 8_192;

export interface NaiveOptions {
  readonly target: Endpoint;
  readonly lanes: number;
  readonly log: Iterable<readonly Command[]>;
  readonly signal: AbortSignal;
}

export async function applyNaively({ target, lanes, log, signal }: NaiveOptions): Promise<void> {
  const all = Array.from({ length: lanes }, () => new NaiveLane(connect(target)));
  try {
    let queued = 0;
    for (const entry of log) {
      if (signal.aborted) throw new AbortedError();
      for (const command of entry) all[naiveLane(command, lanes)]?.push(command);
      queued += entry.length;
      if (queued < QUEUED_MAX) continue;
      await Promise.all(all.map((lane) => lane.idle()));
      queued = 0;
    }
    await Promise.all(all.map((lane) => lane.idle()));
  } finally {
    for (const lane of all) lane.close();
  }
}

function naiveLane(command: Command, lanes: number): number {
  const key = Buffer.from(String(command[1] ?? command[0]));
  return laneOf(slotOf(key, 0, key.length), lanes);
}

class NaiveLane {
  readonly #redis: Redis;
  #queue: Command[] = [];
  #running: Promise<void> | undefined;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  push(command: Command): void {
    this.#queue.push(command);
    this.#running ??= this.#run();
    this.#running.catch(() => {});
  }

  /** @throws what went wrong in this lane */
  async idle(): Promise<void> {
    await this.#running;
  }

  close(): void {
    this.#redis.disconnect();
  }

  async #run(): Promise<void> {
    while (this.#queue.length > 0) {
      const pipeline = this.#redis.pipeline();
      for (const [name, ...args] of this.#queue.splice(0, BATCH_MAX)) pipeline.call(String(name), ...args);
      // Like a replica, it does not ask what each command replied; a lost connection is thrown all the same.
      await pipeline.exec();
      if (this.#redis.status !== 'ready') throw new Error('the server of the lanes without a gate is gone');
    }
    this.#running = undefined;
  }
}
