// One page of a key: what to ask, and the commands that the answers make.

import { encodeCommand } from '../../binlog/resp.ts';
import type { Argument } from '../../wire/encode.ts';
import { type Reply, ReplyError } from '../../wire/replies.ts';

const ELEMENTS = 512;
const PIECE_BYTES = 1024 * 1024;

export type KeyType = 'none' | 'string' | 'hash' | 'list' | 'set' | 'zset' | 'stream';

export interface Page {
  readonly key: Buffer;
  readonly type: KeyType;
  readonly count: number;
  /** Index, offset, cursor or id where it begins. */
  readonly from: string;
  readonly ask: readonly (readonly Argument[])[];
}

const SCANS = { hash: 'HSCAN', set: 'SSCAN', zset: 'ZSCAN' } as const;

/** Pika calls a stream `streams`. */
export function typeOf(reply: Reply): KeyType {
  const text = String(reply);
  if (text === 'streams' || text === 'stream') return 'stream';
  return (['string', 'hash', 'list', 'set', 'zset'] as const).find((type) => type === text) ?? 'none';
}

/** Undefined: nothing to read. `count`: elements, or bytes of a string, of a page; 0 for the usual. */
export function firstPage(key: Buffer, type: KeyType, count = 0): Page | undefined {
  return type === 'none' ? undefined : pageFrom(key, type, type === 'stream' ? '-' : '0', count);
}

function pageFrom(key: Buffer, type: KeyType, from: string, count: number): Page {
  const many = count || (type === 'string' ? PIECE_BYTES : ELEMENTS);
  const last = Number(from) + many - 1;
  const ask = (): Argument[][] => {
    if (type === 'string') return [['GETRANGE', key, from, last]];
    if (type === 'list') return [['LRANGE', key, from, last]];
    if (type === 'stream')
      return [
        ['XRANGE', key, from, '+', 'COUNT', many],
        ['XINFO', 'STREAM', key],
      ];
    return [[SCANS[type as keyof typeof SCANS], key, from, 'COUNT', many]];
  };
  return { key, type, count: many, from, ask: ask() };
}

export function pageOf(
  page: Page,
  replies: readonly Reply[],
): { readonly commands: Buffer[]; readonly next: Page | undefined } {
  const { key, type, count, from } = page;
  const [reply, about] = replies;
  const nextAt = (at: string) => pageFrom(key, type, at, count);
  // It became another type.
  if (reply === null || reply === undefined || reply instanceof ReplyError)
    return { commands: [], next: undefined };
  if (type === 'string') {
    const bytes = reply as Buffer;
    const isFirst = from === '0';
    const commands =
      isFirst || bytes.length > 0 ? [encodeCommand([isFirst ? 'SET' : 'APPEND', key, bytes])] : [];
    return { commands, next: bytes.length < count ? undefined : nextAt(String(Number(from) + count)) };
  }
  if (!Array.isArray(reply)) return { commands: [], next: undefined };
  if (type === 'list') {
    const commands = reply.length === 0 ? [] : [encodeCommand(['RPUSH', key, ...(reply as Buffer[])])];
    return { commands, next: reply.length < count ? undefined : nextAt(String(Number(from) + count)) };
  }
  if (type === 'stream') return streamPage(page, reply as [Reply, Buffer[]][], about as Reply, nextAt);
  const [cursor, elements] = reply as [Reply, Buffer[]];
  const next = String(cursor) === '0' ? undefined : nextAt(String(cursor));
  if (elements.length === 0) return { commands: [], next };
  const name = { hash: 'HSET', set: 'SADD', zset: 'ZADD' }[type as keyof typeof SCANS];
  const args = type === 'zset' ? swapped(elements) : elements;
  return { commands: [encodeCommand([name, key, ...args])], next };
}

/** ZSCAN gives member and score, ZADD takes score and member. */
function swapped(elements: readonly Buffer[]): Buffer[] {
  return elements.map((_, i) => elements[i ^ 1] as Buffer);
}

function streamPage(
  { key, count, from }: Page,
  entries: readonly [Reply, Buffer[]][],
  about: Reply,
  nextAt: (at: string) => Page,
): { commands: Buffer[]; next: Page | undefined } {
  const commands = entries.map(([id, fields]) => encodeCommand(['XADD', key, String(id), ...fields]));
  const last = entries.at(-1);
  if (last !== undefined && entries.length >= count)
    return { commands, next: nextAt(idBehind(String(last[0]))) };
  const lastId = lastIdIn(about);
  if (lastId === undefined || lastId === '0-0') return { commands, next: undefined };
  // A stream that is empty, or has lost its newest, still goes on behind its last id.
  if (from === '-' && entries.length === 0) {
    commands.push(encodeCommand(['XADD', key, lastId, '-', '-']), encodeCommand(['XDEL', key, lastId]));
  } else if (lastId !== String(last?.[0])) commands.push(encodeCommand(['XSETID', key, lastId]));
  return { commands, next: undefined };
}

function idBehind(id: string): string {
  const [ms = '0', seq = '0'] = id.split('-');
  return `${ms}-${BigInt(seq) + 1n}`;
}

function lastIdIn(about: Reply): string | undefined {
  if (!Array.isArray(about)) return undefined;
  const at = about.findIndex((one, i) => i % 2 === 0 && String(one) === 'last-generated-id');
  return at < 0 ? undefined : String(about[at + 1]);
}
