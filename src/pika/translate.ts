// What an item of Pika's binlog means to a server that speaks Redis.
//
// It promises:
// 1. One item is one command, or no command, or a reason why it can be none: decided by the item alone, never by the
//    clock, so a log that is read again becomes the same commands.
// 2. What Redis would take as it stands is not copied.
//
// Only what Pika writes differently is named here. Any other command goes on as it is, and is judged where every
// command is judged (binlog/classify.ts).

import { equalsUpper, upperText } from '../binlog/ascii.ts';
import { integerOf } from '../binlog/integer.ts';
import { encodeCommand, RespError, RespScanner } from '../binlog/resp.ts';
import { rewriteFor } from '../binlog/rewrite.ts';
import { ITEM_HEADER_BYTES, ITEM_TYPE, type PikaItem } from './item.ts';

export type Translation =
  | {
      readonly kind: 'commands';
      /** May be a view of the item. */
      readonly resp: Buffer;
      /** Always one: positions inside a batch of items count on it. */
      readonly count: 1;
      readonly empties?: 'db' | 'everything';
    }
  | { readonly kind: 'nothing'; readonly why: string }
  | Cannot;

/** It changed data at the source and cannot do so at the target. */
export interface Cannot {
  readonly kind: 'cannot';
  readonly why: string;
  /** In upper case; '?' if there is none. */
  readonly command: string;
  /** A view of the item. */
  readonly key: Buffer | undefined;
}

type Handler = (item: PikaItem, scanner: RespScanner) => Translation;

const ASTERISK = 42;
const VERB_BYTES_MAX = 32;
const OPTION_BYTES_MAX = 16;
/** Of the log's only number with two units: as seconds this is the year 5138, as milliseconds 1973. */
const MILLISECONDS_FROM = 1e11;
/** Registers of Pika's HyperLogLog, a byte each. */
const REGISTERS = 131_072;
/** A rank is at most 16, and PFMERGE joins ranks by OR. */
const REGISTER_MAX = 31;

const SET = Buffer.from('SET');
const LOWER_SET = Buffer.from('set');
const FLUSHDB = encodeCommand(['FLUSHDB']);
const FLUSHALL = encodeCommand(['FLUSHALL']);

/**
 * PKPATTERNMATCHDEL pattern [type]. KEYS is empty: it passes the gate of all lanes. SCAN returns a key that stays
 * throughout at least once, also while others go.
 */
const DELETE_MATCHING = Buffer.from(`local cursor, gone = '0', 0
repeat
  local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = page[1]
  for _, key in ipairs(page[2]) do
    if string.sub(key, 1, 9) ~= 'lanegate:' and (ARGV[2] == '' or redis.call('TYPE', key).ok == ARGV[2]) then
      gone = gone + redis.call('DEL', key)
    end
  end
until cursor == '0'
return gone`);

const HANDLERS: Readonly<Record<string, Handler>> = {
  SET: set,
  PKSETEXAT: pksetexat,
  EXPIRE: absolute,
  PEXPIRE: absolute,
  SETEX: absolute,
  PSETEX: absolute,
  // In 3.5.5 it takes a type and flushes everything all the same.
  FLUSHDB: () => ({ ...commands(FLUSHDB), empties: 'db' }),
  FLUSHALL: () => ({ ...commands(FLUSHALL), empties: 'everything' }),
  PKPATTERNMATCHDEL: patternDelete,
  DELVX: (_item, scanner) => cannot(scanner, 'a conditional delete by value is known to Pika alone'),
  SELECT: (_item, scanner) => cannot(scanner, "a database's own log does not change the database"),
  SUNION: read,
  SINTER: read,
  SDIFF: read,
  CLEARCACHE: upkeep,
  CLEARREPLICATIONID: upkeep,
  DUMMY: upkeep,
  PADDING: upkeep,
  // It moves the key away, and what that does to it is logged as DEL.
  'SLOTSMGRT-EXEC-WRAPPER': upkeep,
  // What stands in a transaction is logged command by command.
  MULTI: upkeep,
  EXEC: upkeep,
  DISCARD: upkeep,
};

interface Named {
  readonly word: Buffer;
  readonly handler: Handler;
}

/** By length of the verb: no string is made of it. */
const BY_LENGTH: readonly (readonly Named[])[] = Array.from({ length: VERB_BYTES_MAX }, (_, length) =>
  Object.entries(HANDLERS)
    .filter(([name]) => name.length === length)
    .map(([name, handler]) => ({ word: Buffer.from(name), handler })),
);

/** One for all: nothing of it outlives a call. */
const theScanner = new RespScanner();

export function translateItem(item: PikaItem): Translation {
  const { resp } = item;
  if (resp.length === 0) return { kind: 'nothing', why: 'an empty item' };
  if (resp[0] !== ASTERISK && isWrapped(resp)) return { kind: 'nothing', why: 'padding' };
  const scanner = theScanner;
  scanner.reset(resp);
  try {
    scanner.next();
  } catch (error) {
    if (!(error instanceof RespError)) throw error;
    return { kind: 'cannot', why: error.message, command: '?', key: undefined };
  }
  if (scanner.end !== resp.length) return cannot(scanner, 'there is more than one command in the item');
  const start = scanner.argStart[0] as number;
  const end = scanner.argEnd[0] as number;
  for (const { word, handler } of BY_LENGTH[end - start] ?? []) {
    if (equalsUpper(resp, start, end, word)) return handler(item, scanner);
  }
  return commands(resp);
}

/** The content of PADDING is an item again. */
function isWrapped(resp: Buffer): boolean {
  return resp.length >= ITEM_HEADER_BYTES && resp.readUInt16LE(0) === ITEM_TYPE;
}

function commands(resp: Buffer): Extract<Translation, { kind: 'commands' }> {
  return { kind: 'commands', resp, count: 1 };
}

function cannot(scanner: RespScanner, why: string): Cannot {
  return {
    kind: 'cannot',
    why,
    command: upperText(scanner.arg(0).subarray(0, VERB_BYTES_MAX)),
    key: scanner.argc > 1 ? scanner.arg(1) : undefined,
  };
}

function read(): Translation {
  return { kind: 'nothing', why: 'a read, logged by mistake' };
}

function upkeep(): Translation {
  return { kind: 'nothing', why: "the source's own upkeep" };
}

/** A deadline counts from the moment of the item; items of many moments may share an entry. */
function absolute(item: PikaItem, scanner: RespScanner): Translation {
  const name = upperText(scanner.arg(0));
  const args = rewriteFor(name, scanner.args(), item.execTimeS * 1000);
  return commands(args === undefined ? item.resp : encodeCommand(args));
}

/** SET key value [NX | XX | VX old] [EX n | PX n] */
function set(item: PikaItem, scanner: RespScanner): Translation {
  if (scanner.argc <= 3) {
    return isMergedCount(scanner)
      ? cannot(scanner, "the result of PFMERGE is stored in Pika's own form, which Redis does not count with")
      : commands(item.resp);
  }
  for (let i = 3; i < scanner.argc; i++) {
    const option = upperText(scanner.arg(i).subarray(0, OPTION_BYTES_MAX));
    if (option === 'VX') return cannot(scanner, 'SET ... VX, a compare-and-set, is known to Pika alone');
    if (option === 'EX' || option === 'PX') i++;
  }
  return absolute(item, scanner);
}

/** PFMERGE is logged in lower case as the registers that it made. A client's bitmap has other bytes among so many. */
function isMergedCount({ buffer, argStart, argEnd, argc }: RespScanner): boolean {
  if (argc !== 3) return false;
  const start = argStart[2] as number;
  const end = argEnd[2] as number;
  if (!LOWER_SET.equals(buffer.subarray(argStart[0], argEnd[0]))) return false;
  return isPikaHyperLogLog(buffer.subarray(start, end));
}

/** By its form: a value of so many registers, none above what a count can reach. */
export function isPikaHyperLogLog(value: Buffer): boolean {
  if (value.length !== REGISTERS) return false;
  let any = 0;
  for (const register of value) {
    if (register > REGISTER_MAX) return false;
    any |= register;
  }
  return any !== 0;
}

/**
 * PKSETEXAT key deadline value: seconds, since 4.0.1 from PSETEX milliseconds; 0 is none. A deadline behind it is no
 * reason to leave the command out, for an older value may stand at the target.
 */
function pksetexat(item: PikaItem, scanner: RespScanner): Translation {
  if (scanner.argc !== 4) return cannot(scanner, 'expected a key, a deadline and a value');
  const [, key, text, value] = scanner.args() as [Buffer, Buffer, Buffer, Buffer];
  const deadline = integerOf(text);
  if (deadline === undefined) return cannot(scanner, 'its deadline is not a number');
  if (deadline === 0) {
    if (value.length > 0) return commands(encodeCommand([SET, key, value]));
    return cannot(scanner, 'an empty value: APPEND to a key that was not there is logged without its value');
  }
  const inMs = deadline >= MILLISECONDS_FROM;
  // Below 0: 3.5 keeps deadlines in 32 bits, and from 2038 on a key is expired there at once.
  const seconds = inMs ? deadline / 1000 : deadline;
  if (seconds <= item.execTimeS) return commands(encodeCommand(['DEL', key]));
  return commands(encodeCommand([SET, key, value, inMs ? 'PXAT' : 'EXAT', text]));
}

/** PKPATTERNMATCHDEL pattern [type | count] */
function patternDelete(_item: PikaItem, scanner: RespScanner): Translation {
  if (scanner.argc < 2) return cannot(scanner, 'it names no pattern');
  const second = scanner.argc > 2 ? scanner.arg(2).toString('latin1').toLowerCase() : '';
  const type = /^(string|hash|list|set|zset)$/.test(second) ? second : '';
  return commands(encodeCommand(['EVAL', DELETE_MATCHING, 0, scanner.arg(1), type]));
}
