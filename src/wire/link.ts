import { type CallOptions, type Connection, ConnectionLost } from './connection.ts';
import { type Argument, encodeParts } from './encode.ts';
import { type Reply, ReplyError } from './replies.ts';

/**
 * A raw connection for steps that may be repeated: opened by the first call, and by the first one after it was lost.
 * A call is sent once; whether to try again is the caller's business.
 */
export class Link {
  readonly #open: () => Promise<Connection>;
  #connection: Promise<Connection> | undefined;
  #closed = false;

  constructor(open: () => Promise<Connection>) {
    this.#open = open;
  }

  /**
   * Large arguments are not copied: they must not change before the promise settles.
   * @throws ReplyError, also for what the server refuses; ConnectionLost
   */
  async call(args: readonly Argument[], options: CallOptions = {}): Promise<Reply> {
    const connection = await this.connection();
    const [reply] = await connection.callEncoded(encodeParts([args]), 1, options);
    if (!(reply instanceof ReplyError)) return reply ?? null;
    // Behind a failover the address belongs to another server.
    if (reply.code === 'READONLY') connection.close();
    throw reply;
  }

  /** The one that the next call uses: what must not be spread over two of them is sent through it. @throws ConnectionLost */
  async connection(): Promise<Connection> {
    if (this.#closed) throw new ConnectionLost('the link is closed', { sent: false });
    const known = await this.#connection?.catch(() => undefined);
    if (known && !known.closed) return known;
    this.#connection = this.#open().catch((error: unknown) => {
      if (error instanceof ReplyError) throw new ConnectionLost(error.message, { sent: false, cause: error });
      throw error;
    });
    const connection = await this.#connection;
    if (this.#closed) connection.close();
    return connection;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** What is under way is rejected; later calls are refused. */
  close(): void {
    this.#closed = true;
    this.#connection?.then((connection) => connection.close()).catch(() => {});
  }
}
