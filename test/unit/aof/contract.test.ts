import type { Command } from '../../../src/sources/binlog-writer.ts';
import type { Source } from '../../../src/sources/source.ts';
import { describeSource, type SourceFixture } from '../../contract/source.ts';
import { LogDirectory, resp } from './log-directory.ts';

/** A timestamp in front of each list of commands makes an entry of it. */
class AofFixture implements SourceFixture {
  readonly #log: LogDirectory;
  readonly #multiPart: boolean;
  #seq = 1;

  private constructor(log: LogDirectory, multiPart: boolean) {
    this.#log = log;
    this.#multiPart = multiPart;
  }

  static async create(multiPart: boolean): Promise<AofFixture> {
    const log = await LogDirectory.create();
    if (multiPart) await log.part('i', 1);
    else await log.put('a.aof');
    return new AofFixture(log, multiPart);
  }

  /** The end of a file's log is where it was when it was opened, so every question opens it anew. */
  open(): Source {
    const open = () => this.#log.open(this.#multiPart ? '' : 'a.aof');
    const any = open();
    return {
      kind: any.kind,
      identity: '',
      display: any.display,
      finite: any.finite,
      replication: any.replication,
      resolve: (from) => open().resolve(from),
      head: () => open().head(),
      read: (position, signal) => open().read(position, signal),
      positionInside: (entry, taken) => any.positionInside(entry, taken),
      acknowledge: (position) => any.acknowledge(position),
      covers: (position, head) => any.covers(position, head),
      entriesBehind: (position, head) => any.entriesBehind(position, head),
      timeBehind: (position) => open().timeBehind(position),
      serverId: () => any.serverId(),
      forget: (apply) => any.forget(apply),
      close: () => any.close(),
    };
  }

  /** With a manifest, every entry is a file of its own. */
  async write(entries: readonly (readonly Command[])[]): Promise<void> {
    for (const commands of entries) {
      const bytes = [`#TS:${Math.floor(Date.now() / 1000)}\r\n`, resp(...commands)];
      if (!this.#multiPart) await this.#log.append('a.aof', ...bytes);
      else await this.#log.part('i', ++this.#seq, ...bytes);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#log[Symbol.asyncDispose]();
  }
}

describeSource('an AOF in one file', () => AofFixture.create(false), { finite: true });
describeSource('an AOF in many files', () => AofFixture.create(true), { finite: true });
