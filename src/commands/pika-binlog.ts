import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { upperText } from '../binlog/ascii.ts';
import { formatKey } from '../binlog/quoting.ts';
import { RespError, RespScanner } from '../binlog/resp.ts';
import { filenumOf, type LogPlace, openLogDirectory } from '../pika/log-directory.ts';
import { type LogItem, LogReader } from '../pika/log-reader.ts';
import { translateItem } from '../pika/translate.ts';
import { ConfigurationError, messageOf } from '../runtime/errors.ts';
import { databaseOf, type LogDatabase, openDatabases } from '../sources/pika-binlog/databases.ts';
import { formatVector } from '../sources/pika-binlog/position.ts';
import type { CommandContext } from './context.ts';
import { escapeControl } from './format.ts';

const SHOWN_BYTES_MAX = 64;
const COMMAND_BYTES_MAX = 64;
const WRITE_CHARS = 64 * 1024;

/** What the table of an item says; `becomes` is of the translation, `why` where nothing or no command comes of it. */
interface Shown {
  readonly position: string;
  readonly time: string | null;
  readonly db: string;
  readonly command: string;
  readonly key: string | null;
  readonly args?: readonly string[];
  readonly becomes: 'command' | 'nothing' | 'cannot';
  readonly why: string | null;
}

/** Prints the items of a file, of one database's directory, or of the log-path with several, one after the other. */
export async function pikaBinlog(context: CommandContext): Promise<number> {
  const { config, positionals, stdout, stderr, signal } = context;
  const from = placeOf(config.from);
  const databases = await opened(resolve(positionals[0] ?? ''));
  if (from !== undefined && databases.length > 1)
    throw new ConfigurationError(['--from: names a place in one log; name the directory of one database']);
  const printer = new Printer(stdout);
  for (const { name, log } of databases) {
    if (log.tornAt !== undefined)
      stderr.write(`lanegate: ${name}: what follows ${log.end.filenum}:${log.tornAt} is no whole item\n`);
    const reader = new LogReader(log, from ?? { filenum: log.files[0] as number, offset: 0 }, log.end);
    try {
      for (
        let items = await reader.next();
        items !== undefined && !signal.aborted;
        items = await reader.next()
      ) {
        for (const item of items) {
          const shown = shownOf(name, item, config.values);
          await printer.print(config.json ? `${JSON.stringify(shown)}\n` : lineOf(shown));
        }
      }
    } finally {
      await printer.flush();
      await reader.close();
    }
  }
  return signal.aborted ? 1 : 0;
}

async function opened(path: string): Promise<readonly Pick<LogDatabase, 'name' | 'log'>[]> {
  const isFile = await stat(path).then(
    (about) => about.isFile(),
    (error: Error) => {
      throw new ConfigurationError([`pika-binlog: ${messageOf(error)}`]);
    },
  );
  if (!isFile) return await openDatabases({ dir: path, only: undefined, map: new Map() });
  const filenum = filenumOf(basename(path));
  const log = filenum === undefined ? undefined : await openLogDirectory(dirname(path), filenum);
  if (log === undefined) throw new ConfigurationError([`pika-binlog: ${path} is not called write2file<N>`]);
  return [{ name: databaseOf(dirname(path)), log }];
}

function placeOf(from: string | undefined): LogPlace | undefined {
  if (from === undefined || from === 'beginning') return undefined;
  const [, filenum, offset] = /^(?:[\w.-]+=)?(\d{1,10}):(\d{1,16})$/.exec(from) ?? [];
  if (filenum === undefined)
    throw new ConfigurationError([
      "--from: must be a file's number and the offset behind an item, such as 3:147005",
    ]);
  return { filenum: Number(filenum), offset: Number(offset) };
}

function shownOf(db: string, logItem: LogItem, values: boolean): Shown {
  const { filenum, end: offset, item, malformed } = logItem;
  const position = formatVector([{ db, filenum, offset, until: undefined }]);
  if (item === undefined) {
    const why = escapeControl(malformed ?? '');
    return { position, time: null, db, command: '?', key: null, becomes: 'cannot', why };
  }
  const translation = translateItem(item);
  const args = argsOf(item.resp);
  const [verb, key] = args ?? [];
  return {
    position,
    time: new Date(item.execTimeS * 1000).toISOString().replace('.000Z', 'Z'),
    db,
    command: verb === undefined ? '?' : escapeControl(upperText(verb.subarray(0, COMMAND_BYTES_MAX))),
    key: key === undefined ? null : formatKey(key, SHOWN_BYTES_MAX),
    ...(values && args !== undefined
      ? { args: args.slice(2).map((arg) => formatKey(arg, SHOWN_BYTES_MAX)) }
      : {}),
    becomes: translation.kind === 'commands' ? 'command' : translation.kind,
    why: translation.kind === 'commands' ? null : translation.why,
  };
}

/** Undefined if the content is not one command: padding, or damage. */
function argsOf(resp: Buffer): Buffer[] | undefined {
  const scanner = new RespScanner();
  scanner.reset(resp);
  try {
    return scanner.next() ? scanner.args() : undefined;
  } catch (error) {
    if (error instanceof RespError) return undefined;
    throw error;
  }
}

function lineOf({ position, time, command, key, args = [], becomes, why }: Shown): string {
  const words = [command, ...(key === null ? [] : [key]), ...args].join(' ');
  const note = why === null ? '' : `  [${becomes === 'nothing' ? 'left out' : 'cannot be applied'}: ${why}]`;
  return `${position}  ${time ?? '?'}  ${words}${note}\n`;
}

/** Writes in pieces, and waits for a reader that is slower. */
class Printer {
  readonly #out: Writable;
  #text = '';

  constructor(out: Writable) {
    this.#out = out;
  }

  async print(line: string): Promise<void> {
    this.#text += line;
    if (this.#text.length >= WRITE_CHARS) await this.flush();
  }

  async flush(): Promise<void> {
    const text = this.#text;
    this.#text = '';
    if (text !== '' && !this.#out.write(text)) await once(this.#out, 'drain');
  }
}
