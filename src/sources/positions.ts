import { coversPlace as coversFilePlace } from './aof/place.ts';
import { coversPika } from './pika/position.ts';
import { coversVector } from './pika-binlog/position.ts';
import { areOfOneHistory, coversPlace as coversLinkPlace } from './redis-link/position.ts';
import { coversPlace, entriesBetween } from './redis-stream/position.ts';
import type { Source } from './source.ts';

/** What can be said of two positions without a connection to their source. */
export type PositionRules = Pick<Source, 'covers' | 'comparable' | 'entriesBehind'>;

const RULES: Readonly<Record<string, PositionRules>> = {
  'redis-stream': { covers: coversPlace, entriesBehind: entriesBetween },
  // A link cannot count commands that it has not read.
  'redis-link': {
    covers: coversLinkPlace,
    comparable: areOfOneHistory,
    entriesBehind: () => undefined,
  },
  pika: { covers: coversPika, entriesBehind: () => undefined },
  'pika-binlog': { covers: coversVector, entriesBehind: () => undefined },
  aof: { covers: coversFilePlace, entriesBehind: () => undefined },
  rdb: { covers: coversFilePlace, entriesBehind: () => undefined },
};

/** By the kind that stands before the colon of a source's identity. */
export function positionRules(kind: string | undefined): PositionRules | undefined {
  return kind !== undefined && Object.hasOwn(RULES, kind) ? RULES[kind] : undefined;
}
