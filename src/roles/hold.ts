// Holds a pipeline at one seq: ingest is paused first, then the lanes apply what the journal has, then they and the gate
// are paused as well. From then on the target stands at the journal's head, in every lane.
//
// The pauses are an operator's (operator.ts), marked as ours: only what was paused here is resumed, also when somebody
// else's pause took its place meanwhile. A process that is killed leaves its pauses behind; `lanegate lane show all` names
// them and `lanegate lane resume all` ends them.

import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { QueueSet } from '../../queues/queue-set.ts';
import type { Journal } from '../journal/journal.ts';
import { sleep } from '../runtime/backoff.ts';
import { AbortedError, StopError } from '../runtime/errors.ts';
import { firstStop } from './caught-up.ts';
import type { Observation, Observer } from './observe.ts';
import { type Operator, type Place, queueName } from './operator.ts';

const POLL_MS = 50;

export interface HoldOptions {
  readonly redis: Redis;
  readonly journal: Journal;
  readonly queues: QueueSet;
  readonly observer: Observer;
  readonly operator: Operator;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export class Hold {
  readonly #options: HoldOptions;
  readonly #reason = `lanegate verify --at-barrier ${randomBytes(4).toString('hex')}`;
  readonly #paused: Place[] = [];

  constructor(options: HoldOptions) {
    this.#options = options;
  }

  /** Returns the seq at which everything stands. @throws StopError, AbortedError; then `release` is still to be called */
  async take(): Promise<number> {
    const first = await this.#look();
    const lanes = first.status.lanes.length;
    if (lanes === 0) {
      throw new StopError('NOT_BEGUN', 'the pipeline has not begun: the queue knows nothing of it', {
        hint: 'look whether --name and --queue are right, or leave out --at-barrier',
      });
    }
    await this.#pause({ kind: 'ingest' });
    const seq = await this.#drained();
    for (let lane = 0; lane < lanes; lane++) await this.#pause({ kind: 'lane', lane });
    await this.#pause({ kind: 'gate' });
    await this.verify(seq);
    return seq;
  }

  /** @throws StopError when the pipeline does not stand at `seq` any more */
  async verify(seq: number): Promise<void> {
    const { status, applied } = await this.#look();
    if (status.head.seq === seq && applied?.seq === seq && status.ingest.paused) return;
    throw new StopError('BARRIER_LOST', `the pipeline did not stay at seq ${seq} while it was compared`, {
      hint: 'somebody resumed it, or emptied the journal: compare again',
    });
  }

  /** Resumes what was paused here, and nothing else. May be repeated. */
  async release(): Promise<void> {
    const { operator } = this.#options;
    for (let place = this.#paused.at(-1); place !== undefined; place = this.#paused.at(-1)) {
      if (await this.#isOurs(place)) await operator.resume(place);
      this.#paused.pop();
    }
  }

  async #pause(place: Place): Promise<void> {
    const { operator, signal } = this.#options;
    if (signal.aborted) throw new AbortedError();
    if ((await this.#record(place)) !== undefined) return;
    this.#paused.push(place);
    await operator.pause(place, this.#reason);
  }

  /** Waits until ingest has ended and everything in the journal is applied. */
  async #drained(): Promise<number> {
    const { queues, timeoutMs, signal } = this.#options;
    const beganMs = performance.now();
    for (;;) {
      const { status, applied } = await this.#look();
      const reading = (await queues.ingest.getActiveCount()) > 0;
      if (!reading && !status.gate.open && applied?.seq === status.head.seq) return status.head.seq;
      if (performance.now() - beganMs > timeoutMs) {
        const behind = status.lanes.filter(({ appliedThrough, tail }) => appliedThrough < tail);
        const what = reading ? 'ingest' : `lanes ${behind.map(({ lane }) => lane).join(', ')}`;
        throw new StopError('NO_BARRIER', `the pipeline does not come to rest: it waits for ${what}`, {
          hint: 'lanegate status says why; --timeout lets it wait longer',
        });
      }
      await sleep(POLL_MS, signal);
    }
  }

  async #look(): Promise<Observation> {
    const observation = await this.#options.observer.observe();
    const stop = firstStop(observation.status);
    if (stop === undefined) return observation;
    throw new StopError('STOPPED', `${stop.place} is stopped at seq ${stop.stop.seq}: ${stop.stop.reason}`, {
      hint: stop.stop.hint,
    });
  }

  async #isOurs(place: Place): Promise<boolean> {
    return (await this.#record(place))?.includes(this.#reason) === true;
  }

  async #record(place: Place): Promise<string | undefined> {
    const { redis, journal } = this.#options;
    return (await redis.hget(journal.keys.pauses, `${queueName(place)}|operator`)) ?? undefined;
  }
}
