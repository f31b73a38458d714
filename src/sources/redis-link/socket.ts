import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { encodeCommand } from '../../binlog/resp.ts';
import type { Endpoint } from '../../runtime/endpoint.ts';
import { AbortedError } from '../../runtime/errors.ts';

const CONNECT_MS_MAX = 10_000;
const KEEPALIVE_MS = 15_000;
const LINE_BYTES_MAX = 64 * 1024;
const LF = 10;
const CR = 13;

/** What the source answered instead of doing what it was asked. Its first word is the code. */
export class SourceRefused extends Error {
  override readonly name = 'ReplyError';
  readonly code: string;

  constructor(reply: string) {
    super(reply);
    this.code = /^[A-Z]+/.exec(reply)?.[0] ?? 'ERR';
  }
}

export interface LinkSocketOptions {
  readonly endpoint: Endpoint;
  /** Silence after which the connection is given up; only what is waited for counts. */
  readonly silenceMsMax: number;
  readonly signal: AbortSignal;
}

/** One connection, read when asked: what nobody reads stays with the source. */
export class LinkSocket {
  readonly #socket: Socket;
  readonly #display: string;
  readonly #chunks: AsyncIterator<Buffer>;
  readonly #silenceMsMax: number;
  readonly #timer: NodeJS.Timeout;
  readonly #signal: AbortSignal;
  readonly #abort = () => this.close();
  /** Read from the socket and not given out yet. */
  #rest: Buffer | undefined;
  #waitsSinceMs: number | undefined;
  #trouble: Error | undefined;

  private constructor(socket: Socket, options: LinkSocketOptions) {
    this.#socket = socket;
    this.#display = options.endpoint.display;
    this.#silenceMsMax = options.silenceMsMax;
    this.#signal = options.signal;
    this.#chunks = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    socket.on('error', (error) => {
      this.#trouble ??= error;
    });
    this.#timer = setInterval(() => this.#listen(), Math.min(1_000, options.silenceMsMax / 4));
    this.#timer.unref();
    options.signal.addEventListener('abort', this.#abort, { once: true });
  }

  static async open(options: LinkSocketOptions): Promise<LinkSocket> {
    const { endpoint, signal } = options;
    if (signal.aborted) throw new AbortedError('connecting was stopped');
    const { host, port, tls } = endpoint;
    const socket = tls === undefined ? connectTcp({ host, port }) : connectTls({ ...tls, host, port });
    const abort = () => socket.destroy(new AbortedError('connecting was stopped'));
    signal.addEventListener('abort', abort, { once: true });
    try {
      await new Promise<void>((resolve, reject) => {
        socket.setTimeout(CONNECT_MS_MAX, () => socket.destroy(new Error('connecting took too long')));
        socket.once(tls === undefined ? 'connect' : 'secureConnect', resolve);
        socket.once('error', reject);
        socket.once('close', () => reject(new Error('closed while connecting')));
      });
    } catch (cause) {
      socket.on('error', () => {});
      socket.destroy();
      if (signal.aborted) throw new AbortedError('connecting was stopped');
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new Error(`connection to ${endpoint.display}: ${why}`, { cause });
    } finally {
      signal.removeEventListener('abort', abort);
    }
    socket.setTimeout(0);
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEPALIVE_MS);
    socket.removeAllListeners('close');
    return new LinkSocket(socket, options);
  }

  send(args: readonly (Buffer | string | number)[]): void {
    if (!this.#socket.destroyed) this.#socket.write(encodeCommand(args));
  }

  /** The next bytes, as many as there are. */
  async read(): Promise<Buffer> {
    const rest = this.#rest;
    if (rest !== undefined) {
      this.#rest = undefined;
      return rest;
    }
    this.#waitsSinceMs = Date.now();
    try {
      const { value, done } = await this.#chunks.next();
      if (done !== true) return value;
    } catch (cause) {
      this.#trouble ??= cause as Error;
    } finally {
      this.#waitsSinceMs = undefined;
    }
    if (this.#signal.aborted) throw new AbortedError('the link was closed');
    const why = this.#trouble?.message ?? 'closed by the source';
    throw new Error(`connection to ${this.#display}: ${why}`, { cause: this.#trouble });
  }

  /** What was read too far. */
  unread(bytes: Buffer): void {
    if (bytes.length > 0) this.#rest = bytes;
  }

  /** The next line that is not empty, without its end: a source sends empty ones to show that it lives. */
  async readLine(): Promise<string> {
    let line = Buffer.alloc(0);
    for (;;) {
      const bytes = await this.read();
      const end = bytes.indexOf(LF);
      line = Buffer.concat([line, end < 0 ? bytes : bytes.subarray(0, end)]);
      if (line.length > LINE_BYTES_MAX)
        throw new Error(`the source ${this.#display} sent a line of more than ${LINE_BYTES_MAX} bytes`);
      if (end < 0) continue;
      this.unread(bytes.subarray(end + 1));
      if (line.at(-1) === CR) line = line.subarray(0, -1);
      if (line.length > 0) return line.toString('latin1');
    }
  }

  /** @throws SourceRefused */
  async call(args: readonly (string | number)[]): Promise<string> {
    this.send(args);
    const reply = await this.readLine();
    if (reply.startsWith('-')) throw new SourceRefused(reply.slice(1));
    return reply;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#signal.removeEventListener('abort', this.#abort);
    this.#socket.destroy();
  }

  #listen(): void {
    const since = this.#waitsSinceMs;
    if (since === undefined || Date.now() - since < this.#silenceMsMax) return;
    this.#trouble ??= new Error(`nothing heard for ${this.#silenceMsMax / 1_000} s`);
    this.#socket.destroy(this.#trouble);
  }
}
