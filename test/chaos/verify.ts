import { connect, type Socket } from 'node:net';
import { compareServers, type DumpedKey, dumpAll } from '../support/compare.ts';
import { RedisServer } from '../support/redis-server.ts';
import type { Scene } from './scene.ts';

// What the target should hold, found out without a line of lanegate: a stream's entries are sent as they stand, one
// after the other, to another server; a live source is the answer itself.

const PAGE = 500;

export interface Verdict {
  readonly differences: readonly string[];
  /** Elements of lists: unique ids, so that each that is missing was lost and each that is too many came twice. */
  readonly lost: number;
  readonly duplicated: number;
  /** Commands that the log held behind the last verdict; 0 for a live source. */
  readonly replayed: number;
  readonly keys: number;
}

export class Verifier implements AsyncDisposable {
  readonly #scene: Scene;
  readonly #replay: RedisServer | undefined;
  readonly #beganMs = Date.now();
  #last = '0-0';

  private constructor(scene: Scene, replay: RedisServer | undefined) {
    this.#scene = scene;
    this.#replay = replay;
  }

  static async create(scene: Scene): Promise<Verifier> {
    const replay = scene.options.source === 'redis-stream' ? await RedisServer.start() : undefined;
    return new Verifier(scene, replay);
  }

  async verify(): Promise<Verdict> {
    const replayed = await this.#catchUp();
    const [expected, target] = [(this.#replay ?? this.#scene.source).url, this.#scene.target.url];
    // A deadline that the log gives as so many seconds began when it was logged, and here when it is replayed.
    const ttlToleranceMs = Date.now() - this.#beganMs + 2_000;
    const found = await compareServers(expected, target, { ttlToleranceMs });
    const [left, right] = await Promise.all([dumpAll(expected), dumpAll(target)]);
    const differences = found.map(({ db, key, what }) => `db ${db} ${key}: ${what}`);
    const keys = left.size;
    return { differences, ...surplus(left, right), replayed, keys };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#replay?.[Symbol.asyncDispose]();
  }

  async #catchUp(): Promise<number> {
    if (this.#replay === undefined) return 0;
    const source = this.#scene.source.client();
    const socket = connect(this.#replay.port, '127.0.0.1');
    let replayed = 0;
    try {
      for (;;) {
        const page = (await source.xrangeBuffer('binlog', `(${this.#last}`, '+', 'COUNT', PAGE)) as [
          Buffer,
          Buffer[],
        ][];
        for (const [id, fields] of page) {
          replayed += await send(socket, entryBytes(fields), id.toString());
          this.#last = id.toString();
        }
        if (page.length < PAGE) return replayed;
      }
    } finally {
      socket.destroy();
    }
  }
}

function entryBytes(fields: readonly Buffer[]): Buffer {
  const field = (name: string) => fields[fields.findIndex((one) => one.toString() === name) + 1] as Buffer;
  const db = field('db').toString();
  return Buffer.concat([Buffer.from(`*2\r\n$6\r\nSELECT\r\n$${db.length}\r\n${db}\r\n`), field('resp')]);
}

/** Sends commands and waits for all of their replies; returns how many commands of the log that were. */
async function send(socket: Socket, commands: Buffer, id: string): Promise<number> {
  const end = `replayed ${id}`;
  const replies = new Promise<string>((resolve, reject) => {
    let text = '';
    const onData = (bytes: Buffer) => {
      text += bytes.toString('latin1');
      if (!text.endsWith(`${end}\r\n`)) return;
      socket.off('data', onData).off('error', reject);
      resolve(text);
    };
    socket.on('data', onData);
    socket.once('error', reject);
  });
  socket.write(commands);
  socket.write(`*2\r\n$4\r\nECHO\r\n$${end.length}\r\n${end}\r\n`);
  const refused = /(?:^|\r\n)(-[^\r]*)/.exec(await replies);
  if (refused) throw new Error(`the log's entry ${id} is refused in the replay: ${refused[1]}`);
  // Values of this workload hold no line that begins a command.
  return (commands.toString('latin1').match(/(?:^|\r\n)\*\d+\r\n/g)?.length ?? 1) - 1;
}

function surplus(
  left: ReadonlyMap<string, DumpedKey>,
  right: ReadonlyMap<string, DumpedKey>,
): { lost: number; duplicated: number } {
  const [expected, found] = [elements(left), elements(right)];
  let [lost, duplicated] = [0, 0];
  for (const element of new Set([...expected.keys(), ...found.keys()])) {
    const apart = (found.get(element) ?? 0) - (expected.get(element) ?? 0);
    if (apart < 0) lost -= apart;
    else duplicated += apart;
  }
  return { lost, duplicated };
}

function elements(dump: ReadonlyMap<string, DumpedKey>): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [name, { type, value }] of dump) {
    if (type !== 'list' || name.includes(':lanegate:')) continue;
    for (const element of value) counts.set(element, (counts.get(element) ?? 0) + 1);
  }
  return counts;
}
