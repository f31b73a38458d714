// One TCP connection to a Redis-protocol server: the session that a WATCH belongs to.
//
// It never reconnects and never sends anything twice. Whatever breaks it (the server, the network, a timeout, bytes that
// are not a reply) ends it for good: everything pending is rejected with ConnectionLost, and only the checkpoints can
// tell what was applied. A client that re-sends MULTI..EXEC without its WATCH applies a batch twice.
//
// Calls need not wait for each other. What is issued in one turn of the event loop leaves in one writev, and replies are
// matched in order, so that a chunk's EXEC and the next chunk's WATCH, GET and MULTI share a round trip. Memory is
// bounded by the callers: nothing here limits how much they issue before they await.

import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError } from '../runtime/errors.ts';
import type { Arena } from './arena.ts';
import { type Argument, encodeCommands } from './encode.ts';
import { type BatchOutcome, type LeaveOut, type Reply, ReplyError } from './replies.ts';
import { type Expectation, ReplyReader } from './reply-reader.ts';

const KEEP_ALIVE_DELAY_MS = 10_000;
const REPLY_BYTES_MAX = 64 * 1024 * 1024;
const EXEC = Buffer.from('*1\r\n$4\r\nEXEC\r\n');
/** So much is copied together: one write of it costs less than a list of its parts. */
const COPY_BYTES_MAX = 16 * 1024;
/** Larger parts leave piece by piece. */
const PIECE_BYTES = 1024 * 1024;
/** How often is looked whether the first of several calls is another one by now. */
const LOOK_MS = 1_000;
const ignore = () => {};
/** What any plain socket of this process has just read. The reader keeps no part of it, and nothing awaits in between. */
const received = Buffer.allocUnsafeSlow(256 * 1024);

export interface ConnectionOptions {
  /** Shown by CLIENT LIST; a server that does not know CLIENT SETNAME is not asked twice. */
  readonly name?: string | undefined;
  /** For the whole opening: TCP, TLS, AUTH and SELECT. */
  readonly connectTimeoutMs: number;
  /** How long nothing may arrive, or leave, while a reply is due: a large value may take longer than that. */
  readonly replyTimeoutMs: number;
  /** Of a reply that is read as a value; larger ones end the connection. 64 MiB if not given. */
  readonly maxReplyBytes?: number | undefined;
  /** Ends the opening, not the open connection. */
  readonly signal?: AbortSignal | undefined;
}

export interface CallOptions {
  readonly timeoutMs?: number | undefined;
  /** Where the values of the reply are put; memory of their own without. */
  readonly arena?: Arena | undefined;
  readonly leaveOut?: LeaveOut | undefined;
}

/** The connection is gone, or was before the call. */
export class ConnectionLost extends Error {
  override readonly name = 'ConnectionLost';
  /** False only if no byte of the call can have reached the server; true means that the outcome is unknown. */
  readonly sent: boolean;

  constructor(message: string, options: { sent: boolean; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.sent = options.sent;
  }
}

type Pending = Expectation & {
  readonly reject: (error: Error) => void;
  deadline: number;
  readonly timeoutMs: number;
  /** The turn of the write that carries it. */
  readonly turn: number;
};

export class Connection {
  readonly #endpoint: Endpoint;
  readonly #socket: Socket;
  readonly #reader: ReplyReader;
  readonly #replyTimeoutMs: number;
  readonly #pending: Pending[] = [];
  readonly #flushNow = () => this.#flush();
  #outgoing: Buffer[] = [];
  #turn = 0;
  #timer: NodeJS.Timeout | undefined;
  #timerDue = Infinity;
  /** When bytes arrived last, or a piece of a large request had left. */
  #movedAtMs = 0;
  #sendingLarge = false;
  #closed = false;
  #closeReason: Error | undefined;

  private constructor(endpoint: Endpoint, socket: Socket, options: ConnectionOptions) {
    this.#endpoint = endpoint;
    this.#socket = socket;
    this.#reader = new ReplyReader(options.maxReplyBytes ?? REPLY_BYTES_MAX);
    this.#replyTimeoutMs = options.replyTimeoutMs;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, KEEP_ALIVE_DELAY_MS);
    socket.on('error', (error) => this.#lose(`lost: ${codeOf(error)}`, error));
    socket.on('close', () => this.#lose('closed by the server'));
  }

  /**
   * Connects, authenticates and selects `endpoint.db`.
   * @throws ConnectionLost; ReplyError with the server's code (`WRONGPASS`, `NOAUTH`, `LOADING`); AbortedError
   */
  static async open(endpoint: Endpoint, options: ConnectionOptions): Promise<Connection> {
    const stopped = () => options.signal?.aborted ?? false;
    if (stopped()) throw new AbortedError('connecting was stopped');
    const inbox: Inbox = { onBytes: () => {} };
    const { socket, deadline } = await connected(endpoint, options, inbox);
    const connection = new Connection(endpoint, socket, options);
    inbox.onBytes = (bytes) => connection.#onBytes(bytes);
    const onAbort = () => connection.#lose('opening was stopped');
    options.signal?.addEventListener('abort', onAbort);
    try {
      await connection.#greet(options.name, Math.max(1, deadline - performance.now()));
      return connection;
    } catch (error) {
      connection.close();
      throw stopped() ? new AbortedError('connecting was stopped') : error;
    } finally {
      options.signal?.removeEventListener('abort', onAbort);
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Why the connection ended; undefined while it is open and after `close()`. */
  get closeReason(): Error | undefined {
    return this.#closeReason;
  }

  /** Error replies are values. Rejects with ConnectionLost only. */
  call(args: readonly Argument[], options: CallOptions = {}): Promise<Reply> {
    const reply = this.callEncoded([encodeCommands([args])], 1, options).then(
      (replies) => replies[0] ?? null,
    );
    reply.catch(ignore);
    return reply;
  }

  /** One reply for each command, in order. */
  callMany(commands: readonly (readonly Argument[])[], options: CallOptions = {}): Promise<Reply[]> {
    return this.callEncoded([encodeCommands(commands)], commands.length, options);
  }

  /** Sends `parts`, which hold exactly `count` encoded commands and must not change before the promise settles. */
  callEncoded(parts: readonly Buffer[], count: number, options: CallOptions = {}): Promise<Reply[]> {
    if (count === 0) return Promise.resolve([]);
    return this.#issue('replies', parts, count, options);
  }

  /**
   * Sends `parts`, which hold exactly `commands` encoded commands for a MULTI that is already open, and EXEC. The parts
   * must not change before the promise settles.
   */
  execBatch(parts: readonly Buffer[], commands: number, options: CallOptions = {}): Promise<BatchOutcome> {
    assert(commands >= 0 && Number.isInteger(commands));
    return this.#issue('batch', [...parts, EXEC], commands, options);
  }

  /** Idempotent. What is pending is rejected. */
  close(): void {
    this.#end('closed on this side', undefined);
  }

  #issue<T>(
    kind: Expectation['kind'],
    parts: readonly Buffer[],
    count: number,
    { arena, leaveOut, timeoutMs = this.#replyTimeoutMs }: CallOptions,
  ): Promise<T> {
    const promise = new Promise<T>((resolve, reject) => {
      if (this.#closed) {
        reject(this.#lost('is closed', false, this.#closeReason));
        return;
      }
      const deadline = performance.now() + timeoutMs;
      // One shape for all kinds of calls: with two, this line alone took a tenth of a busy worker's time.
      const pending = {
        kind,
        count,
        resolve,
        arena,
        leaveOut,
        reject,
        deadline,
        timeoutMs,
        turn: this.#turn,
      };
      this.#pending.push(pending as Pending);
      this.#watchDeadline(deadline);
      if (this.#outgoing.length === 0 && !this.#sendingLarge) process.nextTick(this.#flushNow);
      for (const part of parts) this.#outgoing.push(part);
    });
    // A lost connection rejects every pending call at once; a caller that stops at the first one it awaits must not
    // bring the process down with an unhandled rejection of the others.
    promise.catch(ignore);
    return promise;
  }

  #flush(): void {
    if (this.#closed) return;
    this.#turn++;
    const parts = this.#outgoing;
    this.#outgoing = [];
    let bytes = 0;
    let largest = 0;
    for (const { length } of parts) {
      bytes += length;
      largest = Math.max(largest, length);
    }
    if (largest > PIECE_BYTES) {
      void this.#sendPieces(parts);
      return;
    }
    if (bytes <= COPY_BYTES_MAX) {
      this.#socket.write(parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, bytes));
      return;
    }
    this.#socket.cork();
    for (const part of parts) this.#socket.write(part);
    this.#socket.uncork();
  }

  /** One write of all of it would not show that it moves. What is issued meanwhile leaves behind it. */
  async #sendPieces(parts: readonly Buffer[]): Promise<void> {
    this.#sendingLarge = true;
    for (const part of parts) {
      for (let at = 0; at < part.length && !this.#closed; at += PIECE_BYTES) {
        const piece = part.subarray(at, at + PIECE_BYTES);
        await new Promise<void>((resolve) => this.#socket.write(piece, () => resolve()));
        this.#movedAtMs = performance.now();
      }
    }
    this.#sendingLarge = false;
    if (this.#outgoing.length > 0) this.#flush();
  }

  #onBytes(bytes: Buffer): void {
    if (this.#closed) return;
    this.#movedAtMs = performance.now();
    try {
      this.#reader.feed(bytes, this.#pending);
    } catch (error) {
      this.#lose(`sent what cannot be read: ${(error as Error).message}`, error);
    }
  }

  // One timer serves all calls: it is moved only for a deadline that comes before the one it waits for.
  #watchDeadline(deadline: number): void {
    if (deadline >= this.#timerDue) return;
    clearTimeout(this.#timer);
    this.#timerDue = deadline;
    // After this process was held up itself, replies may be waiting in the socket: they are read before the verdict.
    this.#timer = setTimeout(
      () => setImmediate(() => this.#onTimer()),
      Math.max(1, deadline - performance.now()),
    );
  }

  #onTimer(): void {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    this.#timerDue = Infinity;
    const now = performance.now();
    // Nothing behind it can be answered before it is: a fence that waits for a flush of a minute is not late.
    const [first] = this.#pending;
    if (first === undefined) return;
    if (first.deadline <= now) first.deadline = Math.max(first.deadline, this.#movedAtMs + first.timeoutMs);
    if (first.deadline <= now) this.#lose('did not reply in time');
    else
      this.#watchDeadline(
        this.#pending.length > 1 ? Math.min(first.deadline, now + LOOK_MS) : first.deadline,
      );
  }

  #lose(how: string, cause?: unknown): void {
    if (!this.#closed) this.#end(how, this.#lost(how, true, cause));
  }

  #end(how: string, reason: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeReason = reason;
    clearTimeout(this.#timer);
    this.#socket.destroy();
    this.#outgoing = [];
    this.#reader.end(this.#pending);
    for (const pending of this.#pending.splice(0)) {
      pending.reject(this.#lost(how, pending.turn < this.#turn, reason?.cause));
    }
  }

  #lost(how: string, sent: boolean, cause: unknown): ConnectionLost {
    return new ConnectionLost(`${this.#endpoint.display} ${how}`, { sent, cause });
  }

  async #greet(name: string | undefined, timeoutMs: number): Promise<void> {
    const { username, password, db, display } = this.#endpoint;
    const auth =
      password === undefined ? [] : [['AUTH', ...(username === undefined ? [] : [username]), password]];
    const setName = name === undefined ? [] : [['CLIENT', 'SETNAME', name]];
    const replies = await this.callMany([...auth, ['SELECT', db], ...setName], { timeoutMs });
    if (auth.length > 0) {
      const reply = replies.shift();
      if (reply instanceof ReplyError) throw refusedCredentials(display, reply);
    }
    const selected = replies.shift();
    if (selected instanceof ReplyError)
      throw new ReplyError(`${selected.message} (SELECT ${db} at ${display})`);
  }
}

/** A server may quote the arguments of a command that it refuses, cut to any length: of AUTH only the code is repeated. */
function refusedCredentials(display: string, reply: ReplyError): ReplyError {
  const code = /^[A-Z]{1,32}$/.test(reply.code) ? reply.code : 'ERR';
  const why = reply.message.includes('without any password configured')
    ? 'it has no password configured'
    : 'AUTH failed';
  return new ReplyError(`${code} ${display} refused the credentials: ${why}`);
}

/** Takes what the socket reads; the bytes are good until it returns. */
interface Inbox {
  onBytes: (bytes: Buffer) => void;
}

/** Plain sockets read into one buffer of the process; TLS hands over its own. */
function dial({ host, port, tls }: Endpoint, inbox: Inbox): Socket {
  if (tls === undefined) {
    const callback = (length: number) => {
      inbox.onBytes(received.subarray(0, length));
      return true;
    };
    return connect({ host, port, onread: { buffer: received, callback } });
  }
  const socket = connectTls({ ...tls, host, port });
  socket.on('data', (bytes) => inbox.onBytes(bytes));
  return socket;
}

function connected(
  endpoint: Endpoint,
  options: ConnectionOptions,
  inbox: Inbox,
): Promise<{ socket: Socket; deadline: number }> {
  const { tls, display } = endpoint;
  const deadline = performance.now() + options.connectTimeoutMs;
  return new Promise((resolve, reject) => {
    const socket = dial(endpoint, inbox);
    const settle = () => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      socket.removeListener('error', onError);
    };
    const fail = (error: Error) => {
      settle();
      // A refused address of a host with several may report its error after this.
      socket.on('error', () => {});
      socket.destroy();
      reject(error);
    };
    const onError = (cause: Error) =>
      fail(new ConnectionLost(`cannot connect to ${display}: ${codeOf(cause)}`, { sent: false, cause }));
    const onAbort = () => fail(new AbortedError('connecting was stopped'));
    const timer = setTimeout(
      () => fail(new ConnectionLost(`cannot connect to ${display}: no answer in time`, { sent: false })),
      options.connectTimeoutMs,
    );
    socket.on('error', onError);
    options.signal?.addEventListener('abort', onAbort);
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
      settle();
      resolve({ socket, deadline });
    });
  });
}

function codeOf(error: Error): string {
  const { code, reason } = error as NodeJS.ErrnoException & { readonly reason?: string };
  // What TLS complains of has a code that says less than its text.
  if (code === undefined || !/^(E[A-Z]+|EAI_\w+)$/.test(code) || code === 'EPROTO')
    return reason ?? error.message;
  return code;
}
