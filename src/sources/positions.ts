import { coversPika } from './pika/position.ts';
import { coversVector } from './pika-binlog/position.ts';
import { coversPlace, entriesBetween } from './redis-stream/position.ts';
import type { Source } from './source.ts';

/** What can be said of two positions without a connection to their source. */
export type PositionRules = Pick<Source, 'covers' | 'entriesBehind'>;

const RULES: Readonly<Record<string, PositionRules>> = {
  'redis-stream': { covers: coversPlace, entriesBehind: entriesBetween },
  pika: { covers: coversPika, entriesBehind: () => undefined },
  'pika-binlog': { covers: coversVector, entriesBehind: () => undefined },
};

/** By the kind that stands before the colon of a source's identity. */
export function positionRules(kind: string | undefined): PositionRules | undefined {
  return kind !== undefined && Object.hasOwn(RULES, kind) ? RULES[kind] : undefined;
}
