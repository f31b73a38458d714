import type { LaneResult } from '../queues/jobs.ts';
import type { PipelineContext } from './context.ts';
import type { GateRunner } from './gate.ts';
import { LaneTurn } from './lane-turn.ts';

/** What a lane's job means: one turn on that lane, unless it is stopped. */
export class LaneProcessor {
  readonly #context: PipelineContext;
  readonly #gates: GateRunner;

  constructor(context: PipelineContext, gates: GateRunner) {
    this.#context = context;
    this.#gates = gates;
  }

  /** @throws LaneStopped, AbortedError */
  async run(lane: number, kind: 'apply' | 'barrier', signal: AbortSignal): Promise<LaneResult> {
    const { journal, records } = this.#context;
    const startedMs = this.#context.now();
    const inForce = await journal.inForce();
    if (!inForce || lane >= inForce.lanes) return nothing('waiting');
    const skips = await records.skips(inForce.generation, `lane:${lane}`);
    const turn = new LaneTurn(this.#context, this.#gates, {
      lane,
      kind,
      signal,
      journalId: inForce.id,
      generation: inForce.generation,
      skips: new Set(skips.keys()),
      deadlineMs: startedMs + this.#context.options.sliceMs,
    });
    try {
      const ended = await turn.apply();
      return {
        ended,
        from: turn.from,
        to: turn.checkpoint.seq,
        commands: turn.commands,
        bytes: turn.bytes,
        ms: this.#context.now() - startedMs,
      };
    } finally {
      await turn.close();
    }
  }
}

function nothing(ended: LaneResult['ended']): LaneResult {
  return { ended, from: 0, to: 0, commands: 0, bytes: 0, ms: 0 };
}
