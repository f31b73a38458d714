import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { RespScanner } from '../../src/binlog/resp.ts';
import { REPLICATION_PORT_OFFSET } from '../../src/sources/pika/link.ts';

// Below the ephemeral ranges, like the real servers of the tests, and room for the second port.
const PORT_MIN = 10_000;
const PORT_MAX = 13_999;
const ATTEMPTS_MAX = 50;

/** Two servers on ports as a Pika has them; by default on any that are free. */
export async function listenOnPair(
  make: () => readonly [Server, Server],
  port?: number,
): Promise<{ readonly port: number; readonly servers: readonly [Server, Server] }> {
  for (let attempt = 1; ; attempt++) {
    const first = port ?? PORT_MIN + Math.floor(Math.random() * (PORT_MAX - PORT_MIN + 1));
    const servers = make();
    try {
      for (const [i, server] of servers.entries()) {
        server.listen(first + i * REPLICATION_PORT_OFFSET, '127.0.0.1');
        await once(server, 'listening');
      }
      return { port: first, servers };
    } catch (error) {
      for (const server of servers) server.close();
      if (attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

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
    const made = await listenOnPair(
      () => [createServer(handlers.client), createServer(handlers.slave)],
      port,
    );
    return new PikaPorts(made.port, made.servers);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = this.#servers.map((server) => new Promise((resolve) => server.close(resolve)));
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(closed);
  }
}

/** Calls `take` with each whole command of a client and writes what it returns: in order, and reads that follow each other at once. */
export function serveClient(
  socket: Socket,
  take: (args: readonly Buffer[]) => Promise<Buffer>,
  isRead: (args: readonly Buffer[]) => boolean = () => false,
): void {
  let held = Buffer.alloc(0);
  let last: Promise<void> = Promise.resolve();
  const scanner = new RespScanner();
  const answer = (args: readonly Buffer[]) =>
    take(args).catch((error: Error) => Buffer.from(`-${error.message}\r\n`));
  const run = (group: readonly (readonly Buffer[])[]) => {
    last = last.then(async () => {
      const replies = await Promise.all(group.map(answer));
      socket.write(Buffer.concat(replies));
    });
  };
  socket.on('data', (chunk) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    scanner.reset(held);
    let end = 0;
    let reads: (readonly Buffer[])[] = [];
    try {
      while (scanner.next()) {
        end = scanner.end;
        const args = scanner.args().map((arg) => Buffer.from(arg));
        if (isRead(args)) reads.push(args);
        else {
          if (reads.length > 0) run(reads);
          reads = [];
          run([args]);
        }
      }
    } catch {
      // The rest of a command comes with the next chunk.
    }
    if (reads.length > 0) run(reads);
    held = held.subarray(end);
  });
}

export function encodeReply(reply: unknown): Buffer {
  if (reply === null || reply === undefined) return Buffer.from('$-1\r\n');
  if (typeof reply === 'number') return Buffer.from(`:${reply}\r\n`);
  if (reply instanceof Error) return Buffer.from(`-${reply.message}\r\n`);
  if (Array.isArray(reply))
    return Buffer.concat([Buffer.from(`*${reply.length}\r\n`), ...reply.map(encodeReply)]);
  const bytes = Buffer.isBuffer(reply) ? reply : Buffer.from(String(reply));
  return Buffer.concat([Buffer.from(`$${bytes.length}\r\n`), bytes, Buffer.from('\r\n')]);
}
