import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type protobuf from 'protobufjs';
import { frameOf } from './frames.ts';
import type { Place } from './position.ts';

// The messages of inner-message.proto, with the types of this project. Nothing is taken on trust from the other side:
// what a response lacks is undefined, and unknown fields are passed over.

const require = createRequire(import.meta.url);
let types: { readonly request: protobuf.Type; readonly response: protobuf.Type } | undefined;

/** Loaded and parsed when a Pika is spoken to: other sources start without it. */
function messageTypes() {
  if (types !== undefined) return types;
  const { parse } = require('protobufjs') as typeof protobuf;
  const schema = readFileSync(new URL('./inner-message.proto', import.meta.url), 'utf8');
  const { root } = parse(schema, { keepCase: false });
  types = { request: root.lookupType('Request'), response: root.lookupType('Response') };
  return types;
}

const TYPE = { metaSync: 1, trySync: 2, binlogSync: 4, removeSlaveNode: 6 } as const;
const CODE_OK = 1;
const CODE_OTHER = 3;
const SYNC_REPLIES = [undefined, 'accepted', 'purged', 'larger', 'refused'] as const;

/** Whom the master takes us for: it keys its slaves by this. */
export interface Node {
  readonly ip: string;
  readonly port: number;
}

export interface MetaSyncReply {
  readonly kind: 'metaSync';
  readonly outcome: 'ok' | 'taken' | 'refused';
  /** What the master says of it. */
  readonly text: string;
  readonly databases: readonly string[];
  /** 3.5.0 and newer. */
  readonly runId: string;
  /** 3.5.1 and newer. */
  readonly replicationId: string;
}

export interface TrySyncReply {
  readonly kind: 'trySync';
  readonly outcome: 'accepted' | 'purged' | 'larger' | 'refused';
  readonly text: string;
  readonly db: string;
  /** Where the master's log ends now. */
  readonly end: Place | undefined;
  readonly session: number;
}

export interface BinlogSyncItem {
  readonly db: string;
  readonly end: Place;
  readonly session: number;
  /** A view of the frame; empty in a ping. */
  readonly bytes: Buffer;
}

export type Response =
  | MetaSyncReply
  | TrySyncReply
  | { readonly kind: 'binlogSync'; readonly items: readonly BinlogSyncItem[]; readonly text: string }
  | { readonly kind: 'removeSlaveNode' }
  | { readonly kind: 'unknown'; readonly type: number };

export function metaSync(node: Node, auth: string | undefined): Buffer {
  return request({ type: TYPE.metaSync, metaSync: { node, ...(auth === undefined ? {} : { auth }) } });
}

export function trySync(node: Node, db: string, place: Place): Buffer {
  return request({ type: TYPE.trySync, trySync: { node, slot: slotOf(db), binlogOffset: offsetOf(place) } });
}

export function binlogSync(
  node: Node,
  db: string,
  range: { readonly first: Place; readonly last: Place; readonly session: number; readonly begins: boolean },
): Buffer {
  const binlogSync = {
    node,
    dbName: db,
    slotId: 0,
    ackRangeStart: wireOffset(range.first),
    ackRangeEnd: wireOffset(range.last),
    sessionId: range.session,
    firstSend: range.begins,
  };
  return request({ type: TYPE.binlogSync, binlogSync });
}

/** Only for databases that the master has: of another one, masters up to 4.0.1 die. */
export function removeSlaveNode(node: Node, databases: readonly string[]): Buffer {
  const removeSlaveNode = databases.map((db) => ({ node, slot: slotOf(db) }));
  return request({ type: TYPE.removeSlaveNode, removeSlaveNode });
}

/** What protobufjs makes of a response: default values where nothing was sent, hence `hasOwn` where it matters. */
interface RawOffset {
  readonly filenum: number;
  readonly offset: { toNumber(): number } | number;
}

interface RawItem {
  readonly slot: { readonly dbName: string } | null;
  readonly binlogOffset: RawOffset | null;
  readonly binlog: Buffer;
  readonly sessionId: number;
}

interface RawResponse {
  readonly type: number;
  readonly code: number;
  readonly reply: string;
  readonly metaSync: {
    readonly dbsInfo: readonly { readonly dbName: string }[];
    readonly runId: string;
    readonly replicationId: string;
  } | null;
  readonly trySync: {
    readonly replyCode: number;
    readonly slot: { readonly dbName: string } | null;
    readonly binlogOffset: RawOffset | null;
    readonly sessionId: number;
  } | null;
  readonly binlogSync: readonly RawItem[];
}

/** @throws Error when `frame` is no message of the protocol */
export function readResponse(frame: Buffer): Response {
  const raw = messageTypes().response.decode(frame) as unknown as RawResponse;
  switch (raw.type) {
    case TYPE.metaSync:
      return metaSyncReply(raw);
    case TYPE.trySync:
      return trySyncReply(raw);
    case TYPE.binlogSync:
      return { kind: 'binlogSync', items: raw.binlogSync.map(itemOf), text: raw.reply };
    case TYPE.removeSlaveNode:
      return { kind: 'removeSlaveNode' };
    default:
      return { kind: 'unknown', type: raw.type };
  }
}

function metaSyncReply({ code, reply, metaSync }: RawResponse): MetaSyncReply {
  return {
    kind: 'metaSync',
    outcome: code === CODE_OK ? 'ok' : code === CODE_OTHER ? 'taken' : 'refused',
    text: reply,
    databases: (metaSync?.dbsInfo ?? []).map(({ dbName }) => dbName),
    runId: metaSync?.runId ?? '',
    replicationId: metaSync?.replicationId ?? '',
  };
}

function trySyncReply({ code, reply, trySync }: RawResponse): TrySyncReply {
  const outcome = (code === CODE_OK && SYNC_REPLIES[trySync?.replyCode ?? 0]) || 'refused';
  return {
    kind: 'trySync',
    outcome,
    text: reply,
    db: trySync?.slot?.dbName ?? '',
    end: trySync?.binlogOffset ? placeOf(trySync.binlogOffset) : undefined,
    session: trySync?.sessionId ?? 0,
  };
}

function itemOf({ slot, binlogOffset, binlog, sessionId }: RawItem): BinlogSyncItem {
  const end = binlogOffset === null ? { filenum: 0, offset: 0 } : placeOf(binlogOffset);
  return { db: slot?.dbName ?? '', end, session: sessionId, bytes: binlog };
}

function placeOf({ filenum, offset }: RawOffset): Place {
  return { filenum, offset: typeof offset === 'number' ? offset : offset.toNumber() };
}

function slotOf(db: string) {
  return { dbName: db, slotId: 0 };
}

function offsetOf({ filenum, offset }: Place) {
  return { filenum, offset };
}

/** As a slave of Pika writes it. */
function wireOffset(place: Place) {
  return { ...offsetOf(place), term: 0, index: 0 };
}

function request(fields: Record<string, unknown>): Buffer {
  const { request: type } = messageTypes();
  return frameOf(type.encode(type.create(fields)).finish());
}
