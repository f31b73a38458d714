import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';

/** A real server on a Unix socket of its own: no port to collide on. */
export interface SpawnedRedis extends AsyncDisposable {
  readonly client: Redis;
}

export async function spawnRedis(options: readonly string[] = []): Promise<SpawnedRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'lanegate-binlog-'));
  const socket = join(folder, 'redis.sock');
  const server = spawn(
    'redis-server',
    ['--port', '0', '--unixsocket', socket, '--save', '', '--dir', folder, ...options],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  await ready(server);
  const client = new Redis({ path: socket, maxRetriesPerRequest: 1 });
  return {
    client,
    async [Symbol.asyncDispose]() {
      client.disconnect();
      if (server.exitCode === null && server.kill()) await once(server, 'exit');
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function ready(server: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let log = '';
    server.stdout?.on('data', (chunk) => {
      log += String(chunk);
      if (log.includes('eady to accept connections')) resolve();
    });
    server.once('error', reject);
    server.once('exit', () => reject(new Error(`redis-server ended early:\n${log}`)));
  });
}
