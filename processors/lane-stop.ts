import type { StopRecord } from '../src/journal/records.ts';
import type { PipelineContext } from './context.ts';
import { positionOf, stopPlace } from './poison.ts';

export type LaneStop = Pick<StopRecord, 'seq' | 'command' | 'key' | 'reason' | 'hint' | 'behind'>;

/** The lane cannot go on; the job fails with this text so that the board shows it. */
export class LaneStopped extends Error {
  constructor(stop: Pick<StopRecord, 'seq' | 'reason' | 'hint'>, what = '') {
    super(`stopped at seq ${stop.seq}${what}: ${stop.reason}; ${stop.hint}`);
  }
}

/** @throws LaneStopped when somebody has stopped the lane */
export async function refuseStopped(
  { records }: PipelineContext,
  { lane, generation }: { readonly lane: number; readonly generation: string },
): Promise<void> {
  const stop = await records.stopAt(`lane:${lane}`, generation);
  if (stop) throw new LaneStopped(stop);
}

/** Stops a lane durably; what the caller is to throw. */
export async function stopLane(
  context: PipelineContext,
  at: { readonly lane: number; readonly generation: string; readonly journalId: string },
  stop: LaneStop,
): Promise<LaneStopped> {
  const { lane, generation, journalId } = at;
  const position = await positionOf(context, journalId, stop.seq);
  await stopPlace(context, `lane:${lane}`, { ...stop, generation, position, atMs: context.now() });
  return new LaneStopped(stop, ` (${stop.command} ${stop.key ?? ''})`);
}

/** Never taken for "start from 0". `value`: what stands in the checkpoint's place. */
export function checkpointGone(lane: number, value: string | null | undefined): LaneStop {
  return {
    seq: 0,
    command: '-',
    key: null,
    reason:
      value === null || value === undefined
        ? `the target has no checkpoint for lane ${lane}: it was flushed, or it is another server`
        : `the checkpoint of lane ${lane} at the target is not of this pipeline`,
    hint: `point --target at the right server and: lanegate lane resume ${lane}; or start over: lanegate reset`,
    behind: false,
  };
}
