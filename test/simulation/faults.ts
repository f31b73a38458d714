// What may happen to a history, and what may be wrong with the protocol.

/** Deliberate faults of the protocol: with each of them the simulation must fail. */
export type Mutant =
  | 'item-predecessor'
  | 'no-fence'
  | 'no-rewrite'
  | 'missing-is-zero'
  | 'prefix-of-old-plan'
  | 'mark-ignores-gaps'
  | 'raise-behind-checkpoints'
  | 'relane-before-reading'
  | 'journal-behind-mark'
  | 'stop-without-role'
  | 'no-generation'
  | 'no-generation-from-0'
  | 'generation-without-suffix'
  | 'replace-without-fence'
  | 'replace-without-flush'
  /** No fault: the generation alone must do. */
  | 'numbers-from-0';

export const FAULTS = [
  'kill',
  'save target',
  'save journal',
  'target falls back',
  'journal falls back',
  'connections break',
  'relane',
  'log is replaced',
  'target is another server',
  'refusal',
] as const;
export type Fault = (typeof FAULTS)[number];
