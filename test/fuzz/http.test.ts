import { connect } from 'node:net';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Board, startBoard } from '../../src/roles/board.ts';
import { type HttpServer, startHealthServer } from '../../src/roles/http.ts';
import { BoardQueues, describeJob } from '../support/board-queues.ts';
import { pipelineStatus } from '../support/pipeline-status.ts';
import { RedisServer } from '../support/redis-server.ts';
import { damaged, runs } from './bytes.ts';

const observed = {
  host: '127.0.0.1',
  port: 0,
  status: async () => pipelineStatus(),
  ready: async () => true,
};
const ANSWER_BYTES_MAX = 1024 * 1024;
const QUIET_MS = 50;
/** At a time. */
const CALLERS = 10;

let redis: RedisServer;
let queues: BoardQueues;
let board: Board;
let health: HttpServer;

beforeAll(async () => {
  redis = await RedisServer.start();
  queues = await BoardQueues.create(redis, 1);
  const access = { user: 'operator', password: 'correct horse', write: true };
  board = await startBoard({
    ...observed,
    ...access,
    queues: queues.all,
    describeJob,
    log: pino({ level: 'silent' }),
  });
  health = await startHealthServer(observed);
});
afterAll(async () => {
  await board.close();
  await health.close();
  await queues[Symbol.asyncDispose]();
  await redis[Symbol.asyncDispose]();
});

const oddMethod = fc.constantFrom(
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'PATCH',
  'OPTIONS',
  'TRACE',
  'CONNECT',
  'get',
  'PROPFIND',
  'X',
);
const method = fc.oneof({ weight: 1, arbitrary: fc.constant('GET') }, { weight: 1, arbitrary: oddMethod });
const oddPath = fc.constantFrom(
  ...[
    '/',
    '/api/status',
    '/metrics',
    '/api/queues',
    '/api/queues/lane-0/pause',
    '//api/queues',
    '/api//queues',
    '/%61pi/queues',
  ],
  ...[
    '/healthz',
    '/readyz',
    '/healthz/',
    '/healthz/../api/queues',
    '/healthz%2f..%2fapi/status',
    '/healthz?x=/api/queues',
  ],
  ...[
    'http://evil.example/api/status',
    '*',
    '/%',
    '/%00',
    '/static/../../../etc/passwd',
    '/static/%2e%2e/%2e%2e/package.json',
    `/${'a'.repeat(9_000)}`,
  ],
  ...[
    '/api/queues/__proto__',
    '/api/queues?activeQueue=__proto__&page=-1&jobsPerPage=1e9',
    '/HEALTHZ',
    '/healthz;/api/queues',
  ],
);
const path = fc.oneof(
  { weight: 1, arbitrary: fc.constantFrom('/healthz', '/readyz') },
  { weight: 3, arbitrary: oddPath },
);
const header = fc.constantFrom(
  ...[
    'Host: 127.0.0.1',
    'Host: evil.example',
    'Connection: close',
    'Content-Length: 5',
    'Content-Length: -1',
    'Content-Length: 99999999999',
  ],
  ...[
    'Transfer-Encoding: chunked',
    'Transfer-Encoding: chunked, identity',
    'Expect: 100-continue',
    'Upgrade: websocket',
    'X-Forwarded-For: 127.0.0.1',
  ],
  ...[
    'Authorization: Basic',
    'Authorization: Basic Og==',
    'X-HTTP-Method-Override: GET',
    'Content-Type: application/json',
    `X: ${'y'.repeat(20_000)}`,
  ],
);
const request = fc
  .tuple(
    method,
    path,
    fc.array(header, { maxLength: 3 }).map((odd) => ['Host: 127.0.0.1', ...odd]),
    fc.constantFrom('', '0\r\n\r\n', '{"a":', 'ffffffff\r\n', 'GET /healthz HTTP/1.1\r\n\r\n'),
  )
  .map(([verb, target, headers, body]) =>
    Buffer.from([`${verb} ${target} HTTP/1.1`, ...headers, '', body].join('\r\n')),
  );

/** Everything that comes back: until the server closes, or is quiet for longer than we care to hold the line. */
function answerOf(port: number, bytes: Buffer): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    socket.setTimeout(QUIET_MS, () => socket.destroy());
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1');
      if (text.length > ANSWER_BYTES_MAX) socket.destroy();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(text));
  });
}

const callers = fc.array(damaged(request), { minLength: CALLERS, maxLength: CALLERS });
const STATUS = /HTTP\/1\.1 (\d{3})/g;

test('whatever bytes come without the password: refused, or a probe is answered, and the server lives on', async () => {
  const statuses = new Set<string>();
  await fc.assert(
    fc.asyncProperty(callers, async (requests) => {
      const text = (await Promise.all(requests.map((bytes) => answerOf(board.port, bytes)))).join('\n');
      const found = [...text.matchAll(STATUS)].map(([, status]) => String(status));
      for (const status of found) statuses.add(status);
      // 100 is Node's own: go on.
      if (found.includes('200'))
        expect(text).toMatch(/\{"status":"(ok|ready)"\}|content-length: (15|18)\r\n/i);
      expect(found.filter((status) => status !== '100' && status !== '200' && Number(status) < 400)).toEqual(
        [],
      );
      expect(found.filter((status) => Number(status) >= 500 && status !== '505')).toEqual([]);
      expect(text).not.toMatch(/"queues":|lanegate_up|node_modules|root:/);
    }),
    runs(60),
  );
  for (const status of ['200', '400', '401']) expect([...statuses]).toContain(status);
  expect(await queues.named('lane-0').isPaused()).toBe(false);
  expect((await fetch(`${board.url}/healthz`)).status).toBe(200);
});

test('the health server takes the same bytes and answers its own paths alone', async () => {
  await fc.assert(
    fc.asyncProperty(callers, async (requests) => {
      const text = (await Promise.all(requests.map((bytes) => answerOf(health.port, bytes)))).join('\n');
      const found = [...text.matchAll(STATUS)].map(([, status]) => Number(status));
      expect(found.filter((status) => status >= 500 && status !== 505)).toEqual([]);
      expect(text).not.toMatch(/node_modules|root:/);
    }),
    runs(30),
  );
  expect((await fetch(`${health.url}/metrics`)).status).toBe(200);
});
