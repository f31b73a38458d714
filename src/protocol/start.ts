// How ingest finds its place: what is decided, without the reading and writing (processors/startup.ts). Pure.

import { FORMAT, type Identity, type Mark } from '../target/control.ts';
import type { ControlState, KnownPipeline, Values } from './control-state.ts';

/** What a journal says of itself. */
export interface JournalInForce {
  readonly id: string;
  readonly generation: string;
  readonly head: number;
}

export type StartStep = 'rebuild' | 'look at the lanes' | 'take over';

/**
 * Whether the journal serves: it is the identity's, reaches the mark, and has no gap. `gaps`: lanes that it cannot
 * bring up to their tails; undefined while nobody has looked.
 */
export function startStep(
  known: KnownPipeline,
  inForce: JournalInForce | undefined,
  gaps: readonly number[] | undefined,
): StartStep {
  const { identity, mark } = known;
  const same = inForce?.id === identity.journal && inForce.generation === identity.generation;
  // A journal that came back older than the mark: the source may have forgotten what follows its head.
  if (!same || inForce.head < mark.seq) return 'rebuild';
  if (gaps === undefined) return 'look at the lanes';
  return gaps.length > 0 ? 'rebuild' : 'take over';
}

/**
 * Whether what was decided on still stands once the journal is taken over: another ingest may have begun anew and its
 * journal been lost again, or this one have fallen back behind the mark. `values`: identity, mark.
 */
export function stillStands(
  known: KnownPipeline,
  values: Values,
  markNow: Mark | undefined,
  head: number,
): boolean {
  return values[0] === known.texts[0] && markNow !== undefined && head >= markNow.seq;
}

/**
 * Whether an ingest that began this journal in this epoch, and has read up to `position`, is still the one. Journal and
 * epoch alone do not say: their Redis may have come back as it was then, and the epoch be given to a second ingest.
 */
export function holdsRole(
  role: { readonly journalId: string; readonly epoch: number; readonly position: string },
  inForce: (JournalInForce & { readonly epoch: number; readonly position: string }) | undefined,
  control: ControlState,
): boolean {
  if (inForce?.id !== role.journalId || inForce.epoch !== role.epoch) return false;
  if (inForce.position !== role.position) return false;
  if (control.kind !== 'known' || control.identity.journal !== role.journalId) return false;
  return inForce.head >= control.mark.seq;
}

/** What is applied beyond the journal's head has to be read again the way it was routed, to be recognised. */
export function endsBeforeApplied(head: number, checkpoints: readonly (number | undefined)[]): boolean {
  return checkpoints.some((seq) => (seq ?? 0) > head);
}

export interface Beginning {
  readonly pipeline: string;
  readonly source: string;
  readonly from: string;
  readonly lanes: number;
  readonly routing: string;
  readonly generation: string;
  readonly journal: string;
  readonly commands: string;
  readonly graceMs: number;
  readonly importMode?: true;
  readonly position: string;
  readonly timeMs: number;
}

/** What the first start writes. */
export function beginning(begin: Beginning): { identity: Identity; mark: Mark } {
  const { position, timeMs, ...named } = begin;
  const tails = Array.from({ length: begin.lanes }, () => 0);
  return {
    identity: { format: FORMAT, ...named },
    mark: { generation: begin.generation, mark: 0, position, seq: 0, tails, timeMs },
  };
}

/** What a rebuild puts into the identity, and the journal that it makes behind the low-water mark. */
export function rebuilt(known: KnownPipeline, journalId: string) {
  const { identity, mark } = known;
  const { generation, lanes } = identity;
  const { seq, position, tails, timeMs } = mark;
  return {
    identity: { ...identity, journal: journalId },
    journal: { id: journalId, generation, lanes, start: { seq, position, tails }, timeMs },
  };
}

/** `values`: identity, mark, as an EXEC is fenced on them. */
export function unchanged(known: KnownPipeline, values: Values): boolean {
  return values[0] === known.texts[0] && values[1] === known.texts[1];
}
