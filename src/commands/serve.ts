// What `run`, `worker` and `board` have in common: a pipeline's process with its HTTP side, until a signal or, with
// --until caught-up, until everything that was in the source at the start is applied. HTTP is loaded where it is served:
// it is a third of what a worker's start costs.

import { Redis } from 'ioredis';
import { describeJob } from '../../processors/jobs.ts';
import { queueConnection } from '../../queues/connection.ts';
import { QueueSet } from '../../queues/queue-set.ts';
import type { Config } from '../config.ts';
import { Journal } from '../journal/journal.ts';
import { admit } from '../roles/admission.ts';
import type { Board } from '../roles/board.ts';
import { waitUntilCaughtUp } from '../roles/caught-up.ts';
import type { HttpServer } from '../roles/http.ts';
import { Observer } from '../roles/observe.ts';
import { WorkerProcess } from '../roles/worker.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { AbortedError, ConfigurationError } from '../runtime/errors.ts';
import type { Logger } from '../runtime/log.ts';
import { packageVersion } from '../runtime/package.ts';
import type { Source } from '../sources/source.ts';
import type { CommandContext } from './context.ts';
import { ProgressMeter, renderProgress } from './progress-view.ts';
import { sourceOf } from './source-of.ts';
import { stopText } from './stop-text.ts';
import { routingPolicy, workerOptions } from './worker-options.ts';

const LANES_FOLLOW_MS = 1_000;
const PROGRESS_WIDTH = 100;

export interface ServeOptions {
  readonly queue: Endpoint;
  /** Ingest, lanes and gate in this process; false for the board alone. */
  readonly work: boolean;
  readonly board: boolean;
}

export async function serve(context: CommandContext, options: ServeOptions): Promise<number> {
  const { config, log, signal } = context;
  const source = options.work ? sourceOf(config, (text) => log.warn(text)) : undefined;
  const redis = new Redis(queueConnection(options.queue, `lanegate:${config.name}:status`));
  // The worker's own connection says what is wrong with the queue; the board alone says it through its status.
  redis.on('error', (err: Error) => log.debug({ err }, 'status connection'));
  const observer = new Observer({
    name: config.name,
    version: packageVersion(),
    redis,
    target: config.target,
    now: Date.now,
  });
  let worker: WorkerProcess | undefined;
  let http: HttpServer | undefined;
  let stopFollowing = () => {};
  const ends = config.until === 'caught-up' || source?.finite === true;
  let meter = new ProgressMeter();
  try {
    if (options.work) worker = await admitWorker(context, options.queue, source);
    // In front of the start: a short log may be applied before anybody looks.
    if (ends) meter = new ProgressMeter((await observer.status()).counters.applied);
    if (worker) begin(context, options.queue, worker);
    if (options.board && config.boardPort > 0) {
      const followed = await boardOf(config, observer, redis, log);
      http = followed.board;
      stopFollowing = followed.stop;
    } else if (options.work && config.httpPort > 0) {
      const { startHealthServer } = await import('../roles/http.ts');
      http = await startHealthServer({ host: config.httpHost, port: config.httpPort, ...observed(observer) });
    }
    if (ends) return await untilCaughtUp(context, observer, { source, meter });
    await aborted(signal);
    return 0;
  } finally {
    stopFollowing();
    await worker?.stop(config.graceMs);
    await http?.close();
    observer.close();
    await source?.close();
    redis.disconnect();
  }
}

/** A worker whose start-up checks have passed, not begun. */
async function admitWorker(
  { config, log, signal }: CommandContext,
  queue: Endpoint,
  source: Source | undefined,
): Promise<WorkerProcess> {
  const { target } = config;
  if (!target) throw new ConfigurationError(['--target is needed']);
  const worker = new WorkerProcess(workerOptions(config, { queue, target, source, log }));
  try {
    // A queue that does not answer holds a check up without end.
    const ended = aborted(signal).then((): never => {
      throw new AbortedError();
    });
    worker.register();
    const policy = config.roles.includes('ingest') ? routingPolicy(config) : undefined;
    await Promise.race([admit(worker.context, source, { ...config, policy }, signal), ended]);
    if (signal.aborted) throw new AbortedError();
  } catch (error) {
    await worker.stop(0);
    throw error;
  }
  return worker;
}

function begin({ config, log }: CommandContext, queue: Endpoint, worker: WorkerProcess): void {
  worker.start();
  log.info(
    { worker: worker.id, roles: config.roles, target: config.target?.display, queue: queue.display },
    'worker started',
  );
}

async function boardOf(
  config: Config,
  observer: Observer,
  redis: Redis,
  log: Logger,
): Promise<{ board: Board; stop: () => void }> {
  const journal = new Journal(config.name, redis);
  const queues = new QueueSet(redis, journal.keys);
  const all = (lanes: number) => [...queues.lanes(lanes), queues.gate, queues.ingest];
  let lanes = 0;
  const { startBoard } = await import('../roles/board.ts');
  const board = await startBoard({
    host: config.boardHost,
    port: config.boardPort,
    write: config.boardWrite,
    user: config.boardUser,
    password: config.boardPassword,
    queues: all(lanes),
    ...observed(observer),
    describeJob,
    log,
  });
  const follow = async () => {
    const now = (await journal.inForce())?.lanes ?? 0;
    if (now === lanes) return;
    lanes = now;
    board.setQueues(all(lanes));
  };
  const timer = setInterval(() => void follow().catch((err) => log.debug({ err }, 'board')), LANES_FOLLOW_MS);
  void follow().catch(() => {});
  return {
    board,
    stop: () => {
      clearInterval(timer);
      void queues.close();
    },
  };
}

function observed(observer: Observer) {
  return { status: () => observer.status(), ready: () => observer.ready() };
}

async function untilCaughtUp(
  { config, stdout, stderr, signal }: CommandContext,
  observer: Observer,
  { source, meter }: { readonly source: Source | undefined; readonly meter: ProgressMeter },
): Promise<number> {
  const terminal = (stderr as { isTTY?: boolean }).isTTY === true;
  const startedMs = performance.now();
  const end = await waitUntilCaughtUp({
    observer,
    source,
    signal,
    onStatus: (status) => {
      const progress = meter.update(status);
      if (terminal)
        stderr.write(`\r\u001b[K${renderProgress(progress, { colour: true, width: PROGRESS_WIDTH })}`);
    },
  });
  if (terminal) stderr.write('\r\u001b[K');
  const { applied } = meter.update(end.status);
  const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
  if (end.kind === 'caught up') {
    stdout.write(`caught up: ${applied} commands applied in ${seconds} s\n`);
    if (source?.finite && ((await observer.observe()).identity?.graceMs ?? 0) > 0)
      stdout.write(`deadlines are held back until ${finishCommand(config)}\n`);
    return 0;
  }
  if (end.kind === 'stopped') {
    stderr.write(`lanegate: ${stopText(end.place, end.stop)}`);
  }
  return 1;
}

function finishCommand({ name, source, target, queue, dataDir, untilTime }: Config): string {
  const at = queue === undefined ? `--data-dir ${dataDir}` : `--queue ${queue.display}`;
  const until = untilTime === undefined ? '' : ` --until-time ${new Date(untilTime).toISOString()}`;
  return `lanegate finish --name ${name} --source ${source} --target ${target?.display} ${at}${until}`;
}

async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
