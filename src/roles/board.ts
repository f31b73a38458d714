import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { FastifyAdapter } from '@bull-board/fastify';
import type { Queue } from 'bullmq';
import type { Logger } from 'pino';
import { ConfigurationError } from '../runtime/errors.ts';
import {
  addHealthRoutes,
  addMetricsRoute,
  addStatusRoute,
  createApp,
  type HttpServer,
  type ListenOptions,
  listen,
  type Observed,
  OPEN_PATHS,
} from './http.ts';
import { type Credentials, hostNameOf, installGuard } from './http-guard.ts';
import { PipelineMetrics } from './metrics.ts';

export interface BoardOptions extends ListenOptions, Observed {
  /** Lets the board change queues and jobs; needs a password. */
  readonly write: boolean;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  /** Shown in this order; they stay the caller's to close. */
  readonly queues: readonly Queue[];
  /** One line for people about a job's data, or its data and return value taken together. */
  readonly describeJob: (queueName: string, data: unknown) => string;
  readonly metrics?: PipelineMetrics | undefined;
  readonly log: Pick<Logger, 'info'>;
}

export interface Board extends HttpServer {
  /** After the number of lanes has changed. */
  setQueues(queues: readonly Queue[]): void;
}

/**
 * Serves Bull Board at `/`, /api/status, /metrics, /healthz and /readyz.
 * @throws ConfigurationError for a combination that would leave the board open, StopError PORT_BUSY.
 */
export async function startBoard(options: BoardOptions): Promise<Board> {
  const credentials = credentialsOf(options);
  const app = createApp();
  const hosts = credentials === undefined ? ownHostNames(options.host) : undefined;
  installGuard(app, { credentials, write: options.write, hosts, open: OPEN_PATHS });
  app.addHook('onSend', async (request, reply) => {
    if (!request.url.startsWith('/static/')) reply.header('cache-control', 'no-store');
  });
  addHealthRoutes(app, options);
  addMetricsRoute(app, options, options.metrics ?? new PipelineMetrics());
  addStatusRoute(app, options);

  const serverAdapter = new FastifyAdapter();
  const adapters = (queues: readonly Queue[]) => queues.map((queue) => adapterFor(queue, options));
  const bullBoard = createBullBoard({
    queues: adapters(options.queues),
    serverAdapter,
    options: {
      uiConfig: {
        boardTitle: 'lanegate',
        hideDocsLink: true,
        miscLinks: [
          { text: 'Status', url: '/api/status' },
          { text: 'Metrics', url: '/metrics' },
        ],
      },
    },
  });
  await app.register(serverAdapter.registerPlugin());
  const server = await listen(app, options, '--board-port');
  options.log.info({ url: server.url, write: options.write }, 'board is listening');
  return {
    ...server,
    setQueues: (queues) => {
      // Emptied first: Bull Board keeps the places of queues that it knows and would append new lanes behind the gate.
      bullBoard.replaceQueues([]);
      bullBoard.replaceQueues(adapters(queues));
    },
  };
}

function credentialsOf(options: BoardOptions): Credentials | undefined {
  const { user, password, host, write } = options;
  const problems: string[] = [];
  if ((user ?? '') === '' && (password ?? '') !== '')
    problems.push('LANEGATE_BOARD_USER: missing beside the password');
  if ((user ?? '') !== '' && (password ?? '') === '')
    problems.push('LANEGATE_BOARD_PASSWORD: missing beside the user');
  if (user?.includes(':') === true)
    problems.push('LANEGATE_BOARD_USER: HTTP Basic allows no ":" in a user name');
  const protectedBoard = (user ?? '') !== '' && (password ?? '') !== '';
  const way = 'set LANEGATE_BOARD_USER and LANEGATE_BOARD_PASSWORD';
  if (!protectedBoard && !isLoopback(host)) {
    problems.push(
      `--board-host: without a password the board listens on loopback only, not on ${host}; ${way}`,
    );
  }
  if (!protectedBoard && write) {
    problems.push(
      `--board-write: whoever can write on the board can write on the target, so it needs a password; ${way}`,
    );
  }
  if (problems.length > 0) throw new ConfigurationError(problems);
  return user !== undefined && password !== undefined && protectedBoard ? { user, password } : undefined;
}

function isLoopback(host: string): boolean {
  return /^(localhost|::1|127(\.\d{1,3}){3})$/i.test(host);
}

function ownHostNames(host: string): ReadonlySet<string> {
  const bracketed = host.includes(':') ? `[${host}]` : host;
  return new Set(['localhost', '127.0.0.1', '[::1]', hostNameOf(bracketed)]);
}

function adapterFor(queue: Queue, options: BoardOptions): BullMQAdapter {
  const adapter = new BullMQAdapter(queue, { readOnlyMode: !options.write, allowRetries: options.write });
  const describe = (data: unknown, otherwise: string) => {
    try {
      return options.describeJob(queue.name, data);
    } catch {
      // A job that somebody else put there must not blank the whole page.
      return otherwise;
    }
  };
  adapter.setFormatter('name', ({ name, data, returnvalue }) =>
    describe({ ...fieldsOf(data), ...fieldsOf(returnvalue) }, String(name)),
  );
  // What the page shows here it also sends back when an operator edits or duplicates a job.
  if (!options.write) {
    adapter.setFormatter('data', (data) => ({
      job: describe(data, 'not a job of lanegate'),
      ...fieldsOf(data),
    }));
  }
  return adapter;
}

function fieldsOf(value: unknown): object {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : {};
}
