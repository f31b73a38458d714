import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { RespScanner } from '../../src/binlog/resp.ts';
import { REPLICATION_PORT_OFFSET } from '../../src/sources/pika/link.ts';

// Below the ephemeral ranges, like the real servers of the tests, and room for the second port.
const PORT_MIN = 10_000;
const PORT_MAX = 13_999;
const ATTEMPTS_MAX = 50;

/** The two ports of a Pika: one for clients, and 2000 above it one for slaves. */
export class PikaPorts implements AsyncDisposable {
  readonly port: number;
  readonly #servers: readonly Server[];
  readonly #sockets = new Set<Socket>();

  private constructor(port: number, servers: readonly Server[]) {
    this.port = port;
    this.#servers = servers;
    for (const server of servers) {
      server.on('connection', (socket) => {
        this.#sockets.add(socket);
        socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket));
      });
    }
  }

  static async open(
    handlers: { client(socket: Socket): void; slave(socket: Socket): void },
    port?: number,
  ): Promise<PikaPorts> {
    for (let attempt = 1; ; attempt++) {
      const first = port ?? PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN + 1));
      const servers = [createServer(handlers.client), createServer(handlers.slave)];
      try {
        for (const [i, server] of servers.entries()) {
          server.listen(first + i * REPLICATION_PORT_OFFSET, '127.0.0.1');
          await once(server, 'listening');
        }
        return new PikaPorts(first, servers);
      } catch (error) {
        for (const server of servers) server.close();
        if (attempt === ATTEMPTS_MAX) throw error;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#servers.map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }
}

/** Calls `take` with each whole command of a client, one after the other, and writes what it returns. */
export function serveClient(socket: Socket, take: (args: readonly Buffer[]) => Promise<Buffer>): void {
  let held = Buffer.alloc(0);
  let last: Promise<void> = Promise.resolve();
  const scanner = new RespScanner();
  socket.on('data', (chunk) => {
    held = Buffer.concat([held, chunk]);
    scanner.reset(held);
    let end = 0;
    try {
      while (scanner.next()) {
        end = scanner.end;
        const args = scanner.args().map((arg) => Buffer.from(arg));
        last = last
          .then(() => take(args))
          .then(
            (reply) => void socket.write(reply),
            (error: Error) => void socket.write(`-${error.message}\r\n`),
          );
      }
    } catch {
      // The rest of a command comes with the next chunk.
    }
    held = held.subarray(end);
  });
}

export function encodeReply(reply: unknown): Buffer {
  if (reply === null || reply === undefined) return Buffer.from('$-1\r\n');
  if (typeof reply === 'number') return Buffer.from(`:${reply}\r\n`);
  if (Array.isArray(reply))
    return Buffer.concat([Buffer.from(`*${reply.length}\r\n`), ...reply.map(encodeReply)]);
  const bytes = Buffer.isBuffer(reply) ? reply : Buffer.from(String(reply));
  return Buffer.concat([Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]);
}
