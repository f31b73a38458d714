// Whether a position is one in this master's log, of the databases that are read.

import { ConfigurationError, StopError } from '../../runtime/errors.ts';
import type { Position } from '../source.ts';
import type { MetaSyncReply } from './messages.ts';
import { formatPikaPosition, type PikaPosition, parsePikaPosition, positionAt } from './position.ts';

export interface ReadLog {
  readonly master: MetaSyncReply;
  /** Empty: all of the master's. */
  readonly wanted: readonly string[];
  readonly display: string;
}

export function databasesOf({ master, wanted, display }: ReadLog): readonly string[] {
  const there = master.databases;
  const missing = wanted.filter((db) => !there.includes(db));
  if (missing.length > 0) {
    throw new StopError('PIKA_DATABASE', `${display} has no ${missing.join(', ')}`, {
      hint: `name databases that it has in ?db=: ${there.join(', ')}`,
    });
  }
  return wanted.length > 0 ? wanted : [...there].sort();
}

/** A position that an operator wrote, made whole. */
export function givenPosition(from: Position, log: string, databases: readonly string[]): Position {
  const given = parsePikaPosition(from);
  const missing = databases.filter((db) => !given.places.has(db));
  const strange = [...given.places.keys()].filter((db) => !databases.includes(db));
  if (missing.length > 0 || strange.length > 0) {
    throw new ConfigurationError([
      `--from: the position must name the databases that are read: ${databases.join(', ')}`,
    ]);
  }
  return formatPikaPosition(positionAt(given.log || log, given.places));
}

export function checkedPosition(given: PikaPosition, log: ReadLog): PikaPosition {
  const { master, display } = log;
  const { replicationId } = master;
  if (given.log !== '' && replicationId !== '' && given.log !== replicationId) {
    throw new StopError(
      'PIKA_OTHER_LOG',
      `${display} has the replication id ${replicationId}, and the log that was read is ${given.log}`,
      { hint: "point --source at that log's master, or a slave of it; or start over: lanegate reset" },
    );
  }
  const databases = databasesOf(log);
  const missing = [...given.places.keys()].filter((db) => !databases.includes(db));
  const added = databases.filter((db) => !given.places.has(db));
  if (missing.length > 0 || added.length > 0) {
    throw new StopError(
      'PIKA_DATABASE',
      `the databases of ${display} are ${databases.join(', ')}, and those that were read ${[...given.places.keys()].join(', ')}`,
      { hint: 'give the master the databases that it had; or start over: lanegate reset' },
    );
  }
  return { ...given, log: given.log || replicationId };
}
