// What the control keys at the target say, and what is written into them. Pure.

import {
  type ControlKeys,
  formatCheckpoint,
  type Identity,
  type Mark,
  parseCheckpoint,
  parseIdentity,
  parseMark,
} from '../target/control.ts';

export type Values = readonly (string | null | undefined)[];
export type ControlWrite = [key: string, value: string];

export interface KnownPipeline {
  readonly identity: Identity;
  readonly mark: Mark;
  /** Identity and mark as they were read; an EXEC that replaces them compares. */
  readonly texts: readonly [identity: string, mark: string | null];
}

export type ControlState =
  /** The target knows nothing of this pipeline. */
  | { readonly kind: 'none' }
  /** Missing in part or not readable. */
  | { readonly kind: 'foreign' }
  | ({ readonly kind: 'known' } & KnownPipeline);

/** `values`: identity, mark. */
export function controlState(values: Values): ControlState {
  const [identityText, markText] = values;
  if (identityText === null || identityText === undefined) return { kind: 'none' };
  const identity = parseIdentity(identityText);
  const mark = parseMark(markText ?? '');
  if (!identity || mark?.generation !== identity.generation) return { kind: 'foreign' };
  return { kind: 'known', identity, mark, texts: [identityText, markText ?? null] };
}

/** Seqs of checkpoints; undefined where one is missing or of another generation. */
export function checkpointSeqs(values: Values, generation: string): (number | undefined)[] {
  return values.map((value) => {
    const checkpoint = parseCheckpoint(value ?? '');
    return checkpoint?.generation === generation ? checkpoint.seq : undefined;
  });
}

/** Everything that the target keeps of a pipeline, all checkpoints at one seq. */
export function controlWrites(
  control: ControlKeys,
  state: { readonly identity: Identity; readonly mark: Mark },
  seq: number,
): ControlWrite[] {
  const { identity, mark } = state;
  const checkpoint = formatCheckpoint({ generation: identity.generation, seq });
  return [
    [control.identity, JSON.stringify(identity)],
    [control.mark, JSON.stringify(mark)],
    ...control.checkpoints(identity.lanes).map((key): ControlWrite => [key, checkpoint]),
  ];
}
