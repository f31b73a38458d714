import { connect, createServer, type Server, type Socket } from 'node:net';
import { REPLICATION_PORT_OFFSET } from '../../src/sources/pika/link.ts';
import { listenOnPair } from './pika-ports.ts';

// After the last reply byte: a server reads a long request in pieces and answers piece by piece, so the first reply byte
// alone does not mean that the whole request was executed.
const EXECUTED_SILENCE_MS = 30;

export type Side = 'request' | 'reply';
export type CutMoment = 'before-forward' | 'inside' | 'after-forward' | 'after-execution';

interface Armed {
  readonly pattern: Buffer;
  readonly side: Side;
  readonly moment: CutMoment;
}

interface Link {
  readonly client: Socket;
  readonly server: Socket;
  readonly requests: Flow;
  readonly replies: Flow;
  awaitingExecution: boolean;
  /** Half-open: nothing passes any more. */
  dead: boolean;
  silence: NodeJS.Timeout | undefined;
}

/** One direction of a link, in order, with the delay and the packet size that hold when a chunk is pushed. */
class Flow {
  readonly #to: Socket;
  readonly #queue: { readonly bytes: Buffer; readonly due: number; readonly slice: number }[] = [];
  #pumping = false;
  #ending = false;
  /** The end of what was seen, so that a pattern split over two chunks is found. */
  tail: Buffer = Buffer.alloc(0);

  constructor(to: Socket) {
    this.#to = to;
  }

  push(bytes: Buffer, slice: number, latencyMs: number): void {
    if (!this.#pumping && slice === 0 && latencyMs === 0) {
      this.#to.write(bytes);
      return;
    }
    this.#queue.push({ bytes, due: performance.now() + latencyMs, slice });
    void this.#pump();
  }

  end(): void {
    this.#ending = true;
    if (!this.#pumping) this.#to.end();
  }

  async #pump(): Promise<void> {
    if (this.#pumping) return;
    this.#pumping = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      const waitMs = next.due - performance.now();
      if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
      const step = next.slice === 0 ? next.bytes.length : next.slice;
      for (let at = 0; at < next.bytes.length && !this.#to.destroyed; at += step) {
        this.#to.write(next.bytes.subarray(at, at + step));
        // A turn of the event loop lets a receiver in this process read the packet before the next one is sent.
        if (next.slice !== 0) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    this.#pumping = false;
    if (this.#ending) this.#to.end();
  }
}

/** A TCP proxy in front of a server that breaks connections at named points. */
export class FaultyProxy implements AsyncDisposable {
  readonly port: number;
  readonly #listeners: readonly Server[];
  #targetPort: number;
  readonly #links = new Set<Link>();
  #armed: Armed | undefined;
  #muted = false;
  #refusing = false;
  #slice = 0;
  #latencyMs = 0;
  #accepted = 0;
  #cuts = 0;
  #waiters: (() => void)[] = [];

  private constructor(port: number, listeners: readonly Server[], targetPort: number) {
    this.port = port;
    this.#listeners = listeners;
    this.#targetPort = targetPort;
    for (const [at, listener] of listeners.entries())
      listener.on('connection', (client) => this.#accept(client, at * REPLICATION_PORT_OFFSET));
  }

  static async start(targetPort: number): Promise<FaultyProxy> {
    const listener = listening();
    await new Promise<void>((resolve, reject) => {
      listener.once('error', reject);
      listener.listen(0, '127.0.0.1', resolve);
    });
    const address = listener.address();
    if (address === null || typeof address === 'string') throw new Error('the proxy does not listen');
    return new FaultyProxy(address.port, [listener], targetPort);
  }

  /** Before both ports of a Pika. */
  static async startPair(targetPort: number): Promise<FaultyProxy> {
    const { port, servers } = await listenOnPair(() => [listening(), listening()]);
    return new FaultyProxy(port, servers, targetPort);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Open now. */
  get connections(): number {
    return this.#links.size;
  }

  /** Accepted since the start, open or not. */
  get accepted(): number {
    return this.#accepted;
  }

  /** How often an armed cut has fired. */
  get cuts(): number {
    return this.#cuts;
  }

  /**
   * Arms one cut of the first connection that carries `pattern`. `before-forward` drops the chunk that completes the
   * pattern; `inside` delivers what goes up to its end and cuts; `after-forward` delivers it and cuts; `after-execution` delivers a request, lets the server answer, drops
   * the answer and cuts.
   */
  cutAfter(pattern: Buffer | string, side: Side, moment: CutMoment): void {
    this.#armed = { pattern: Buffer.from(pattern), side, moment };
  }

  /** Resolves at the next cut. */
  async nextCut(): Promise<void> {
    await new Promise<void>((resolve) => this.#waiters.push(resolve));
  }

  /** Swallows replies and keeps the sockets open; swallowed replies are lost. */
  mute(): void {
    this.#muted = true;
  }

  unmute(): void {
    this.#muted = false;
  }

  /** Connections that are open now stay open and carry nothing any more, in either direction; new ones are well. */
  halfOpen(): number {
    for (const link of this.#links) link.dead = true;
    return this.#links.size;
  }

  /** Takes back a cut that has not fired. */
  disarm(): void {
    this.#armed = undefined;
  }

  /** Packets of `bytes` in both directions; 0 turns it off. */
  sliceBytes(bytes: number): void {
    this.#slice = bytes;
  }

  /** Delay of every chunk, in each direction. */
  latency(ms: number): void {
    this.#latencyMs = ms;
  }

  /** New connections are accepted and closed at once; open ones stay. */
  refuse(refusing: boolean): void {
    this.#refusing = refusing;
  }

  /** New connections go to another server; open ones stay where they are. */
  retarget(port: number): void {
    this.#targetPort = port;
  }

  cutAll(): void {
    for (const link of this.#links) this.#destroy(link);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutAll();
    await Promise.all(this.#listeners.map((one) => new Promise((resolve) => one.close(resolve))));
  }

  #accept(client: Socket, offset: number): void {
    this.#accepted++;
    if (this.#refusing) {
      client.destroy();
      return;
    }
    const port = this.#targetPort + offset;
    const server = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    const link: Link = {
      client,
      server,
      requests: new Flow(server),
      replies: new Flow(client),
      awaitingExecution: false,
      dead: false,
      silence: undefined,
    };
    this.#links.add(link);
    client.on('data', (bytes) => this.#onBytes(link, 'request', bytes));
    server.on('data', (bytes) => this.#onBytes(link, 'reply', bytes));
    client.on('end', () => link.requests.end());
    server.on('end', () => link.replies.end());
    for (const socket of [client, server]) {
      socket.on('error', () => this.#destroy(link));
      socket.on('close', () => this.#forget(link));
    }
  }

  #onBytes(link: Link, side: Side, bytes: Buffer): void {
    if (link.dead) return;
    if (link.awaitingExecution) {
      if (side === 'reply') this.#cutWhenSilent(link);
      return;
    }
    const flow = side === 'request' ? link.requests : link.replies;
    const armed = this.#armed;
    const end = armed?.side === side ? endOfPattern(flow, armed.pattern, bytes) : -1;
    if (armed && end >= 0) {
      this.#armed = undefined;
      this.#fire(link, armed, armed.moment === 'inside' ? bytes.subarray(0, end) : bytes);
      return;
    }
    if (side === 'reply' && this.#muted) return;
    flow.push(bytes, this.#slice, this.#latencyMs);
  }

  #fire(link: Link, armed: Armed, bytes: Buffer): void {
    const [from, to] = armed.side === 'request' ? [link.client, link.server] : [link.server, link.client];
    if (armed.side === 'request' && armed.moment === 'after-execution') {
      link.awaitingExecution = true;
      to.write(bytes);
    } else if (armed.moment === 'after-forward' || armed.moment === 'inside') {
      // end() and not destroy(): a reset could make the receiver throw the bytes away.
      to.end(bytes);
      from.destroy();
      this.#countCut();
    } else {
      this.#destroy(link);
      this.#countCut();
    }
  }

  #cutWhenSilent(link: Link): void {
    clearTimeout(link.silence);
    link.silence = setTimeout(() => {
      this.#destroy(link);
      this.#countCut();
    }, EXECUTED_SILENCE_MS);
  }

  #countCut(): void {
    this.#cuts++;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  #destroy(link: Link): void {
    clearTimeout(link.silence);
    link.client.destroy();
    link.server.destroy();
    this.#links.delete(link);
  }

  #forget(link: Link): void {
    if (link.client.destroyed && link.server.destroyed) this.#destroy(link);
  }
}

function listening(): Server {
  return createServer({ noDelay: true, allowHalfOpen: true });
}

/** Where in `bytes` the pattern ends that may have begun before; -1 if it does not. */
function endOfPattern(flow: Flow, pattern: Buffer, bytes: Buffer): number {
  const seen = Buffer.concat([flow.tail, bytes]);
  const at = seen.indexOf(pattern);
  const end = at < 0 ? -1 : at + pattern.length - flow.tail.length;
  flow.tail = seen.subarray(Math.max(0, seen.length - pattern.length + 1));
  return end;
}
