import { StopError } from '../../runtime/errors.ts';
import type { TrySyncReply } from './messages.ts';
import type { Place } from './position.ts';

/** Why the master does not send its log from `place`, and what to do. */
export function refusedPlace(
  display: string,
  db: string,
  place: Place,
  { outcome, end, text }: TrySyncReply,
): StopError {
  const at = `${db}:${place.filenum}:${place.offset}`;
  const ends = end === undefined ? '' : `; its log ends at ${db}:${end.filenum}:${end.offset}`;
  if (outcome === 'purged') {
    return new StopError(
      'PIKA_PURGED',
      `${display} has removed the binlog behind ${at} before it was read${ends}`,
      {
        hint: 'the gap cannot be read again: start over (lanegate reset) on a fresh copy of the data; and raise expire-logs-nums at the master',
      },
    );
  }
  if (outcome === 'larger') {
    return new StopError(
      'PIKA_LARGER',
      `the binlog of ${display} has not come as far as ${at}, where it was read to${ends}: the master lost its end, or another server took over that was behind`,
      {
        hint: 'point --source at the server that has it; else source and target differ: compare them, and start over (lanegate reset)',
      },
    );
  }
  return new StopError(
    'PIKA_REFUSED',
    `${display} does not send its binlog from ${at}${ends}${text === '' ? '' : `: ${text}`}`,
    {
      hint: 'no item ends there: give a position that lanegate has printed; or start over: lanegate reset',
    },
  );
}
