import { connect, type Socket } from 'node:net';
import type { LoggedItem } from '../support/pika-log.ts';
import { RedisServer } from '../support/redis-server.ts';
import { PIKA_DATABASES, type PikaOrigin } from './pika-source.ts';

// A log is run by the verifier: one command after the other, on a server that is out of every fault's reach, without a
// line of lanegate.

const PAGE = 500;
/** Of an item of a Pika's log; the command follows. */
const ITEM_HEADER_BYTES = 34;
/** What a deadline in seconds does not reach, and one in milliseconds has behind it. */
const MILLISECONDS_FROM = 1e11;
const DELETE_MATCHING =
  "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 0";

export interface Replay extends AsyncDisposable {
  readonly url: string;
  /** Runs what the log holds behind the last time; how many commands that was. */
  catchUp(): Promise<number>;
}

export class StreamReplay implements Replay {
  readonly #source: RedisServer;
  readonly #server: RedisServer;
  #last = '0-0';

  private constructor(source: RedisServer, server: RedisServer) {
    this.#source = source;
    this.#server = server;
  }

  static async of(source: RedisServer): Promise<StreamReplay> {
    return new StreamReplay(source, await RedisServer.start());
  }

  get url(): string {
    return this.#server.url;
  }

  async catchUp(): Promise<number> {
    const socket = connect(this.#server.port, '127.0.0.1');
    let replayed = 0;
    try {
      for (;;) {
        const page = (await this.#source
          .client()
          .xrangeBuffer('binlog', `(${this.#last}`, '+', 'COUNT', PAGE)) as [Buffer, Buffer[]][];
        for (const [id, fields] of page) {
          replayed += await sendEntry(socket, fields, id.toString());
          this.#last = id.toString();
        }
        if (page.length < PAGE) return replayed;
      }
    } finally {
      socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }
}

interface PlacedItem extends LoggedItem {
  readonly db: string;
  readonly timeS: number;
}

export class PikaReplay implements Replay {
  readonly #pika: PikaOrigin;
  readonly #server: RedisServer;
  /** Items of each log that were run. */
  readonly #done = new Map<string, number>();

  private constructor(pika: PikaOrigin, server: RedisServer) {
    this.#pika = pika;
    this.#server = server;
  }

  static async of(pika: PikaOrigin): Promise<PikaReplay> {
    return new PikaReplay(pika, await RedisServer.start());
  }

  get url(): string {
    return this.#server.url;
  }

  async catchUp(): Promise<number> {
    const items = this.#behind();
    const socket = connect(this.#server.port, '127.0.0.1');
    try {
      for (let at = 0; at < items.length; at += PAGE) {
        const page = items.slice(at, at + PAGE).flatMap(({ db, bytes }) => {
          return [encoded(['SELECT', db.slice(2)]), translated(bytes.subarray(ITEM_HEADER_BYTES))];
        });
        await send(socket, Buffer.concat(page), `items ${at}`);
      }
      return items.length;
    } finally {
      socket.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server[Symbol.asyncDispose]();
  }

  /** In the order of their seconds, and each log in its own: see PikaOrigin.writeFlushAll. */
  #behind(): PlacedItem[] {
    const items = PIKA_DATABASES.flatMap((db): PlacedItem[] => {
      const all = this.#pika.master.log(db).items;
      const from = this.#done.get(db) ?? 0;
      this.#done.set(db, all.length);
      return all.slice(from).map((item) => ({ ...item, db, timeS: item.bytes.readUInt32LE(2) }));
    });
    return items.sort((a, b) => a.timeS - b.timeS);
  }
}

/** What Pika's own commands are to a Redis. */
function translated(resp: Buffer): Buffer {
  const [name = '', key = '', deadline = '', value = ''] = argumentsOf(resp);
  switch (String(name).toLowerCase()) {
    case 'pksetexat': {
      if (Number(deadline) === 0) return encoded(['SET', key, value]);
      const unit = Number(deadline) >= MILLISECONDS_FROM ? 'PXAT' : 'EXAT';
      return encoded(['SET', key, value, unit, deadline]);
    }
    case 'pkpatternmatchdel':
      return encoded(['EVAL', DELETE_MATCHING, '0', key]);
    default:
      return resp;
  }
}

function argumentsOf(resp: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let at = resp.indexOf('$'); at >= 0 && at < resp.length; ) {
    const begin = resp.indexOf('\r\n', at) + 2;
    const end = begin + Number(resp.toString('latin1', at + 1, begin - 2));
    found.push(resp.subarray(begin, end));
    at = end + 2;
  }
  return found;
}

function encoded(args: readonly (Buffer | string)[]): Buffer {
  const parts = args.flatMap((arg) => [
    Buffer.from(`$${Buffer.byteLength(arg)}\r\n`),
    Buffer.from(arg),
    Buffer.from('\r\n'),
  ]);
  return Buffer.concat([Buffer.from(`*${args.length}\r\n`), ...parts]);
}

async function sendEntry(socket: Socket, fields: readonly Buffer[], id: string): Promise<number> {
  const field = (name: string) => fields[fields.findIndex((one) => one.toString() === name) + 1] as Buffer;
  const resp = field('resp');
  await send(socket, Buffer.concat([encoded(['SELECT', field('db').toString()]), resp]), `entry ${id}`);
  // Values of this workload hold no line that begins a command.
  return resp.toString('latin1').match(/(?:^|\r\n)\*\d+\r\n/g)?.length ?? 0;
}

/** Sends commands and waits for all of their replies. @throws Error when one is refused */
async function send(socket: Socket, commands: Buffer, what: string): Promise<void> {
  const end = `replayed ${what}`;
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
  socket.write(encoded(['ECHO', end]));
  const refused = /(?:^|\r\n)(-[^\r]*)/.exec(await replies);
  if (refused) throw new Error(`the log's ${what} is refused in the replay: ${refused[1]}`);
}
