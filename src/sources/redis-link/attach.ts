// How a link comes to be. Tried in this order, each on a connection of its own:
//   1. behind what an earlier process spooled of the stream, which the source's backlog reaches most likely
//   2. behind the position itself: the spool may hold what a source that failed over never had
//   3. a full sync, into a new spool: `replaced` then says why

import type { Endpoint } from '../../runtime/endpoint.ts';
import { introduce, type PsyncAnswer, psync } from './handshake.ts';
import { Link } from './link.ts';
import type { Point } from './position.ts';
import { SnapshotFile } from './snapshot-file.ts';
import { LinkSocket } from './socket.ts';
import { Spool } from './spool.ts';
import { StreamFile } from './stream-file.ts';
import { StreamLog } from './stream-log.ts';

export interface AttachOptions {
  readonly endpoint: Endpoint;
  readonly spoolRoot: string;
  readonly spoolBytesMax: number;
  readonly memoryBytesMax: number;
  readonly silenceMsMax: number;
  readonly tellMs: number;
  readonly announcePort: number;
  readonly onNotice: (text: string) => void;
}

export interface Attached {
  readonly link: Link;
  /** Why a full sync began instead of what was asked for. */
  readonly replaced: string | undefined;
}

interface Answered {
  readonly socket: LinkSocket;
  readonly stop: AbortController;
  readonly answer: PsyncAnswer;
}

/** A snapshot, and the stream behind it. */
export async function attachAnew(options: AttachOptions, signal: AbortSignal): Promise<Link> {
  const answered = await ask(options, undefined, signal);
  if (answered.answer.kind === 'full') return receiveAll(options, answered, answered.answer.at);
  answered.socket.close();
  throw new Error('the source went on with a stream where a snapshot was asked for');
}

/** The stream behind `from`; with a snapshot's spool, as much of it as is there. */
export async function attachAt(
  options: AttachOptions,
  from: Point,
  snapshot: { readonly spool: Spool; readonly file: SnapshotFile } | undefined,
  signal: AbortSignal,
): Promise<Attached> {
  const spooled = await spooledBehind(options, from, snapshot?.spool);
  const end = spooled?.files.at(-1)?.end;
  try {
    if (end !== undefined) {
      const answered = await ask(options, { replid: from.replid, offset: end }, signal);
      if (answered.answer.kind === 'continue') {
        const files = spooled?.files ?? [];
        return { link: goOn(options, from, answered, { ...spooled, files, snapshot }), replaced: undefined };
      }
      answered.socket.close();
    }
    await closeAll(spooled?.files);
    const answered = await ask(options, from, signal);
    if (answered.answer.kind === 'continue') {
      const spool = spooled?.spool;
      if (spool !== undefined) await StreamFile.removeOthers(spool, []);
      return { link: goOn(options, from, answered, { spool, files: [], snapshot }), replaced: undefined };
    }
    await snapshot?.file.close();
    const { at } = answered.answer;
    return { link: await receiveAll(options, answered, at), replaced: whyReplaced(from, at) };
  } catch (error) {
    await closeAll(spooled?.files);
    await snapshot?.file.close();
    throw error;
  }
}

/** PSYNC on a connection of its own, after the greetings. */
async function ask(options: AttachOptions, from: Point | undefined, signal: AbortSignal): Promise<Answered> {
  const stop = new AbortController();
  const abort = () => stop.abort();
  signal.addEventListener('abort', abort, { once: true });
  if (signal.aborted) abort();
  const { endpoint, silenceMsMax } = options;
  let socket: LinkSocket | undefined;
  try {
    socket = await LinkSocket.open({ endpoint, silenceMsMax, signal: stop.signal });
    await introduce(socket, endpoint, options.announcePort);
    return { socket, stop, answer: await psync(socket, from) };
  } catch (error) {
    socket?.close();
    throw error;
  } finally {
    // From here on the link outlives the reader that asked for it.
    signal.removeEventListener('abort', abort);
  }
}

async function receiveAll(options: AttachOptions, { socket, stop }: Answered, at: Point): Promise<Link> {
  try {
    const { spoolRoot, spoolBytesMax, memoryBytesMax, tellMs, onNotice } = options;
    const spool = await Spool.create(spoolRoot, spoolBytesMax);
    const snapshot = await SnapshotFile.begin(spool, onNotice);
    const stream = new StreamLog({
      spool: async () => spool,
      replid: at.replid,
      start: at.offset,
      files: [],
      keepAll: true,
      memoryBytesMax,
      onNotice,
    });
    return new Link({ socket, stop, tellMs, start: at, before: undefined, spool, snapshot, stream });
  } catch (error) {
    socket.close();
    throw error;
  }
}

function goOn(
  options: AttachOptions,
  from: Point,
  { socket, stop, answer }: Answered,
  spooled: {
    readonly spool?: Spool | undefined;
    readonly files: readonly StreamFile[];
    readonly snapshot: { readonly spool: Spool; readonly file: SnapshotFile } | undefined;
  },
): Link {
  const replid = (answer.kind === 'continue' ? answer.replid : undefined) ?? from.replid;
  const { spoolRoot, spoolBytesMax, memoryBytesMax, onNotice } = options;
  const { spool, files, snapshot } = spooled;
  const stream = new StreamLog({
    spool: async () => spool ?? (await Spool.create(spoolRoot, spoolBytesMax)),
    replid,
    start: from.offset,
    files,
    keepAll: snapshot !== undefined,
    memoryBytesMax,
    onNotice,
  });
  return new Link({
    socket,
    stop,
    tellMs: options.tellMs,
    start: { replid, offset: from.offset },
    before: replid === from.replid ? undefined : { replid: from.replid, offset: stream.end },
    spool,
    snapshot: snapshot?.file,
    stream,
  });
}

/** What is on this machine of the stream behind `from`, in the snapshot's spool or in the newest that has it. */
async function spooledBehind(
  { spoolRoot, spoolBytesMax }: AttachOptions,
  from: Point,
  own: Spool | undefined,
): Promise<{ readonly spool: Spool; readonly files: readonly StreamFile[] } | undefined> {
  const ids = own === undefined ? await Spool.list(spoolRoot) : [own.id];
  for (const id of ids) {
    const spool = own ?? (await Spool.find(spoolRoot, id, spoolBytesMax));
    if (spool === undefined) continue;
    const files = await StreamFile.chain(spool, from.replid, from.offset);
    if (files.length > 0 || own !== undefined) return { spool, files };
  }
  return undefined;
}

function whyReplaced(from: Point, at: Point): string {
  const asked = `the source does not go on behind ${from.replid}:${from.offset}`;
  const why =
    from.replid === at.replid
      ? `it is at ${at.offset} and its backlog does not reach back so far (repl-backlog-size)`
      : `its history is another one now, ${at.replid}:${at.offset} (restarted without its data's history, replaced, or ` +
        'failed over with a backlog that does not reach back so far: repl-backlog-size)';
  return `${asked}: ${why}; a full sync begins`;
}

async function closeAll(files: readonly StreamFile[] | undefined): Promise<void> {
  await Promise.all((files ?? []).map((file) => file.close()));
}
