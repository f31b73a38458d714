import type { GateItem } from '../src/journal/item.ts';
import type { PipelineContext } from './context.ts';
import type { Attempt } from './gate-attempt.ts';
import { positionOf, stopPlace } from './poison.ts';

interface Failed {
  readonly seq: number;
  readonly command: string;
  readonly key: string | null;
  readonly reason: string;
}

/** `hint`: tries again, or leaves the command out, without it. */
type GateStop = Failed & { readonly hint?: string };

/** Stops a gate durably. */
export async function stopGate(context: PipelineContext, attempt: Attempt, stop: GateStop): Promise<void> {
  const { item, generation, journalId } = attempt;
  await stopPlace(context, `gate:${item.seq}`, {
    hint: `lanegate lane resume gate   (tries again), or: lanegate lane skip gate --seq ${stop.seq} --reason "..."`,
    ...stop,
    generation,
    position: await positionOf(context, journalId, item.first),
    behind: false,
    atMs: context.now(),
  });
}

/** The gate has executed; one of its commands failed, and its lanes stop behind it. */
export async function stopLanesBehind(
  context: PipelineContext,
  attempt: Attempt,
  failed: Failed,
): Promise<void> {
  const { item, generation, journalId } = attempt;
  const position = await positionOf(context, journalId, failed.seq);
  const hint = 'lanegate lane resume all   (goes on; the failed command is recorded: lanegate errors)';
  for (const lane of item.lanes) {
    await stopPlace(context, `lane:${lane}`, {
      ...failed,
      generation,
      position,
      hint,
      behind: true,
      atMs: context.now(),
    });
  }
}

export function passedByHand(item: GateItem, seq: number): GateStop {
  const reason =
    'some of its lanes have passed this command and some have not: the checkpoints were changed by hand';
  return { seq, command: item.title, key: null, reason };
}

export function cutForAnotherTarget(item: GateItem): GateStop {
  const reason = 'the target can run a flush alone only, and this one was cut for another target';
  return { seq: item.seq, command: item.title, key: null, reason };
}

export function controlKeysGone(item: GateItem): GateStop {
  return {
    seq: item.seq,
    command: item.title,
    key: null,
    reason: "the target has lost lanegate's control keys: it was flushed or replaced",
    hint: 'point --target at the right server and: lanegate lane resume all; or start over: lanegate reset',
  };
}
