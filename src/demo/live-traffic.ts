import { setTimeout as delay } from 'node:timers/promises';
import type { BinlogWriter, Command } from '../sources/binlog-writer.ts';
import { otherTraffic, randomOf } from './workload.ts';

const TICK_MS = 100;
const COMMANDS_PER_TICK = 30;
const RENAME_TICKS = 12;
const FLUSH_TICKS = 50;

/** Appends about 300 commands a second, now and then with a RENAME or a FLUSHDB, until it is aborted. */
export async function liveTraffic(
  writer: BinlogWriter,
  onTick: () => void,
  signal: AbortSignal,
): Promise<void> {
  const random = randomOf(Date.now());
  for (let tick = 1; !signal.aborted; tick++) {
    const commands = [...otherTraffic(random, COMMANDS_PER_TICK), ...crossing(tick)];
    await writer.append(commands);
    onTick();
    await delay(TICK_MS, undefined, { signal }).catch(() => {});
  }
}

function crossing(tick: number): Command[] {
  if (tick % FLUSH_TICKS === 0) return [['FLUSHDB']];
  if (tick % RENAME_TICKS !== 0) return [];
  return [
    ['SET', `draft:${tick}`, 'text'],
    ['RENAME', `draft:${tick}`, `published:${tick}`],
  ];
}
