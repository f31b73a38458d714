import { Redis } from 'ioredis';

/** A client that asks a Pika nothing of itself. Its errors are those of its calls. */
export function pikaClient(port: number, db = 0): Redis {
  const client = new Redis({
    host: '127.0.0.1',
    port,
    db,
    protocol: 2,
    enableReadyCheck: false,
    disableClientInfo: true,
  });
  client.on('error', () => {});
  return client;
}
