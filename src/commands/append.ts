import { addAbortSignal } from 'node:stream';
import { ConfigurationError, messageOf } from '../runtime/errors.ts';
import { type BuiltEntry, EntryBuilder } from '../sources/append/entry-builder.ts';
import { type InputCommand, InputError, readLines, readResp } from '../sources/append/input.ts';
import { AppendError, BinlogWriter } from '../sources/binlog-writer.ts';
import type { CommandContext } from './context.ts';

/** One MULTI of XADDs: entries are sent while the next ones are read. */
const GROUP_BYTES = 1024 * 1024;
const GROUP_ENTRIES_MAX = 512;
/** A pause in the input after which an entry that is not full is appended all the same (tail -f | lanegate append). */
const PAUSE_MS = 200;

export async function append(context: CommandContext): Promise<number> {
  const { config, stdin, stdout, stderr, signal } = context;
  if (config.source === undefined)
    throw new ConfigurationError(['--source: needed, redis-stream://host:port?key=NAME']);
  const writer = new BinlogWriter({ url: config.source, ...config.sourceSecrets });
  const appender = new Appender(writer, new EntryBuilder({ batch: config.batch, db: config.db }));
  try {
    addAbortSignal(signal, stdin);
    const failure = await appender.run(config.resp ? readResp(stdin) : readLines(stdin));
    const problem = signal.aborted
      ? 'interrupted'
      : failure === undefined
        ? undefined
        : explain(failure, config.resp);
    if (problem !== undefined) {
      stderr.write(`lanegate append: ${problem}\n  ${appender.summary()}\n`);
      return 1;
    }
    stdout.write(`${appender.summary()}\n`);
    return 0;
  } finally {
    await writer.close();
  }
}

function explain(error: unknown, resp: boolean): string {
  if (error instanceof InputError) return `${resp ? 'byte' : 'line'} ${error.at}: ${error.message}`;
  return messageOf(error);
}

/** Reads, cuts and appends; on a failure everything before it is appended, nothing behind it. */
class Appender {
  readonly #writer: BinlogWriter;
  readonly #builder: EntryBuilder;
  #group: BuiltEntry[] = [];
  #groupBytes = 0;
  #sending: Promise<void> = Promise.resolve();
  #commands = 0;
  #entries = 0;
  #lastId: string | undefined;
  #outcomeUnknown = false;

  constructor(writer: BinlogWriter, builder: EntryBuilder) {
    this.#writer = writer;
    this.#builder = builder;
  }

  /** Returns what went wrong, after everything before it has been appended. */
  async run(input: AsyncGenerator<InputCommand[]>): Promise<unknown> {
    let failure: unknown;
    try {
      await this.#read(input);
      const open = this.#builder.openTransactionAt;
      if (open !== undefined)
        failure = new InputError(open, 'MULTI without EXEC: nothing of it was appended');
    } catch (error) {
      failure = error;
    }
    if (failure instanceof AppendError) return failure;
    try {
      await this.#sendAll();
    } catch (error) {
      return error;
    }
    return failure;
  }

  summary(): string {
    const last = this.#lastId === undefined ? 'nothing was appended' : `last id ${this.#lastId}`;
    const unsure = this.#outcomeUnknown
      ? '; what was sent after it may be in the stream: look before appending it again'
      : '';
    return `${count(this.#commands, 'command')} in ${count(this.#entries, 'entry')}, ${last}${unsure}`;
  }

  async #read(input: AsyncGenerator<InputCommand[]>): Promise<void> {
    for (;;) {
      const next = input.next();
      next.catch(() => {});
      if (!(await settlesWithin(next, PAUSE_MS))) await this.#sendAll();
      const { done, value } = await next;
      if (done) return;
      for (const command of value) {
        this.#builder.add(command, this.#collect);
        if (this.#groupBytes >= GROUP_BYTES || this.#group.length >= GROUP_ENTRIES_MAX) await this.#send();
      }
    }
  }

  readonly #collect = (entry: BuiltEntry): void => {
    this.#group.push(entry);
    this.#groupBytes += entry.resp.length;
  };

  async #sendAll(): Promise<void> {
    this.#builder.flush(this.#collect);
    await this.#send();
    await this.#sending;
  }

  /** One group is in flight at a time: behind one that is refused, none may be appended. */
  async #send(): Promise<void> {
    await this.#sending;
    if (this.#group.length === 0) return;
    const group = this.#group;
    this.#group = [];
    this.#groupBytes = 0;
    this.#sending = this.#appendGroup(group);
    this.#sending.catch(() => {});
  }

  async #appendGroup(group: readonly BuiltEntry[]): Promise<void> {
    try {
      const ids = await this.#writer.appendEncoded(group);
      this.#lastId = ids.at(-1);
      this.#entries += group.length;
      for (const entry of group) this.#commands += entry.commands;
    } catch (error) {
      this.#outcomeUnknown = error instanceof AppendError && error.outcome === 'unknown';
      throw error;
    }
  }
}

async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const pause = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, ms, false);
  });
  try {
    return await Promise.race([
      promise.then(
        () => true,
        () => true,
      ),
      pause,
    ]);
  } finally {
    clearTimeout(timer);
  }
}

function count(n: number, what: 'command' | 'entry'): string {
  if (n === 1) return `1 ${what}`;
  return `${n} ${what === 'entry' ? 'entries' : 'commands'}`;
}
