import { encodeCommand } from '../../binlog/resp.ts';
import type { Entry, Position } from '../source.ts';

const FIELD_NAME_BYTES_MAX = 4;
const DB_PATTERN = /^\d{1,9}$/;
const TIME_PATTERN = /^\d{1,15}$/;
/** It has no bytes in UTF-8: Buffer.from would write U+FFFD instead. */
const LONE_SURROGATE = /\p{Surrogate}/u;

interface Known {
  resp?: Buffer;
  argv?: Buffer;
  db?: Buffer;
  time?: Buffer;
}

/** What an entry's fields say, or why they say nothing. Other fields are the writer's own and are ignored. */
export function readEntry(id: string, fields: readonly Buffer[], position: Position, skip: number): Entry {
  const base = { position, skip, db: 0, timeMs: Number(id.slice(0, id.indexOf('-'))), malformed: undefined };
  const known = knownFields(fields);
  if (typeof known === 'string') return malformed(base, fields, known);
  const { resp, argv, db, time } = known;
  if (db !== undefined) {
    const text = db.toString('latin1');
    if (!DB_PATTERN.test(text)) return malformed(base, fields, 'the field db is not a database number');
    base.db = Number(text);
  }
  if (time !== undefined) {
    const text = time.toString('latin1');
    if (!TIME_PATTERN.test(text)) return malformed(base, fields, 'the field time is not a time in ms');
    base.timeMs = Number(text);
  }
  if (resp !== undefined && argv !== undefined)
    return malformed(base, fields, 'it has both fields resp and argv');
  if (argv !== undefined) {
    const args = parseArgv(argv);
    return typeof args === 'string' ? malformed(base, fields, args) : { ...base, resp: encodeCommand(args) };
  }
  if (resp === undefined) return malformed(base, fields, 'it has neither a field resp nor argv');
  if (resp.length === 0) return malformed(base, fields, 'the field resp is empty');
  return { ...base, resp };
}

function knownFields(fields: readonly Buffer[]): Known | string {
  const known: Known = {};
  for (let i = 0; i + 1 < fields.length; i += 2) {
    const name = fields[i] as Buffer;
    if (name.length > FIELD_NAME_BYTES_MAX) continue;
    const text = name.toString('latin1');
    if (text !== 'resp' && text !== 'argv' && text !== 'db' && text !== 'time') continue;
    if (known[text] !== undefined) return `it has the field ${text} twice`;
    known[text] = fields[i + 1] as Buffer;
  }
  return known;
}

function parseArgv(bytes: Buffer): string[] | string {
  let value: unknown;
  try {
    // Invalid UTF-8 would silently become U+FFFD in the key or value.
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    return 'the field argv is not JSON in UTF-8';
  }
  if (!Array.isArray(value) || value.length === 0) return 'the field argv is not a JSON array with a command';
  if (!value.every((arg) => typeof arg === 'string'))
    return 'the field argv holds something else than strings';
  if (value.some((arg) => LONE_SURROGATE.test(arg))) return 'the field argv holds half a character';
  return value;
}

/** All fields as one RESP array: what the dead letter keeps of it. */
function malformed(base: Omit<Entry, 'resp' | 'malformed'>, fields: readonly Buffer[], why: string): Entry {
  return { ...base, resp: encodeCommand(fields), malformed: why };
}
