import type { Argument } from '../../wire/encode.ts';
import { type Reply, ReplyError } from '../../wire/replies.ts';
import type { Link } from '../link.ts';

/** The two servers, both in the database of the key that is looked at. */
export interface Pair {
  readonly source: Link;
  readonly target: Link;
}

/** The key is not what it was a moment ago (deleted, of another type): looked at again in the next round. */
export class Moved extends Error {
  override readonly name = 'Moved';
}

/** @throws Moved for an error reply: every question fits the type that the key had */
export function checked(reply: Reply | undefined): Exclude<Reply, ReplyError> {
  if (reply instanceof ReplyError) throw new Moved(reply.code);
  return reply ?? null;
}

export async function one(link: Link, command: readonly Argument[]): Promise<Exclude<Reply, ReplyError>> {
  return checked((await link.call([command]))[0]);
}

/** The same question to both sides at once. */
export async function both(
  { source, target }: Pair,
  command: readonly Argument[],
): Promise<[source: Exclude<Reply, ReplyError>, target: Exclude<Reply, ReplyError>]> {
  return await Promise.all([one(source, command), one(target, command)]);
}

export function listOf(reply: Reply | undefined): Reply[] {
  return Array.isArray(reply) ? reply : [];
}

export function buffersOf(reply: Reply | undefined): Buffer[] {
  return listOf(reply).map(bufferOf);
}

/** Bytes of a reply; RESP3 servers answer some fields as numbers. */
export function bufferOf(reply: Reply | undefined): Buffer {
  return Buffer.isBuffer(reply) ? reply : Buffer.from(String(reply ?? ''));
}

export function weightOf(buffers: readonly Buffer[]): number {
  let bytes = 0;
  for (const buffer of buffers) bytes += buffer.length + 8;
  return bytes;
}
