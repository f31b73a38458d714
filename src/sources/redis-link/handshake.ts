import type { Endpoint } from '../../runtime/endpoint.ts';
import type { Point } from './position.ts';
import { type LinkSocket, SourceRefused } from './socket.ts';

export type PsyncAnswer =
  /** The stream goes on where it was asked to; under another name if the source's history has one by now. */
  | { readonly kind: 'continue'; readonly replid: string | undefined }
  /** A snapshot comes first, made where `at` says. */
  | { readonly kind: 'full'; readonly at: Point };

/** Of the first with the newest RDB version that src/rdb reads (80). */
const VALKEY_VERSION = '9.0.0';

/** What a replica says before it asks for anything. @throws SourceRefused with the code, for example NOAUTH or LOADING */
export async function introduce(
  socket: LinkSocket,
  { username, password }: Endpoint,
  announcePort: number,
): Promise<void> {
  if (password !== undefined)
    await socket.call(username === undefined ? ['AUTH', password] : ['AUTH', username, password]);
  await allowing(/^NOPERM/, socket.call(['PING']));
  // What a server does not know of these it can do without.
  if (announcePort > 0) await allowing(/^ERR/, socket.call(['REPLCONF', 'listening-port', announcePort]));
  await allowing(/^ERR/, socket.call(['REPLCONF', 'capa', 'eof', 'capa', 'psync2']));
  // Valkey 9 writes the snapshot for a replica of this version: unasked it would leave its newer types out, or fail.
  await allowing(/^ERR/, socket.call(['REPLCONF', 'version', VALKEY_VERSION]));
}

/** Asks for the stream behind `from`, or for a snapshot. @throws SourceRefused */
export async function psync(socket: LinkSocket, from: Point | undefined): Promise<PsyncAnswer> {
  const asked = from === undefined ? ['?', '-1'] : [from.replid, String(from.offset + 1)];
  const reply = await socket.call(['PSYNC', ...asked]);
  const [, word, replid, offset] = /^\+(\w+)(?: ([0-9a-f]{40}))?(?: (\d{1,15}))?$/.exec(reply) ?? [];
  if (word === 'CONTINUE' && from !== undefined) return { kind: 'continue', replid };
  if (word === 'FULLRESYNC' && replid !== undefined && offset !== undefined)
    return { kind: 'full', at: { replid, offset: Number(offset) } };
  throw new Error(`the source answered PSYNC with ${JSON.stringify(reply.slice(0, 100))}`);
}

/** How the snapshot's end will be known: by its length, or by 40 bytes that end it. */
export async function snapshotLength(socket: LinkSocket): Promise<number | Buffer> {
  const line = await socket.readLine();
  if (line.startsWith('-')) throw new SourceRefused(line.slice(1));
  const [, length, mark] = /^\$(?:(\d{1,15})|EOF:([\x21-\x7e]{40}))$/.exec(line) ?? [];
  if (length !== undefined) return Number(length);
  if (mark !== undefined) return Buffer.from(mark, 'latin1');
  throw new Error(`the source announced its snapshot with ${JSON.stringify(line.slice(0, 100))}`);
}

async function allowing(refusal: RegExp, call: Promise<string>): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!(error instanceof SourceRefused) || !refusal.test(error.message)) throw error;
  }
}
