import { parseLine, QuotingError } from '../../binlog/quoting.ts';
import { StopError } from '../../runtime/errors.ts';

const HASH = 35;
/** Longer lines are refused by the server as well. */
const LINE_BYTES_MAX = 1_024;
const TYPES: Readonly<Record<string, 'base' | 'incr' | 'history'>> = { b: 'base', i: 'incr', h: 'history' };
const SEQ_PATTERN = /^[1-9]\d{0,14}$/;

/** A file of the log, as a line of the manifest names it. */
export interface ManifestFile {
  readonly name: string;
  readonly type: 'base' | 'incr';
  readonly seq: number;
  /** Of the manifest, from 1. */
  readonly line: number;
}

/**
 * The files of a multi-part AOF in the order of the log: the base, then the increments. History is left out.
 * `path` is for messages. Format: aof.c of Redis 7.0.
 * @throws StopError AOF_MANIFEST naming the line
 */
export function parseManifest(bytes: Buffer, path: string): readonly ManifestFile[] {
  const increments: ManifestFile[] = [];
  let base: ManifestFile | undefined;
  let line = 0;
  const refuse = (expected: string): never => {
    throw new StopError('AOF_MANIFEST', `${path}, line ${Math.max(1, line)}: expected ${expected}`, {
      hint: 'restore the manifest from a backup of the whole directory, or name one file of the log: aof:///file',
      facts: { line },
    });
  };
  for (let at = 0; at < bytes.length; ) {
    line++;
    const end = bytes.indexOf(10, at);
    if (end < 0) return refuse('a line feed at its end');
    if (end - at > LINE_BYTES_MAX) return refuse(`at most ${LINE_BYTES_MAX} bytes`);
    const text = bytes.subarray(at, end);
    at = end + 1;
    if (text[0] === HASH) continue;
    const file = readFile(text, line);
    if (typeof file === 'string') return refuse(file);
    if (file.type === 'history') continue;
    if (file.type === 'base') {
      if (base !== undefined) return refuse(`one base file, and line ${base.line} names another`);
      base = { ...file, type: 'base' };
    } else {
      if (file.seq <= (increments.at(-1)?.seq ?? 0))
        return refuse('a seq above that of the increment before it');
      increments.push({ ...file, type: 'incr' });
    }
  }
  const files = base === undefined ? increments : [base, ...increments];
  if (files.length === 0) return refuse('a base file or an increment');
  return files;
}

/** What the line says, or what was expected instead. Pairs that are not known here are from newer servers. */
function readFile(
  text: Buffer,
  line: number,
): (Omit<ManifestFile, 'type'> & { type: 'base' | 'incr' | 'history' }) | string {
  const words = wordsOf(text);
  if (words === undefined || words.length < 6 || words.length % 2 !== 0)
    return 'pairs such as: file appendonly.aof.1.incr.aof seq 1 type i';
  let [name, seq, type] = ['', '', ''];
  for (let i = 0; i < words.length; i += 2) {
    const value = (words[i + 1] as Buffer).toString();
    const key = (words[i] as Buffer).toString('latin1').toLowerCase();
    if (key === 'file') name = value;
    else if (key === 'seq') seq = value;
    else if (key === 'type') type = value;
  }
  if (name === '' || /[/\\\0]/.test(name) || name === '.' || name === '..')
    return 'the name of a file, without a path';
  if (!SEQ_PATTERN.test(seq)) return 'a seq from 1 up';
  const known = Object.hasOwn(TYPES, type) ? TYPES[type] : undefined;
  return known === undefined
    ? 'a type of b (base), i (increment) or h (history)'
    : { name, seq: Number(seq), type: known, line };
}

function wordsOf(text: Buffer): Buffer[] | undefined {
  try {
    return parseLine(text);
  } catch (error) {
    if (error instanceof QuotingError) return undefined;
    throw error;
  }
}
