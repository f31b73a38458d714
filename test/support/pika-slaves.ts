import type { Socket } from 'node:net';
import { comparePlaces, type Place } from '../../src/sources/pika/position.ts';
import type { PikaLog } from './pika-log.ts';

// What a master knows of its slaves, and says of them.

export interface Slave {
  readonly node: string;
  readonly db: string;
  readonly session: number;
  socket: Socket;
  /** Index of the next item to send; undefined before the first BinlogSync. */
  next: number | undefined;
  window: Place[];
  heardMs: number;
  toldMs: number;
}

export function infoOf(
  { runId, replicationId }: { readonly runId: string; readonly replicationId: string },
  logs: ReadonlyMap<string, PikaLog>,
  attached: readonly Slave[],
): string {
  const ends = [...logs].map(([db, { end }]) => {
    return `${db}:binlog_offset=${end.filenum} ${end.offset},safety_purge=none`;
  });
  const slaves = attached.map(({ node }, i) => {
    const [ip, port] = node.split(':');
    return `slave${i}:ip=${ip},port=${port},conn_fd=${40 + i},lag=(db0:0)`;
  });
  const server = ['# Server', 'pika_version:4.0.0', `run_id:${runId}`];
  const replication = ['# Replication(MASTER)', 'role:master', `ReplicationID:${replicationId}`];
  const lines = [...server, '', ...replication, `connected_slaves:${slaves.length}`, ...slaves, ...ends, ''];
  return lines.join('\r\n');
}

/** The number of TrySync's reply: larger, purged, or no place where an item ends. */
export function refusalOf(log: PikaLog, place: Place): number | undefined {
  if (comparePlaces(place, log.end) > 0) return 3;
  if (place.filenum < log.firstFile) return 2;
  return log.indexBehind(place) === undefined ? 4 : undefined;
}
