import type { Position } from '../source.ts';
import type { AttachOptions } from './attach.ts';
import { introduce, psync, snapshotLength } from './handshake.ts';
import { formatStream } from './position.ts';
import { selectedDbOf } from './rdb-head.ts';
import { LinkSocket, SourceRefused } from './socket.ts';

const HEAD_BYTES_MAX = 1024 * 1024;

/**
 * The end of the source's log, as a place from which the stream can be read. Which database is selected there only a full
 * sync tells: so one is begun, without the data where the source can do that (Redis >= 7.0), and left as soon as it has
 * told.
 */
export async function placeOfNow(options: AttachOptions, role: string | undefined): Promise<Position> {
  const stop = new AbortController();
  const { endpoint, silenceMsMax, announcePort } = options;
  const socket = await LinkSocket.open({ endpoint, silenceMsMax, signal: stop.signal });
  try {
    await introduce(socket, endpoint, announcePort);
    await socket.call(['REPLCONF', 'rdb-filter-only', '']).catch((error) => {
      if (!(error instanceof SourceRefused)) throw error;
    });
    const answer = await psync(socket, undefined);
    if (answer.kind !== 'full')
      throw new Error('the source went on with a stream where a snapshot was asked for');
    // A master selects a database anew behind a full sync; a replica passes on what its master sends.
    const db = role === 'master' ? 0 : await selectedDb(socket);
    return formatStream(answer.at, db);
  } finally {
    socket.close();
  }
}

async function selectedDb(socket: LinkSocket): Promise<number> {
  await snapshotLength(socket);
  let head = Buffer.alloc(0);
  while (head.length < HEAD_BYTES_MAX) {
    head = Buffer.concat([head, await socket.read()]);
    const db = selectedDbOf(head);
    if (db !== undefined) return db;
  }
  throw new Error(`the source's snapshot does not begin with keys in its first ${HEAD_BYTES_MAX} bytes`);
}
