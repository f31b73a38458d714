import type { Stopped } from '../status.ts';
import { escapeControl } from './format.ts';

/** `at seq 1287 (1712-4:2), LPUSH of key "cart:7"`; nothing is said of what is not known. */
export function stopPlaceText(
  { seq, position, command, key }: Stopped,
  formatSeq: (seq: number) => string = String,
): string {
  const known = position !== '' && !position.startsWith('unknown..');
  const at =
    seq === 0 ? (known ? 'at the beginning' : 'before its first command') : `at seq ${formatSeq(seq)}`;
  const where = known ? `${at} (${escapeControl(position)})` : at;
  // A stop that no command explains names none.
  const what = command === '-' ? '' : `, ${escapeControl(command)}`;
  return `${where}${what}${key === null ? '' : ` of key "${escapeControl(key)}"`}`;
}

/** What stopped, why, and what to type. */
export function stopText(place: string, stop: Stopped): string {
  return [
    `stopped: ${place} ${stopPlaceText(stop)}: ${escapeControl(stop.reason)}`,
    `  ${escapeControl(stop.hint)}`,
    '',
  ].join('\n');
}
