// One connection to a Pika master's replication port, in the part of a slave that reads on.
//
//   MetaSync --> per database: TrySync --> first BinlogSync --> items ... --> RemoveSlaveNode
//
// - One handshake request is under way at a time: the master works on several of one connection out of order.
// - Every item is acknowledged once, in ranges that do not overlap, by the ends under which it came: another range makes
//   the master close the connection, and a repeated one can stop it from sending for ever.
// - The master sends up to its sync-window-size (9000) items, or 1 GiB, ahead of the acknowledgements: that bounds what is
//   held here. Reading stops for a while above `bufferBytesMax`, but never while the consumer waits for an item.
// - A master that hears no BinlogSync for 20 s drops its slave and says nothing: each database is pinged by our own clock,
//   and silence of the master while all is acknowledged ends the link.
// A link never reconnects: any trouble ends it, and `until` throws.

import { connect, type Socket } from 'node:net';
import { sleep } from '../../runtime/backoff.ts';
import { AbortedError } from '../../runtime/errors.ts';
import { FrameReader } from './frames.ts';
import {
  type BinlogSyncItem,
  binlogSync,
  type MetaSyncReply,
  metaSync,
  type Node,
  type Response,
  readResponse,
  removeSlaveNode,
  type TrySyncReply,
  trySync,
} from './messages.ts';
import { comparePlaces, type Place } from './position.ts';

/** From the port for clients to the one for slaves. */
export const REPLICATION_PORT_OFFSET = 2_000;
const KEEPALIVE_MS = 10_000;
const GOODBYE_MS = 500;
/** What an item costs beyond its bytes. */
const ITEM_OVERHEAD_BYTES = 256;
const NOWHERE: Place = { filenum: 0, offset: 0 };

export interface LinkTimings {
  /** Interval of our pings. */
  readonly pingMs: number;
  /** The master's silence, while everything is acknowledged, that means it has dropped us. */
  readonly silenceMs: number;
  /** To connect, and for a reply. */
  readonly replyMs: number;
  /** Until a refused identity is tried again: every attempt takes the stream away from who holds it. */
  readonly takenMs: number;
}

export const LINK_TIMINGS: LinkTimings = {
  pingMs: 2_000,
  silenceMs: 20_000,
  replyMs: 10_000,
  takenMs: 3_000,
};

export interface LinkOptions {
  readonly host: string;
  /** The one for clients. */
  readonly port: number;
  readonly display: string;
  /** The master's requirepass. */
  readonly password: string | undefined;
  /** undefined: this end of the connection, which nobody else can be. */
  readonly node: Node | undefined;
  readonly timings: LinkTimings;
  readonly bufferBytesMax: number;
}

export interface ReceivedItem {
  readonly end: Place;
  /** A view of what was received. */
  readonly bytes: Buffer;
}

/** What reads a log needs of the link. */
export type ItemStream = Pick<PikaLink, 'peek' | 'shiftWhile' | 'until'>;

interface Stream {
  readonly db: string;
  session: number;
  /** End of the last item that came, delivered or not. */
  received: Place;
  /** Items up to here were read before and only count for acknowledgement. */
  readonly behind: Place;
  readonly items: ReceivedItem[];
  /** Ends of what the master still holds in its window, in order. */
  unacknowledged: Place[];
  heardMs: number;
}

interface Question {
  readonly kind: Response['kind'];
  resolve(reply: Response): void;
  reject(error: unknown): void;
}

export class PikaLink {
  readonly #options: LinkOptions;
  readonly #socket: Socket;
  readonly #node: Node;
  readonly #frames = new FrameReader();
  readonly #streams = new Map<string, Stream>();
  #timer: NodeJS.Timeout | undefined;
  #question: Question | undefined;
  #trouble: unknown;
  #wake: (() => void) | undefined;
  #bufferedBytes = 0;
  #master: MetaSyncReply | undefined;

  private constructor(options: LinkOptions, socket: Socket) {
    this.#options = options;
    this.#socket = socket;
    this.#node = options.node ?? nodeOf(socket);
    socket.on('data', (chunk) => this.#take(chunk));
    socket.on('error', (error) => this.#fail(error));
    socket.on('close', () => this.#fail(new Error('the connection was closed')));
  }

  /** Connects and introduces itself. @throws AbortedError; Error on any other trouble */
  static async open(options: LinkOptions, signal: AbortSignal): Promise<PikaLink> {
    if (signal.aborted) throw new AbortedError();
    const socket = await connected(options, signal);
    const link = new PikaLink(options, socket);
    const abort = () => link.#fail(new AbortedError());
    signal.addEventListener('abort', abort, { once: true });
    socket.once('close', () => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
    try {
      await link.#introduce(signal);
      return link;
    } catch (error) {
      socket.destroy();
      throw error;
    }
  }

  get master(): MetaSyncReply {
    if (this.#master === undefined) throw new Error('MetaSync has not been answered');
    return this.#master;
  }

  /** Items that the master waits to hear of. */
  get unacknowledged(): number {
    let sum = 0;
    for (const stream of this.#streams.values()) sum += stream.unacknowledged.length;
    return sum;
  }

  async trySync(db: string, place: Place): Promise<TrySyncReply> {
    return (await this.#ask('trySync', trySync(this.#node, db, place))) as TrySyncReply;
  }

  /** Lets the stream begin behind `from`, which `trySync` was accepted with; items up to `behind` are not delivered. */
  begin(db: string, session: number, from: Place, behind: Place): void {
    this.#streams.set(db, {
      db,
      session,
      received: from,
      behind,
      items: [],
      unacknowledged: [],
      heardMs: performance.now(),
    });
    this.#write(binlogSync(this.#node, db, { first: from, last: from, session, begins: true }));
    this.#timer ??= setInterval(() => this.#tick(), this.#options.timings.pingMs);
  }

  /** The first item of the database that was not shifted. */
  peek(db: string): ReceivedItem | undefined {
    return this.#stream(db).items[0];
  }

  /** Takes items from the front while `take` says so. */
  shiftWhile(db: string, take: (item: ReceivedItem) => boolean): readonly ReceivedItem[] {
    const { items } = this.#stream(db);
    let count = 0;
    let bytes = 0;
    for (const item of items) {
      if (!take(item)) break;
      count++;
      bytes += item.bytes.length + ITEM_OVERHEAD_BYTES;
    }
    const taken = items.splice(0, count);
    this.#bufferedBytes -= bytes;
    this.#flow(false);
    return taken;
  }

  /** For the one consumer: returns once `ready` holds. @throws what ended the link */
  async until(ready: () => boolean): Promise<void> {
    for (;;) {
      if (this.#trouble !== undefined) throw this.#explained();
      if (ready()) return;
      this.#flow(true);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Lets the consumer look again. */
  poke(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  /** Tells the master of everything up to `through`, once. */
  acknowledge(db: string, through: Place): void {
    const stream = this.#streams.get(db);
    if (stream === undefined || this.#trouble !== undefined) return;
    const { unacknowledged, session } = stream;
    let count = 0;
    while (count < unacknowledged.length && comparePlaces(unacknowledged[count] as Place, through) <= 0)
      count++;
    if (count === 0) return;
    const first = unacknowledged[0] as Place;
    const last = unacknowledged[count - 1] as Place;
    stream.unacknowledged = unacknowledged.slice(count);
    // From here on silence counts.
    stream.heardMs = performance.now();
    this.#write(binlogSync(this.#node, db, { first, last, session, begins: false }));
  }

  /** Takes its leave if it can, so that the master keeps no log for us. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    const databases = [...this.#streams.keys()];
    const isAlive = this.#trouble === undefined || this.#trouble instanceof AbortedError;
    if (isAlive && databases.length > 0 && !this.#socket.destroyed) {
      this.#trouble = undefined;
      const goodbye = this.#ask('removeSlaveNode', removeSlaveNode(this.#node, databases), GOODBYE_MS);
      await goodbye.catch(() => {});
    }
    this.#trouble ??= new AbortedError();
    this.#socket.destroy();
    this.#streams.clear();
    this.#bufferedBytes = 0;
  }

  async #introduce(signal: AbortSignal): Promise<void> {
    const { display, password, timings } = this.#options;
    const reply = (await this.#ask('metaSync', metaSync(this.#node, password))) as MetaSyncReply;
    if (reply.outcome === 'ok') {
      this.#master = reply;
      return;
    }
    this.#socket.destroy();
    if (reply.outcome === 'taken') await sleep(timings.takenMs, signal);
    const { ip, port } = this.#node;
    const who = reply.outcome === 'taken' ? ` (as ${ip}:${port}, see --pika-node)` : '';
    throw new Error(`${display} refuses a slave${who}: ${reply.text}`);
  }

  async #ask(
    kind: Response['kind'],
    frame: Buffer,
    timeoutMs = this.#options.timings.replyMs,
  ): Promise<Response> {
    if (this.#trouble !== undefined) throw this.#explained();
    if (this.#question !== undefined) throw new Error('a handshake request is under way already');
    const timer = setTimeout(
      () => this.#fail(new Error(`no reply to ${kind} within ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      return await new Promise<Response>((resolve, reject) => {
        this.#question = { kind, resolve, reject };
        this.#write(frame);
      });
    } finally {
      clearTimeout(timer);
      this.#question = undefined;
    }
  }

  #take(chunk: Buffer): void {
    try {
      for (const frame of this.#frames.push(chunk)) this.#answer(readResponse(frame));
    } catch (error) {
      this.#fail(error);
    }
    this.#flow(this.#wake !== undefined);
    this.poke();
  }

  #answer(response: Response): void {
    if (response.kind === 'binlogSync') for (const item of response.items) this.#receive(item);
    else if (response.kind === this.#question?.kind) this.#question.resolve(response);
  }

  #receive({ db, end, session, bytes }: BinlogSyncItem): void {
    const stream = this.#streams.get(db);
    // Left over from a session that the master has replaced.
    if (stream === undefined || stream.session !== session) return;
    stream.heardMs = performance.now();
    // A ping has no item, and its end is nowhere. So has what the master could not read; it is not counted there.
    if (comparePlaces(end, NOWHERE) === 0 || comparePlaces(end, stream.received) <= 0) return;
    stream.received = end;
    stream.unacknowledged.push(end);
    if (comparePlaces(end, stream.behind) <= 0) return;
    stream.items.push({ end, bytes });
    this.#bufferedBytes += bytes.length + ITEM_OVERHEAD_BYTES;
  }

  #flow(starving: boolean): void {
    const isFull = this.#bufferedBytes >= this.#options.bufferBytesMax;
    if (isFull && !starving) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #tick(): void {
    const { silenceMs } = this.#options.timings;
    for (const { db, session, unacknowledged, heardMs } of this.#streams.values()) {
      this.#write(binlogSync(this.#node, db, { first: NOWHERE, last: NOWHERE, session, begins: false }));
      // While it waits for acknowledgements, or we do not listen, the master has nothing to say.
      if (unacknowledged.length > 0 || this.#socket.isPaused()) continue;
      if (performance.now() - heardMs > silenceMs)
        this.#fail(new Error(`nothing was heard of ${db} for ${silenceMs} ms`));
    }
  }

  #stream(db: string): Stream {
    const stream = this.#streams.get(db);
    if (stream === undefined) throw new Error(`${db} is not attached`);
    return stream;
  }

  #write(frame: Buffer): void {
    if (!this.#socket.destroyed) this.#socket.write(frame);
  }

  #fail(error: unknown): void {
    this.#trouble ??= error;
    clearInterval(this.#timer);
    // An abort leaves the connection for the goodbye.
    if (!(this.#trouble instanceof AbortedError)) this.#socket.destroy();
    this.#question?.reject(this.#explained());
    this.poke();
  }

  #explained(): unknown {
    const error = this.#trouble;
    if (error instanceof AbortedError) return error;
    const why = error instanceof Error ? error.message || error.name : String(error);
    return new Error(`replication connection to ${this.#options.display}: ${why}`, { cause: error });
  }
}

function connected(options: LinkOptions, signal: AbortSignal): Promise<Socket> {
  const { host, port, display, timings } = options;
  return new Promise((resolve, reject) => {
    const at = port + REPLICATION_PORT_OFFSET;
    const socket = connect({ host, port: at, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS });
    const end = (error?: Error) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      socket.removeAllListeners();
      if (error === undefined) return resolve(socket.setNoDelay());
      socket.on('error', () => {}).destroy();
      reject(error);
    };
    const refused = (why: string) => end(new Error(`replication port ${at} of ${display}: ${why}`));
    const abort = () => end(new AbortedError());
    const timer = setTimeout(() => refused('connecting took too long'), timings.replyMs);
    signal.addEventListener('abort', abort, { once: true });
    socket.once('connect', () => end());
    socket.once('error', (error) => refused(error.message));
  });
}

/** The address and port of our end: unique among all slaves of a master that we reach without address translation. */
function nodeOf(socket: Socket): Node {
  const ip = (socket.localAddress ?? '127.0.0.1').replace(/^::ffff:/, '');
  // Pika splits at the first colon.
  return { ip: ip.includes(':') ? '0.0.0.0' : ip, port: socket.localPort ?? 0 };
}
