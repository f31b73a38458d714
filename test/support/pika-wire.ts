import { readFileSync } from 'node:fs';
import protobuf from 'protobufjs';
import type { Place } from '../../src/sources/pika/position.ts';

// The master's side of the messages.

const PROTO = new URL('../../src/sources/pika/inner-message.proto', import.meta.url);
const { root } = protobuf.parse(readFileSync(PROTO, 'utf8'));
const RequestType = root.lookupType('Request');
const ResponseType = root.lookupType('Response');

interface RawOffset {
  filenum: number;
  offset: { toNumber(): number } | number;
}

interface RawNode {
  ip: string;
  port: number;
}

export interface RawRequest {
  type: number;
  metaSync: { node: RawNode; auth: string } | null;
  trySync: { node: RawNode; slot: { dbName: string }; binlogOffset: RawOffset } | null;
  binlogSync: {
    node: RawNode;
    dbName: string;
    ackRangeStart: RawOffset;
    ackRangeEnd: RawOffset;
    sessionId: number;
    firstSend: boolean;
  } | null;
  removeSlaveNode: { node: RawNode; slot: { dbName: string } }[];
}

export function nameOf({ ip, port }: RawNode): string {
  return `${ip}:${port}`;
}

export function placeOf({ filenum, offset }: RawOffset): Place {
  return { filenum, offset: typeof offset === 'number' ? offset : offset.toNumber() };
}

export function readRequest(frame: Buffer): RawRequest {
  return RequestType.decode(frame) as unknown as RawRequest;
}

export function encodeResponse(response: Record<string, unknown>): Uint8Array {
  return ResponseType.encode(ResponseType.create(response)).finish();
}
