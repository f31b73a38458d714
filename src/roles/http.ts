import { type FastifyInstance, fastify } from 'fastify';
import { ConfigurationError, messageOf, StopError } from '../runtime/errors.ts';
import type { PipelineStatus } from '../status.ts';
import { PipelineMetrics } from './metrics.ts';

const ANSWER_MS_MAX = 5_000;
const REQUEST_MS_MAX = 30_000;
const BODY_BYTES_MAX = 1024 * 1024;
const PORTS_TRIED_MAX = 100;
const PORT_MAX = 65_535;

/** Answered before any password is asked for: probes have none. */
export const OPEN_PATHS = ['/healthz', '/readyz'] as const;

// Bull Board's page sets inline styles and links a web font, which stays blocked: a board must not call strangers.
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "worker-src 'self' blob:",
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "font-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'self'",
  "form-action 'self'",
  "frame-ancestors 'none'",
].join('; ');

const SECURITY_HEADERS = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-frame-options': 'DENY',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
} as const;

export interface Observed {
  readonly status: () => Promise<PipelineStatus>;
  readonly ready: () => Promise<boolean>;
}

export interface HttpServer {
  /** `http://host:port`, with the port that was really taken. */
  readonly url: string;
  readonly port: number;
  /** Ends open connections. Idempotent. */
  close(): Promise<void>;
}

export interface ListenOptions {
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** A port that is taken makes the next ones be tried instead of an error. */
  readonly findFreePort?: boolean | undefined;
}

export interface HealthServerOptions extends Observed, ListenOptions {
  readonly metrics?: PipelineMetrics | undefined;
}

/** What `lanegate worker --http-port` serves: /healthz, /readyz and /metrics. */
export async function startHealthServer(options: HealthServerOptions): Promise<HttpServer> {
  const app = createApp();
  addHealthRoutes(app, options);
  addMetricsRoute(app, options, options.metrics ?? new PipelineMetrics());
  return listen(app, options, '--http-port');
}

export function createApp(): FastifyInstance {
  const app = fastify({
    logger: false,
    // A browser that keeps its connection open must not hold up the end of the process.
    forceCloseConnections: true,
    requestTimeout: REQUEST_MS_MAX,
    bodyLimit: BODY_BYTES_MAX,
  });
  app.addHook('onRequest', async (_request, reply) => {
    reply.headers(SECURITY_HEADERS);
  });
  return app;
}

export function addHealthRoutes(app: FastifyInstance, observed: Observed): void {
  app.get('/healthz', async (_request, reply) =>
    reply.header('cache-control', 'no-store').send({ status: 'ok' }),
  );
  app.get('/readyz', async (_request, reply) => {
    const ready = await inTime(observed.ready()).catch(() => false);
    return reply
      .code(ready ? 200 : 503)
      .header('cache-control', 'no-store')
      .send({ status: ready ? 'ready' : 'not ready' });
  });
}

export function addMetricsRoute(app: FastifyInstance, observed: Observed, metrics: PipelineMetrics): void {
  app.get('/metrics', async (_request, reply) => {
    const status = await inTime(observed.status()).catch(() => undefined);
    const text = await metrics.text(status);
    return reply.header('cache-control', 'no-store').type(metrics.contentType).send(text);
  });
}

export function addStatusRoute(app: FastifyInstance, observed: Observed): void {
  app.get('/api/status', async (_request, reply) => {
    try {
      return await inTime(observed.status());
    } catch (error) {
      return reply.code(503).send({ error: `the status cannot be read: ${messageOf(error)}` });
    }
  });
}

/** @throws StopError PORT_BUSY, ConfigurationError for an address that is not this machine's. */
export async function listen(
  app: FastifyInstance,
  options: ListenOptions,
  option: string,
): Promise<HttpServer> {
  const { host } = options;
  for (let port = options.port; ; port++) {
    try {
      await app.listen({ host, port });
      break;
    } catch (cause) {
      const last =
        options.findFreePort !== true || port >= Math.min(PORT_MAX, options.port + PORTS_TRIED_MAX);
      if ((cause as NodeJS.ErrnoException).code === 'EADDRINUSE' && !last) continue;
      await app.close();
      throw listenError(cause, { host, port: String(port), option });
    }
  }
  const port = (app.server.address() as { port: number }).port;
  const close = async () => app.close();
  return { url: `http://${host.includes(':') ? `[${host}]` : host}:${port}`, port, close };
}

function listenError(cause: unknown, place: { host: string; port: string; option: string }): Error {
  const where = `${place.host}:${place.port}`;
  switch ((cause as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return new StopError('PORT_BUSY', `${where} is in use by another program`, {
        hint: `choose another port with ${place.option}, 0 turns it off`,
        cause,
      });
    case 'EACCES':
      return new StopError('PORT_FORBIDDEN', `this user may not listen on ${where}`, {
        hint: `choose a port from 1024 on with ${place.option}`,
        cause,
      });
    case 'EADDRNOTAVAIL':
    case 'ENOTFOUND':
      return new ConfigurationError([`${place.option}: ${place.host} is no address of this machine`]);
    default:
      return cause as Error;
  }
}

/** A question to a server that is away may hang; a probe must get its answer. */
async function inTime<Answer>(answer: Promise<Answer>): Promise<Answer> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${ANSWER_MS_MAX} ms`)), ANSWER_MS_MAX);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}
