// What an item of the log does to a copy: which keys it changes, or that it empties a database.

import { Classifier } from '../../binlog/classify.ts';
import { CommandTable } from '../../binlog/command-table.ts';
import { RespScanner } from '../../binlog/resp.ts';
import { decodeItem, ItemError } from '../../pika/item.ts';
import { translateItem } from '../../pika/translate.ts';

export type ItemEffect =
  | { readonly kind: 'nothing' }
  /** `resp` does to `keys` what it did at the source. */
  | { readonly kind: 'keys'; readonly keys: readonly string[]; readonly resp: Buffer; readonly timeS: number }
  /** It changed `keys` in a way that the log does not tell, or the target does not know. */
  | { readonly kind: 'untold'; readonly keys: readonly string[]; readonly timeS: number }
  | {
      readonly kind: 'empties';
      readonly what: 'db' | 'everything';
      readonly resp: Buffer;
      readonly timeS: number;
    }
  /** Any keys. */
  | { readonly kind: 'all'; readonly resp: Buffer; readonly timeS: number }
  | { readonly kind: 'malformed'; readonly why: string; readonly bytes: Buffer };

// Pika's commands are of this shape whatever the pipeline may allow, deny or split.
const classifier = new Classifier({
  table: CommandTable.shipped(),
  splitMultiKey: true,
  publish: false,
  scriptKeys: 'all',
  pipeline: undefined,
});
const scanner = new RespScanner();

export function effectOf(bytes: Buffer): ItemEffect {
  // The master could not read a record, and sent its end.
  if (bytes.length === 0) return { kind: 'malformed', why: 'the master sent an empty item', bytes };
  try {
    const item = decodeItem(bytes);
    const timeS = item.execTimeS;
    const translated = translateItem(item);
    if (translated.kind === 'nothing') return translated;
    if (translated.kind === 'commands') return judged(translated.resp, timeS);
    const { key, why } = translated;
    if (key === undefined) return { kind: 'malformed', why, bytes: item.resp };
    return { kind: 'untold', keys: [key.toString('latin1')], timeS };
  } catch (error) {
    if (!(error instanceof ItemError)) throw error;
    return { kind: 'malformed', why: error.message, bytes };
  }
}

function judged(resp: Buffer, timeS: number): ItemEffect {
  scanner.reset(resp);
  scanner.next();
  const verdict = classifier.classify(scanner);
  if (verdict.kind === 'keyed') {
    return { kind: 'keys', keys: verdict.keys.map((key) => key.toString('latin1')), resp, timeS };
  }
  if (verdict.kind === 'all') {
    const { erases } = verdict;
    if (erases === 'db' || erases === 'everything') return { kind: 'empties', what: erases, resp, timeS };
    return { kind: 'all', resp, timeS };
  }
  if (verdict.kind !== 'poison') return { kind: 'nothing' };
  if (verdict.key === undefined) return { kind: 'all', resp, timeS };
  return { kind: 'untold', keys: [verdict.key.toString('latin1')], timeS };
}
