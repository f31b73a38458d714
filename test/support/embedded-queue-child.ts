// Forked by embedded-queue.test.ts: starts the embedded queue of argv[2], says so, and then does nothing but live.
import { pino } from 'pino';
import { EmbeddedQueue } from '../../src/roles/embedded-queue.ts';
import { StopError } from '../../src/runtime/errors.ts';

const log = pino({ level: 'silent' });
process.on('SIGINT', () => process.send?.({ event: 'interrupted' }));
try {
  const queue = await EmbeddedQueue.start({ dataDir: process.argv[2] ?? '', log });
  process.on('message', () => {
    void queue.stop().then(() => process.disconnect());
  });
  process.send?.({ event: 'started', adopted: queue.adopted, port: queue.endpoint.port });
} catch (error) {
  process.send?.({ event: 'failed', code: error instanceof StopError ? error.code : String(error) }, () =>
    process.exit(1),
  );
}
