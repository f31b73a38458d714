import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { findQueueBinary } from '../roles/queue-binary.ts';
import { sleep } from '../runtime/backoff.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { StopError } from '../runtime/errors.ts';
import type { Child, Children } from './children.ts';

const HOST = '127.0.0.1';
const LAUNCH_ATTEMPTS_MAX = 8;
const READY_MS_MAX = 15_000;
const POLL_MS = 10;

/** As in production: only the queue holds what cannot be had again. */
const SERVERS = {
  source: ['--appendonly', 'no'],
  queue: ['--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction'],
  target: ['--appendonly', 'no'],
  naive: ['--appendonly', 'no'],
  reference: ['--appendonly', 'no'],
} as const;

export type DemoServers = Readonly<Record<keyof typeof SERVERS, Endpoint>>;

/** Starts the five servers of the demo on loopback. They end with `children`. */
export async function startServers(children: Children, signal: AbortSignal): Promise<DemoServers> {
  const binary = await findQueueBinary(process.env);
  const names = Object.keys(SERVERS) as (keyof typeof SERVERS)[];
  const started = await Promise.all(
    names.map(async (name) => [name, await start(children, binary, name, signal)] as const),
  );
  return Object.fromEntries(started) as DemoServers;
}

/** A client that never reconnects: a server that goes away in the middle of a comparison is a failure. */
export function connect({ host, port }: Endpoint, db = 0): Redis {
  const redis = new Redis({ host, port, db, protocol: 2, retryStrategy: () => null });
  redis.on('error', () => {});
  return redis;
}

async function start(
  children: Children,
  binary: string,
  name: keyof typeof SERVERS,
  signal: AbortSignal,
): Promise<Endpoint> {
  const dir = join(children.dir, name);
  mkdirSync(dir);
  for (let attempt = 1; ; attempt++) {
    const port = await freePort();
    const common = ['--port', String(port), '--bind', HOST, '--dir', dir, '--save', '', '--daemonize', 'no'];
    const args = [...common, ...SERVERS[name]];
    const child = children.spawn(name, binary, args, { PATH: process.env.PATH });
    if (await becomesReady(child, port, signal)) return endpointOf(port);
    const { logTail } = child;
    // Somebody may take the port between the probe and the server's bind.
    if (/address already in use/i.test(logTail) && attempt < LAUNCH_ATTEMPTS_MAX) continue;
    throw new StopError('SERVER_NOT_STARTED', `${binary} did not start; its output ends with:\n${logTail}`, {
      hint: `try it by hand: ${binary} --port 0`,
    });
  }
}

async function becomesReady(child: Child, port: number, signal: AbortSignal): Promise<boolean> {
  const redis = new Redis({
    host: HOST,
    port,
    protocol: 2,
    maxRetriesPerRequest: null,
    retryStrategy: () => POLL_MS,
  });
  redis.on('error', () => {});
  const decided = new AbortController();
  try {
    // The port may be answered by somebody else's server.
    const answer = redis.info('server').then((text) => text.includes(`process_id:${child.pid}\r\n`));
    answer.catch(() => {});
    const gone = child.exited.then(() => false);
    const late = sleep(READY_MS_MAX, AbortSignal.any([signal, decided.signal])).then(() => false);
    return await Promise.race([answer, gone, late]);
  } finally {
    decided.abort();
    redis.disconnect();
  }
}

function endpointOf(port: number): Endpoint {
  return {
    host: HOST,
    port,
    username: undefined,
    password: undefined,
    db: 0,
    tls: undefined,
    display: `redis://${HOST}:${port}`,
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, HOST, () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolve(port));
    });
  });
}
