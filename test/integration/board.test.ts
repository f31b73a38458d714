import { channel } from 'node:diagnostics_channel';
import { request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import { appRoutes } from '@bull-board/api/dist/routes.js';
import { Queue, Worker } from 'bullmq';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Board, type BoardOptions, startBoard } from '../../src/roles/board.ts';
import { type HttpServer, startHealthServer } from '../../src/roles/http.ts';
import { BoardQueues, describeJob } from '../support/board-queues.ts';
import { laneStatus, pipelineStatus, stopped } from '../support/pipeline-status.ts';
import { RedisServer } from '../support/redis-server.ts';

const log = pino({ level: 'silent' });
const USER = 'operator';
const PASSWORD = 'correct horse: battery';
const LOGIN = { authorization: basic(USER, PASSWORD) };
// From Bull Board itself, so that a route which a later version adds is tested too.
const BOARD_WRITES = appRoutes.api
  .flatMap(({ method, route }) =>
    [method].flat().flatMap((verb) => [route].flat().map((path) => [verb.toUpperCase(), path])),
  )
  .filter(([method]) => method !== 'GET')
  .map(
    ([method, path]) =>
      [method, path?.replace(':queueName', 'lane-0').replace(/:\w+/g, '1')] as [string, string],
  );
const WRITES: readonly [method: string, path: string][] = [
  ...BOARD_WRITES,
  ['DELETE', '/'],
  ['POST', '/healthz'],
  ['POST', '/api/status'],
  ['POST', '/no/such/route'],
];

function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
}

/** Every route that a server which `start` makes answers to, as Fastify itself tells of it. */
async function withRoutes<Server>(
  start: () => Promise<Server>,
): Promise<{ server: Server; routes: readonly (readonly [method: string, path: string])[] }> {
  const routes: [string, string][] = [];
  const made = channel('fastify.initialization');
  const listen = (message: unknown) => {
    const { fastify } = message as { fastify: FastifyInstance };
    fastify.addHook('onRoute', ({ method, url }) => {
      for (const verb of [method].flat())
        routes.push([verb, url.replace(':queueName', 'lane-0').replace(/:\w+|\*/g, '1')]);
    });
  };
  made.subscribe(listen);
  try {
    return { server: await start(), routes };
  } finally {
    made.unsubscribe(listen);
  }
}

function scoped<Server extends HttpServer>(server: Server): Server & AsyncDisposable {
  return Object.assign(server, { [Symbol.asyncDispose]: () => server.close() });
}

/** fetch() does not let a caller choose the Host header. */
function statusWithHost(url: string, host: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { headers: { host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.once('error', reject);
    request.end();
  });
}

describe('the board', () => {
  let redis: RedisServer;
  let queues: BoardQueues;

  beforeAll(async () => {
    redis = await RedisServer.start();
    queues = await BoardQueues.create(redis, 2);
  });

  afterAll(async () => {
    await queues[Symbol.asyncDispose]();
    await redis[Symbol.asyncDispose]();
  });

  async function board(changes: Partial<BoardOptions> = {}): Promise<Board & AsyncDisposable> {
    const defaults: BoardOptions = {
      host: '127.0.0.1',
      port: 0,
      write: false,
      queues: queues.all,
      status: async () => pipelineStatus(),
      ready: async () => true,
      describeJob,
      log,
    };
    return scoped(await startBoard({ ...defaults, ...changes }));
  }

  const locked = (changes: Partial<BoardOptions> = {}) =>
    board({ user: USER, password: PASSWORD, ...changes });

  test('shows each queue with the job text that people read, and survives a job that is not ours', async () => {
    await using server = await board();
    const lane = queues.named('lane-1');
    await lane.add('apply', { from: 1200, to: 1890, commands: 87 });
    await lane.add('stranger', { hello: 'world' });
    const response = await fetch(
      `${server.url}/api/queues?activeQueue=lane-1&status=waiting&page=1&jobsPerPage=10`,
    );
    const { queues: shown } = (await response.json()) as { queues: { name: string; jobs: unknown[] }[] };
    expect(shown.map(({ name }) => name)).toEqual(['lane-0', 'lane-1', 'gate', 'ingest']);
    const text = 'lane 1: seq 1200..1890, 87 commands, 11 KiB';
    expect(shown[1]?.jobs).toMatchObject([
      { name: 'stranger', data: { job: 'not a job of lanegate', hello: 'world' } },
      { name: text, data: { job: text, from: 1200, to: 1890 } },
    ]);
    await lane.drain();
  });

  test('takes the time of a finished job from its return value', async () => {
    await using server = await board();
    const lane = queues.named('lane-0');
    const job = await lane.add('apply', { from: 1, to: 9, commands: 9 });
    const worker = new Worker('lane-0', async () => ({ ms: 4 }), {
      prefix: '{lanegate-default}',
      connection: { host: '127.0.0.1', port: redis.port, maxRetriesPerRequest: null },
    });
    await new Promise((resolve) => worker.once('completed', resolve));
    await worker.close();
    const response = await fetch(`${server.url}/api/queues/lane-0/${job.id}`);
    expect(await response.text()).toContain('lane 0: seq 1..9, 9 commands, 11 KiB, 4 ms');
  });

  test('without a password refuses another host than loopback, and refuses to write, with the reason', async () => {
    await expect(board({ host: '0.0.0.0' })).rejects.toThrow(
      /without a password the board listens on loopback only/,
    );
    await expect(board({ host: 'example.org', write: true })).rejects.toMatchObject({
      problems: [expect.stringContaining('loopback only'), expect.stringContaining('needs a password')],
    });
    await expect(board({ user: USER })).rejects.toThrow(/LANEGATE_BOARD_PASSWORD: missing/);
    await expect(board({ password: PASSWORD })).rejects.toThrow(/LANEGATE_BOARD_USER: missing/);
  });

  test('answers on every interface once it has a password', async () => {
    await using server = await locked({ host: '0.0.0.0' });
    expect((await fetch(`http://127.0.0.1:${server.port}/api/status`, { headers: LOGIN })).status).toBe(200);
  });

  test('knows the routes of Bull Board that write', () => {
    expect(BOARD_WRITES.length).toBeGreaterThan(20);
  });

  test.each(WRITES)('read-only: %s %s is answered with 405', async (method, path) => {
    await using server = await board();
    const response = await fetch(server.url + path, {
      method,
      headers: { 'content-type': 'text/plain' },
      body: '{}',
    });
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('GET, HEAD');
  });

  test('no write gets past a missing password, and with the password it still is 405', async () => {
    await using server = await locked();
    const statuses = async (headers: Record<string, string>) =>
      new Set(
        await Promise.all(
          WRITES.map(async ([method, path]) => (await fetch(server.url + path, { method, headers })).status),
        ),
      );
    expect(await statuses({})).toEqual(new Set([401]));
    expect(await statuses(LOGIN)).toEqual(new Set([405]));
  });

  test('every route that Fastify knows of is read-only, and asks for the password', async () => {
    const { server: open, routes } = await withRoutes(() => board());
    await using readOnly = open;
    await using closed = await locked();
    const writes = routes.filter(([method]) => method !== 'GET' && method !== 'HEAD');
    const known = writes.map(([method, path]) => `${method} ${path}`);
    for (const [method, path] of BOARD_WRITES) expect(known).toContain(`${method} ${path}`);
    for (const [method, path] of routes) {
      const status = async (url: string, headers = {}) =>
        (await fetch(url + path, { method, headers })).status;
      const isProbe = path === '/healthz' || path === '/readyz';
      if (!isProbe) expect(await status(closed.url), `${method} ${path}`).toBe(401);
      if (method === 'GET' || method === 'HEAD') continue;
      expect(await status(readOnly.url), `${method} ${path}`).toBe(405);
      expect(await status(closed.url, LOGIN), `${method} ${path}`).toBe(405);
    }
  });

  test('with --board-write and a password an operator pauses a lane, and another site cannot', async () => {
    await using server = await locked({ write: true });
    const pause = (headers: Record<string, string>) =>
      fetch(`${server.url}/api/queues/lane-0/pause`, { method: 'PUT', headers });
    expect((await pause({})).status).toBe(401);
    expect((await pause({ ...LOGIN, origin: 'https://evil.example' })).status).toBe(403);
    expect((await pause({ ...LOGIN, origin: 'null' })).status).toBe(403);
    expect((await pause({ ...LOGIN, 'sec-fetch-site': 'cross-site' })).status).toBe(403);
    expect(await queues.named('lane-0').isPaused()).toBe(false);
    expect((await pause({ ...LOGIN, origin: server.url })).status).toBe(200);
    expect(await queues.named('lane-0').isPaused()).toBe(true);
    await queues.named('lane-0').resume();
  });

  test('a failed job is tried again through the page: 401 without the password, 405 without --board-write', async () => {
    const lane = queues.named('lane-0');
    const job = await lane.add('apply', { from: 1, to: 9 });
    const worker = new Worker(
      'lane-0',
      async () => {
        throw new Error('refused');
      },
      {
        prefix: '{lanegate-default}',
        connection: { host: '127.0.0.1', port: redis.port, maxRetriesPerRequest: null },
      },
    );
    await new Promise((resolve) => worker.once('failed', resolve));
    await worker.close();
    await using readOnly = await locked();
    await using writable = await locked({ write: true });
    const retry = async (url: string, headers: Record<string, string>) => {
      const path = `${url}/api/queues/lane-0/${job.id}/retry`;
      const { status } = await fetch(path, { method: 'PUT', headers });
      return [status, await job.getState()];
    };
    expect(await retry(writable.url, {})).toEqual([401, 'failed']);
    expect(await retry(readOnly.url, LOGIN)).toEqual([405, 'failed']);
    const [status, state] = await retry(writable.url, { ...LOGIN, origin: writable.url });
    expect([[200, 204].includes(Number(status)), state]).toEqual([true, 'waiting']);
    await lane.drain();
  });

  test('asks for the password everywhere but at the probes', async () => {
    await using server = await locked();
    for (const path of [
      '/',
      '/api/queues',
      '/api/status',
      '/metrics',
      '/static/images/logo.svg',
      '/nowhere',
    ]) {
      const response = await fetch(server.url + path);
      expect(response.status, path).toBe(401);
      expect(response.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
    }
    for (const path of ['/', '/api/queues', '/api/status', '/metrics', '/static/images/logo.svg']) {
      expect((await fetch(server.url + path, { headers: LOGIN })).status, path).toBe(200);
    }
    for (const path of ['/healthz', '/readyz'])
      expect((await fetch(server.url + path)).status, path).toBe(200);
  });

  test('ten wrong passwords in a minute close the door for that address, not for the probes', async () => {
    await using server = await locked();
    const guess = async (authorization: string) =>
      (await fetch(`${server.url}/api/status`, { headers: { authorization } })).status;
    const wrong = [
      basic(USER, 'x'),
      basic('x', PASSWORD),
      basic(USER, `${PASSWORD} `),
      'Bearer x',
      'Basic',
      'Basic !!',
    ];
    for (const authorization of wrong) expect(await guess(authorization), authorization).toBe(401);
    expect(await guess(LOGIN.authorization)).toBe(200);
    for (let n = wrong.length; n < 10; n++) expect(await guess(basic(USER, String(n)))).toBe(401);
    const refused = await fetch(`${server.url}/api/status`, { headers: LOGIN });
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
  });

  test('sends the headers that keep the page to itself, also with a refusal', async () => {
    await using open = await board();
    await using closed = await locked();
    for (const url of [`${open.url}/`, `${open.url}/api/status`, `${open.url}/nowhere`, `${closed.url}/`]) {
      const { headers } = await fetch(url);
      expect(headers.get('content-security-policy'), url).toMatch(
        /default-src 'none'.*frame-ancestors 'none'/,
      );
      expect(headers.get('x-frame-options'), url).toBe('DENY');
      expect(headers.get('x-content-type-options'), url).toBe('nosniff');
      expect(headers.get('referrer-policy'), url).toBe('no-referrer');
      expect(headers.get('cache-control'), url).toBe('no-store');
      expect(headers.get('access-control-allow-origin'), url).toBeNull();
    }
  });

  test('without a password answers only to loopback names: a rebound DNS name is turned away', async () => {
    await using server = await board();
    const url = `${server.url}/api/status`;
    for (const host of [`localhost:${server.port}`, `127.0.0.1:${server.port}`, '[::1]', 'LOCALHOST']) {
      expect(await statusWithHost(url, host), host).toBe(200);
    }
    for (const host of [
      'evil.example',
      `evil.example:${server.port}`,
      '127.0.0.1.evil.example',
      '10.0.0.1',
    ]) {
      expect(await statusWithHost(url, host), host).toBe(421);
    }
  });

  test('takes the next free port where that is wanted, else says that the port is busy', async () => {
    const occupant = createServer();
    await new Promise<void>((resolve) => occupant.listen(0, '127.0.0.1', resolve));
    const { port } = occupant.address() as { port: number };
    await expect(board({ port })).rejects.toMatchObject({
      code: 'PORT_BUSY',
      message: expect.stringContaining(`127.0.0.1:${port}`),
      hint: expect.stringContaining('--board-port'),
    });
    await using server = await board({ port, findFreePort: true });
    expect(server.port).toBeGreaterThan(port);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    await new Promise((resolve) => occupant.close(resolve));
  });

  test('shows new lanes in their place after a change of their number', async () => {
    await using server = await board();
    const added = new Queue('lane-2', { prefix: '{lanegate-default}', connection: { port: redis.port } });
    const [first, second, ...rest] = queues.all;
    server.setQueues([first, second, added, ...rest] as Queue[]);
    const names = async () => {
      const { queues: shown } = (await (await fetch(`${server.url}/api/queues`)).json()) as {
        queues: { name: string }[];
      };
      return shown.map(({ name }) => name);
    };
    expect(await names()).toEqual(['lane-0', 'lane-1', 'lane-2', 'gate', 'ingest']);
    server.setQueues(queues.all);
    expect(await names()).toEqual(['lane-0', 'lane-1', 'gate', 'ingest']);
    await added.close();
  });

  test('says not ready and serves what it can while the queue server is away', async () => {
    const away = async () => Promise.reject(new Error('connect ECONNREFUSED'));
    await using server = await board({ status: away, ready: away });
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    const status = await fetch(`${server.url}/api/status`);
    expect(status.status).toBe(503);
    expect(await status.json()).toEqual({ error: 'the status cannot be read: connect ECONNREFUSED' });
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toMatch(/^lanegate_up 0$/m);
    expect(metrics).not.toMatch(/^lanegate_lag_ms/m);
  });

  test('closes at once although a client keeps its connection open', async () => {
    const server = await board();
    await (await fetch(`${server.url}/healthz`, { headers: { connection: 'keep-alive' } })).text();
    await server.close();
    await server.close();
    await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
  });
});

describe('the health server of a worker', () => {
  test('serves probes and metrics, and nothing else', async () => {
    const status = pipelineStatus({
      state: 'stopped',
      lagMs: 1_500,
      lagEntries: 44,
      lowWaterMark: { seq: 0, position: null },
      lanes: [
        laneStatus(0, { paused: true }),
        laneStatus(1, { tail: 1_300, backlogBytes: 2_048, stopped: stopped() }),
      ],
    });
    await using server = scoped(
      await startHealthServer({
        host: '127.0.0.1',
        port: 0,
        status: async () => status,
        ready: async () => false,
      }),
    );
    expect(await (await fetch(`${server.url}/healthz`)).json()).toEqual({ status: 'ok' });
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${server.url}/`)).status).toBe(404);
    expect((await fetch(`${server.url}/api/status`)).status).toBe(404);
    const response = await fetch(`${server.url}/metrics`);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const lines = (await response.text()).split('\n');
    for (const line of [
      'lanegate_up 1',
      'lanegate_lag_ms{pipeline="default"} 1500',
      'lanegate_lag_entries{pipeline="default"} 44',
      'lanegate_head{pipeline="default"} 1200',
      'lanegate_gate_open{pipeline="default"} 0',
      'lanegate_state{pipeline="default",state="running"} 0',
      'lanegate_state{pipeline="default",state="stopped"} 1',
      'lanegate_lane_applied_through{pipeline="default",lane="1"} 1200',
      'lanegate_lane_tail{pipeline="default",lane="1"} 1300',
      'lanegate_lane_backlog_bytes{pipeline="default",lane="1"} 2048',
      'lanegate_lane_paused{pipeline="default",lane="0"} 1',
      'lanegate_lane_stopped{pipeline="default",lane="1"} 1',
      'lanegate_applied_total{pipeline="default"} 81234',
      'lanegate_duplicates_dropped_total{pipeline="default"} 0',
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.some((line) => line.startsWith('lanegate_low_water_mark{'))).toBe(false);
    const memory = lines.find((line) => line.startsWith('process_resident_memory_bytes '));
    expect(Number(memory?.split(' ')[1])).toBeGreaterThan(1_000_000);
  });

  test('counts no scrape twice and forgets a lane that is gone', async () => {
    let lanes = [laneStatus(0), laneStatus(1)];
    await using server = scoped(
      await startHealthServer({
        host: '127.0.0.1',
        port: 0,
        status: async () => pipelineStatus({ lanes }),
        ready: async () => true,
      }),
    );
    const scrape = async () => (await fetch(`${server.url}/metrics`)).text();
    expect(await scrape()).toContain('lane="1"');
    lanes = [laneStatus(0)];
    const second = await scrape();
    expect(second).not.toContain('lane="1"');
    expect(second).toContain('lanegate_applied_total{pipeline="default"} 81234');
  });
});
