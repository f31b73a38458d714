// What a try at a gate needs from the journal before the target is asked: its bytes, stops, skips, pauses. Where gates follow
// each other directly, the next one is opened while the EXEC of this one runs: its lanes have arrived with it.

import { GATE_QUEUE } from '../queues/names.ts';
import { followsDirectly } from '../src/journal/front.ts';
import type { GateItem } from '../src/journal/item.ts';
import { gateFence } from '../src/protocol/gate-fence.ts';
import type { FencedSession } from '../src/target/session.ts';
import type { PipelineContext } from './context.ts';
import type { Attempt, GateEnd } from './gate-attempt.ts';

/**
 * Advisory: how long others leave a gate alone. While its EXEC runs the target answers nobody, so that a helper who comes
 * later finds it closed.
 */
export const CLAIM_MS = 2_000;
/** Behind a larger one nothing is opened: the bytes of both would be held at once. */
const AHEAD_OF_BYTES_MAX = 4 * 1024 * 1024;
/** Then the lane's job goes on, and others may take over. */
const AHEAD_MS = 1_000;
/** So long what was looked at in front holds; well below CLAIM_MS. */
const FRESH_MS = 250;

export interface InForce {
  readonly id: string;
  readonly generation: string;
}

export class GateOpener {
  readonly #context: PipelineContext;
  /** The gate that lanes here wait for, read while the last of them is on its way. */
  #ahead:
    | { readonly id: string; readonly seq: number; readonly item: Promise<GateItem | undefined> }
    | undefined;
  /** The newest that was opened in front: who waits for it need not read it. */
  #claimedAhead: { readonly id: string; readonly seq: number } | undefined;

  constructor(context: PipelineContext) {
    this.#context = context;
  }

  readAhead(id: string, seq: number): void {
    const isOurs = this.#claimedAhead?.id === id && this.#claimedAhead.seq === seq;
    if (isOurs || this.#ahead?.seq === seq) return;
    const item = this.#context.journal.readGate(seq);
    item.catch(() => {});
    this.#ahead = { id, seq, item };
  }

  /** The claim is the caller's to take and to give up. */
  async open(
    seq: number,
    { id, generation }: InForce,
    signal: AbortSignal,
    aheadUntilMs: number = this.#context.now() + AHEAD_MS,
  ): Promise<Attempt | GateEnd> {
    const { journal, records, redis } = this.#context;
    const [item, stops, skips, held] = await Promise.all([
      this.#read(id, seq),
      records.stops(),
      records.skips(generation, 'gate'),
      redis.hexists(journal.keys.pauses, `${GATE_QUEUE}|operator`),
    ]);
    if (stops.get(`gate:${seq}`)?.generation === generation) return 'stopped';
    // A paused queue holds back the gate's own job only; the lanes that help must hold as well.
    if (held === 1) return 'waiting';
    if (!item || item.generation !== generation) return 'void';
    // A lane that is stopped does not pass its marker either.
    if (item.lanes.some((lane) => stops.get(`lane:${lane}`)?.generation === generation)) return 'waiting';
    return {
      item,
      journalId: id,
      generation,
      signal,
      skips: new Set(skips.keys()),
      owner: `gate:${id}:${seq}`,
      claim: journal.keys.gateClaim(id, seq),
      aheadUntilMs,
      openedAtMs: this.#context.now(),
      paused: false,
      fenced: false,
      flushed: undefined,
      fence: undefined,
      before: undefined,
    };
  }

  /** While the EXEC of `attempt` is under way on `session`: opens the gate behind it and sets its fence. */
  openAhead(attempt: Attempt, session: FencedSession, lane: number | undefined) {
    const { control, log } = this.#context;
    let isWanted = lane !== undefined && !session.traits.flushAlone;
    let ready: Attempt | undefined;
    const open = async () => {
      if (lane === undefined || !isWanted) return;
      const next = await this.#openNext(attempt, lane);
      if (next === undefined) return;
      if (!isWanted) return await this.leave(next);
      next.fence = session.fence(gateFence(control, next.item));
      next.fence.catch(() => {});
      ready = next;
    };
    const opening = open().catch((error) => log.debug({ err: error }, 'the gate behind could not be opened'));
    const giveUp = async () => {
      isWanted = false;
      const next = ready;
      ready = undefined;
      if (next === undefined) return;
      try {
        await next.fence?.catch(() => {});
        await session.abandon();
      } finally {
        await this.leave(next);
      }
    };
    return {
      /** What was looked at too long ago, before an EXEC that took its time, is looked at anew. */
      opened: async () => {
        await opening;
        if (ready !== undefined && !this.#isFresh(ready)) await giveUp();
        return ready;
      },
      giveUp,
    };
  }

  /** True when an operator holds a lane: it does not pass its marker, and nothing is paused. */
  async pause(attempt: Attempt): Promise<boolean> {
    if (attempt.paused) return false;
    attempt.paused = true;
    const { queues, now } = this.#context;
    const { held } = await queues.gatePause('pause', attempt.owner, attempt.item.lanes, now());
    attempt.paused = !held;
    return held;
  }

  /** Whatever happened, the lanes must be able to move: others may help from here on. */
  async resume(attempt: Attempt): Promise<void> {
    if (!attempt.paused) return;
    const { queues, now } = this.#context;
    await queues.gatePause('resume', attempt.owner, attempt.item.lanes, now());
    attempt.paused = false;
  }

  /** The same, and the claim is given up. */
  async leave(attempt: Attempt): Promise<void> {
    try {
      await this.resume(attempt);
    } finally {
      // Nobody waits for it: it leaves behind what the gate wrote, and without it the claim ends by itself.
      this.#context.redis.del(attempt.claim).catch(() => {});
    }
  }

  /** Stops, pauses and the claim are as they were found. */
  #isFresh({ openedAtMs }: Attempt): boolean {
    return this.#context.now() - openedAtMs < FRESH_MS;
  }

  /** Claimed and paused: the gate directly behind `attempt`'s that `lane` comes to next; undefined if it is not for us. */
  async #openNext(attempt: Attempt, lane: number): Promise<Attempt | undefined> {
    const { journal, redis, workerId, now } = this.#context;
    const { item, journalId: id, generation, signal, aheadUntilMs } = attempt;
    if (item.commands.length > AHEAD_OF_BYTES_MAX || now() > aheadUntilMs) return undefined;
    const [next] = await journal.gatesBehind(item.seq, 1);
    if (!next?.lanes.includes(lane) || !followsDirectly(next, item) || signal.aborted) return undefined;
    const claim = journal.keys.gateClaim(id, next.seq);
    if ((await redis.set(claim, workerId, 'PX', CLAIM_MS, 'NX')) !== 'OK') return undefined;
    this.#claimedAhead = { id, seq: next.seq };
    let isOpen = false;
    try {
      const opened = await this.open(next.seq, { id, generation }, signal, aheadUntilMs);
      if (typeof opened === 'string') return undefined;
      isOpen = !(await this.pause(opened));
      return isOpen ? opened : undefined;
    } finally {
      if (!isOpen) redis.del(claim).catch(() => {});
    }
  }

  #read(id: string, seq: number): Promise<GateItem | undefined> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead?.id === id && ahead.seq === seq ? ahead.item : this.#context.journal.readGate(seq);
  }
}
