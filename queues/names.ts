// BullMQ queues of a pipeline. Their common prefix (src/journal/keys.ts) carries the hash tag.

export const GATE_QUEUE = 'gate';
export const INGEST_QUEUE = 'ingest';

export function laneQueue(lane: number): `lane-${number}` {
  return `lane-${lane}`;
}
