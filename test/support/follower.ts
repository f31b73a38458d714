import { connect, type Socket } from 'node:net';
import { equalsUpper } from '../../src/binlog/ascii.ts';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import { type Entry, LogReplaced, type Position, type Source } from '../../src/sources/source.ts';

/** What a link says to its replica, and no ordinary client may repeat. */
const REPLCONF = Buffer.from('REPLCONF');

/**
 * Applies a source's log to a server command by command, as the simplest pipeline would: one position, which moves with
 * what was applied. Trouble is followed by another read, a replaced log by a read of the new one.
 */
export class Follower {
  readonly replaced: LogReplaced[] = [];
  readonly troubles: unknown[] = [];
  readonly positions: Position[] = [];
  position: Position;
  commands = 0;
  bytes = 0;
  readonly #source: Source;
  readonly #port: number;
  readonly #stop = new AbortController();
  readonly #stopWhen: (position: Position) => boolean;
  /** Settled when it has ended. */
  readonly ended: Promise<void>;
  #held: Promise<unknown> | undefined;
  #applying: Promise<void> | undefined;

  constructor(
    source: Source,
    port: number,
    position: Position,
    stopWhen: (position: Position) => boolean = () => false,
  ) {
    this.#source = source;
    this.#port = port;
    this.position = position;
    this.#stopWhen = stopWhen;
    this.ended = this.#follow();
  }

  /** Nothing more is applied before `until` is settled. */
  hold(until: Promise<unknown>): void {
    this.#held = until;
  }

  /** Like `hold`; resolves when what was taken before is applied. */
  async pauseAt(until: Promise<unknown>): Promise<void> {
    this.hold(until);
    await this.#applying;
  }

  /** Ends the reading; what was read is applied. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.ended;
  }

  async #follow(): Promise<void> {
    const target = new RawTarget(this.#port);
    const { signal } = this.#stop;
    try {
      while (!signal.aborted) {
        try {
          for await (const entries of this.#source.read(this.position, signal)) {
            await this.#held;
            this.#applying = this.#apply(target, entries);
            await this.#applying;
          }
        } catch (error) {
          if (error instanceof LogReplaced) {
            this.replaced.push(error);
            this.position = error.position;
            if (this.#stopWhen(this.position)) this.#stop.abort();
          } else {
            this.troubles.push(error);
            await new Promise((resolve) => setTimeout(resolve, 20));
          }
        }
      }
    } finally {
      target.close();
    }
  }

  async #apply(target: RawTarget, entries: readonly Entry[]): Promise<void> {
    for (const entry of entries) {
      this.commands += target.send(entry);
      this.bytes += entry.resp.length;
    }
    await target.settled();
    this.position = (entries.at(-1) as Entry).position;
    this.positions.push(this.position);
    await this.#source.acknowledge(this.position);
    if (this.#stopWhen(this.position)) this.#stop.abort();
  }
}

/** One connection; an error reply is a failure of the test. */
class RawTarget {
  readonly #socket: Socket;
  readonly #scanner = new RespScanner();
  #mark = 0;
  #tail = '';
  #wake: () => void = () => {};
  #trouble: Error | undefined;

  constructor(port: number) {
    this.#socket = connect(port, '127.0.0.1');
    this.#socket.on('data', (bytes) => this.#read(bytes.toString('latin1')));
    this.#socket.on('error', (error) => {
      this.#trouble = error;
      this.#wake();
    });
  }

  send(entry: Entry): number {
    const scanner = this.#scanner;
    scanner.reset(entry.resp);
    this.#socket.write(encodeCommand(['SELECT', entry.db]));
    let commands = 0;
    let from = 0;
    for (let i = 0; scanner.next(); i++) {
      const left =
        i < entry.skip ||
        equalsUpper(scanner.buffer, scanner.argStart[0] as number, scanner.argEnd[0] as number, REPLCONF);
      if (!left) commands++;
      if (!left) continue;
      this.#socket.write(entry.resp.subarray(from, scanner.start));
      from = scanner.end;
    }
    this.#socket.write(entry.resp.subarray(from));
    return commands;
  }

  /** Until everything that was sent is answered. */
  async settled(): Promise<void> {
    const mark = `mark-${++this.#mark}\r\n`;
    this.#socket.write(encodeCommand(['ECHO', mark.trimEnd()]));
    while (!this.#tail.endsWith(mark)) {
      if (this.#trouble !== undefined) throw this.#trouble;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #read(text: string): void {
    const all = this.#tail + text;
    const refused = /(?:^|\n)-([A-Z]+ [^\r]*)\r/.exec(all);
    if (refused !== null) this.#trouble ??= new Error(`the target refused: ${refused[1]}`);
    this.#tail = all.slice(-200);
    this.#wake();
  }
}
