import { appendFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { encodeCommands } from '../../../src/binlog/resp.ts';
import { type OpenSourceOptions, openSource } from '../../../src/sources/open.ts';
import type { Entry, Position, Source } from '../../../src/sources/source.ts';

export type Command = readonly (Buffer | string | number)[];

/** A directory of AOF files made by hand, and sources that read them. */
export class LogDirectory implements AsyncDisposable {
  readonly dir: string;
  readonly notices: string[] = [];
  readonly #sources: Source[] = [];
  #manifest = '';

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async create(): Promise<LogDirectory> {
    return new LogDirectory(await mkdtemp(join(tmpdir(), 'lanegate-aof-')));
  }

  path(name: string): string {
    return join(this.dir, name);
  }

  async put(name: string, ...pieces: readonly (Buffer | string)[]): Promise<void> {
    await writeFile(this.path(name), Buffer.concat(pieces.map((piece) => Buffer.from(piece))));
  }

  async append(name: string, ...pieces: readonly (Buffer | string)[]): Promise<void> {
    await appendFile(this.path(name), Buffer.concat(pieces.map((piece) => Buffer.from(piece))));
  }

  /** A file that the manifest names. */
  async part(type: 'b' | 'i' | 'h', seq: number, ...pieces: readonly (Buffer | string)[]): Promise<void> {
    const name = `a.aof.${seq}.${type}`;
    await this.put(name, ...pieces);
    this.#manifest += `file ${name} seq ${seq} type ${type}\n`;
    await this.put('a.aof.manifest', this.#manifest);
  }

  open(name = '', options: Partial<OpenSourceOptions> = {}, scheme = 'aof'): Source {
    const onNotice = (text: string) => this.notices.push(text);
    const source = openSource(`${scheme}://${this.path(name)}`, { name: 'test', onNotice, ...options });
    this.#sources.push(source);
    return source;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const source of this.#sources) await source.close();
    await rm(this.dir, { recursive: true, force: true });
  }
}

export function resp(...commands: readonly Command[]): Buffer {
  return encodeCommands(commands);
}

/** Everything up to the head, and the error that ended it before. */
export async function readAll(
  source: Source,
  from?: Position,
): Promise<{ readonly entries: Entry[]; readonly error: unknown; readonly position: Position }> {
  const entries: Entry[] = [];
  let position = from ?? (await source.resolve('beginning')).position;
  let error: unknown;
  let ended = false;
  const abort = new AbortController();
  const read = async () => {
    for await (const chunk of source.read(position, abort.signal)) {
      entries.push(...chunk);
      position = chunk.at(-1)?.position ?? position;
    }
  };
  const reading = read()
    .catch((cause: unknown) => {
      error = cause;
    })
    .finally(() => {
      ended = true;
    });
  const { position: head } = await source.head();
  // Where nothing is left behind a position, only `covers` says so.
  while (!ended && !source.covers(position, head)) await setImmediate();
  abort.abort();
  await reading;
  return { entries, error, position };
}

export function textOf(entries: readonly Entry[]): string {
  return Buffer.concat(entries.map((entry) => entry.resp)).toString('latin1');
}
