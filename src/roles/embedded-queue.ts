// The queue server that `lanegate run` brings along when --queue is absent.
//
// It outlives its starter on purpose: a run that is killed leaves it behind as an orphan with the journal in it, and
// the next run adopts it. Never may two servers write one AOF, so a new one is started only when the recorded one is
// known to be dead:
//
//   no record --------------------------------------------> launch
//   record, process dead ---------------------------------> launch (same directory: the AOF is kept)
//   record, process alive, answers with password and pid -> adopt
//   record, process alive, no answer ---------------------> stop, naming the pid
//   record without pid (starter died while spawning) -----> adopt if it answers soon, else launch
//
// Files in the data directory, all for the owner alone: run.pid (the lock of the live run), queue.json (pid, port,
// password), queue.conf, queue.log, queue/ (the AOF). The password is in no argv and in no environment.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Endpoint } from '../runtime/endpoint.ts';
import { StopError } from '../runtime/errors.ts';
import { readJsonFile, writePrivateFile } from '../runtime/private-file.ts';
import { identityOf, isAlive, type ProcessIdentity, parseIdentity } from '../runtime/process-identity.ts';
import { RunLock } from '../runtime/run-lock.ts';
import { findQueueBinary } from './queue-binary.ts';
import { askForShutdown, probeQueue } from './queue-probe.ts';

const LAUNCH_ATTEMPTS_MAX = 8;
const ANSWER_MS_MAX = 15_000;
/** A server that was spawned by a starter which then died listens well within this. */
const SPAWN_MS_MAX = 3_000;
/** Reading a large AOF. */
const LOADING_MS_MAX = 600_000;
const EXIT_MS_MAX = 5_000;
const POLL_MS = 20;
const LOG_TAIL_CHARS = 2_000;
const HOST = '127.0.0.1';

export interface EmbeddedQueueOptions {
  readonly dataDir: string;
  readonly log: Pick<Logger, 'info' | 'warn'>;
  /** Where LANEGATE_REDIS_SERVER and PATH are looked up; default: the process's own. */
  readonly env?: NodeJS.ProcessEnv;
}

interface ServerRecord {
  /** null from before the spawn until its pid is known. */
  readonly process: ProcessIdentity | null;
  readonly port: number;
  readonly password: string;
  /** ms since 1970 */
  readonly startedAt: number;
}

export class EmbeddedQueue {
  readonly endpoint: Endpoint;
  /** The server was left behind by an earlier run. */
  readonly adopted: boolean;
  readonly #paths: Paths;
  readonly #process: ProcessIdentity;
  readonly #record: ServerRecord;
  readonly #lock: RunLock;
  #stopped: Promise<void> | undefined;

  private constructor(
    paths: Paths,
    lock: RunLock,
    server: { record: ServerRecord; pid: number; adopted: boolean },
  ) {
    this.#paths = paths;
    this.#lock = lock;
    this.#record = server.record;
    this.#process = server.record.process ?? { pid: server.pid, startTime: null };
    this.adopted = server.adopted;
    this.endpoint = endpointOf(server.record);
  }

  /** @throws StopError ALREADY_RUNNING, NO_REDIS_SERVER, QUEUE_NOT_ANSWERING, QUEUE_NOT_STARTED. */
  static async start(options: EmbeddedQueueOptions): Promise<EmbeddedQueue> {
    const paths = pathsIn(options.dataDir);
    mkdirSync(paths.data, { recursive: true, mode: 0o700 });
    const lock = await RunLock.acquire(paths.lock);
    try {
      const survivor = await findSurvivor(paths);
      const server = survivor ?? (await launch(paths, options.env ?? process.env));
      options.log.info(
        { serverPid: server.pid, port: server.record.port },
        survivor === undefined
          ? 'embedded queue server started'
          : 'embedded queue server adopted from an earlier run',
      );
      return new EmbeddedQueue(paths, lock, { ...server, adopted: survivor !== undefined });
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** The server of a live or a killed run, for commands that only look; undefined when none answers. */
  static async find(dataDir: string): Promise<Endpoint | undefined> {
    const record = readRecord(pathsIn(dataDir));
    if (record === undefined || (record.process !== null && !isAlive(record.process))) return undefined;
    const probe = await probeQueue(record);
    if (probe.state !== 'ready' && probe.state !== 'loading') return undefined;
    return record.process === null || record.process.pid === probe.pid ? endpointOf(record) : undefined;
  }

  /**
   * Returns when the server is gone, its AOF fsynced, and the lock is free. Idempotent.
   * @throws StopError QUEUE_NOT_STOPPED when even SIGKILL does not end it.
   */
  stop(): Promise<void> {
    this.#stopped ??= this.#shutDown();
    return this.#stopped;
  }

  async #shutDown(): Promise<void> {
    try {
      await endServer(this.#record, this.#process);
      rmSync(this.#paths.record, { force: true });
      rmSync(this.#paths.config, { force: true });
    } finally {
      this.#lock.release();
    }
  }
}

type Paths = Readonly<Record<'data' | 'lock' | 'record' | 'config' | 'log' | 'aof', string>>;

function pathsIn(dataDir: string): Paths {
  const data = resolve(dataDir);
  return {
    data,
    lock: join(data, 'run.pid'),
    record: join(data, 'queue.json'),
    config: join(data, 'queue.conf'),
    log: join(data, 'queue.log'),
    aof: join(data, 'queue'),
  };
}

function endpointOf(record: ServerRecord): Endpoint {
  const { port, password } = record;
  return {
    host: HOST,
    port,
    username: undefined,
    password,
    db: 0,
    tls: undefined,
    display: `redis://${HOST}:${port}`,
  };
}

function readRecord(paths: Paths): ServerRecord | undefined {
  const value = readJsonFile(paths.record) as
    | Partial<Record<keyof ServerRecord | 'pid', unknown>>
    | undefined
    | null;
  if (typeof value !== 'object' || value === null) return undefined;
  const { port, password, startedAt } = value;
  if (typeof port !== 'number' || typeof password !== 'string' || !/^[\w-]+$/.test(password))
    return undefined;
  return {
    process: parseIdentity(value) ?? null,
    port,
    password,
    startedAt: typeof startedAt === 'number' ? startedAt : 0,
  };
}

function writeRecord(paths: Paths, record: ServerRecord): void {
  const { process: server, ...rest } = record;
  writePrivateFile(
    paths.record,
    `${JSON.stringify({ pid: null, startTime: null, ...server, ...rest }, null, 2)}\n`,
  );
}

interface RunningServer {
  readonly record: ServerRecord;
  readonly pid: number;
}

async function findSurvivor(paths: Paths): Promise<RunningServer | undefined> {
  const record = readRecord(paths);
  if (record === undefined) return undefined;
  const pid = await waitForAnswer(record);
  if (pid === undefined) return undefined;
  if (record.process !== null && record.process.pid !== pid) {
    throw new StopError(
      'QUEUE_NOT_ANSWERING',
      `process ${pid} answers as the queue of ${paths.data}, not the recorded one`,
      {
        hint: `stop it with: kill ${pid}`,
        facts: { pid },
      },
    );
  }
  const known = { ...record, process: record.process ?? identityOf(pid) ?? null };
  writeRecord(paths, known);
  return { record: known, pid };
}

/** The pid of the recorded server once it has read its AOF; undefined when it is certainly gone. */
async function waitForAnswer(record: ServerRecord): Promise<number | undefined> {
  const begun = Date.now();
  for (;;) {
    if (record.process !== null && !isAlive(record.process)) return undefined;
    const probe = await probeQueue(record);
    if (probe.state === 'ready') return probe.pid;
    const waitedMs = Date.now() - begun;
    if (record.process === null && probe.state !== 'loading' && waitedMs > SPAWN_MS_MAX) return undefined;
    if (waitedMs > (probe.state === 'loading' ? LOADING_MS_MAX : ANSWER_MS_MAX)) throw notAnswering(record);
    await delay(POLL_MS);
  }
}

function notAnswering(record: ServerRecord): StopError {
  const pid = record.process?.pid ?? 0;
  return new StopError(
    'QUEUE_NOT_ANSWERING',
    `the embedded queue server (pid ${pid}) is alive but does not answer`,
    {
      hint: `look at it; if it hangs: kill -9 ${pid}`,
      facts: { pid, port: record.port },
    },
  );
}

async function launch(paths: Paths, env: NodeJS.ProcessEnv): Promise<RunningServer> {
  const binary = await findQueueBinary(env);
  mkdirSync(paths.aof, { recursive: true, mode: 0o700 });
  // Why the last server ended may stand there.
  if (existsSync(paths.log)) renameSync(paths.log, `${paths.log}.old`);
  for (let attempt = 1; ; attempt++) {
    const record = { process: null, port: await freePort(), password: secret(), startedAt: Date.now() };
    writePrivateFile(paths.config, configuration(paths, record));
    // Before the spawn: were this process killed right after it, the next run would start a second server on the AOF.
    writeRecord(paths, record);
    const outcome = await spawnServer(paths, binary, record);
    if (outcome.started) return outcome.server;
    rmSync(paths.record, { force: true });
    const portWasTaken = /address already in use/i.test(outcome.logTail);
    if (!portWasTaken || attempt === LAUNCH_ATTEMPTS_MAX) throw notStarted(paths, binary, outcome.logTail);
  }
}

type SpawnOutcome =
  | { readonly started: true; readonly server: RunningServer }
  | { readonly started: false; readonly logTail: string };

async function spawnServer(paths: Paths, binary: string, blank: ServerRecord): Promise<SpawnOutcome> {
  const log = openSync(paths.log, 'w', 0o600);
  let child: ChildProcess;
  try {
    // Detached: its own session and process group, so that Ctrl-C reaches only us and the drain still has its queue.
    child = spawn(binary, [paths.config], {
      cwd: paths.aof,
      detached: true,
      stdio: ['ignore', log, log],
      env: { PATH: process.env.PATH },
    });
  } finally {
    closeSync(log);
  }
  // A spawn that fails says so by this event as well as by the missing pid.
  child.once('error', () => {});
  // It is meant to outlive this process; what ends it is stop().
  child.unref();
  const identity = child.pid === undefined ? undefined : identityOf(child.pid);
  if (identity === undefined) return { started: false, logTail: logTail(paths) };
  const record = { ...blank, process: identity };
  writeRecord(paths, record);
  try {
    if ((await waitForAnswer(record)) === identity.pid)
      return { started: true, server: { record, pid: identity.pid } };
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
  return { started: false, logTail: logTail(paths) };
}

function logTail(paths: Paths): string {
  return readFileSync(paths.log, 'utf8').slice(-LOG_TAIL_CHARS);
}

function notStarted(paths: Paths, binary: string, tail: string): StopError {
  return new StopError(
    'QUEUE_NOT_STARTED',
    `${binary} ended at its start; its log ends with:\n${tail.trimEnd()}`,
    {
      hint: `see ${paths.log}`,
    },
  );
}

function configuration(paths: Paths, record: ServerRecord): string {
  const quoted = (text: string) => `"${text.replace(/["\\]/g, '\\$&')}"`;
  return `${[
    `bind ${HOST}`,
    `port ${record.port}`,
    'protected-mode yes',
    `requirepass ${record.password}`,
    `dir ${quoted(paths.aof)}`,
    'daemonize no',
    'appendonly yes',
    'appendfsync everysec',
    // The journal is written once and trimmed: rewriting its file often costs more than it saves.
    'auto-aof-rewrite-min-size 512mb',
    'save ""',
    'maxmemory-policy noeviction',
  ].join('\n')}\n`;
}

async function endServer(record: ServerRecord, server: ProcessIdentity): Promise<void> {
  // NOSAVE concerns the RDB file only; the AOF is written out and fsynced by any shutdown.
  const accepted = await askForShutdown(record);
  if (accepted && (await hasExited(server))) return;
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!isAlive(server)) return;
    try {
      process.kill(server.pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    if (await hasExited(server)) return;
  }
  throw new StopError('QUEUE_NOT_STOPPED', `the embedded queue server (pid ${server.pid}) does not end`, {
    hint: `the next run adopts it; to end it by hand: kill -9 ${server.pid}`,
    facts: { pid: server.pid },
  });
}

/** An adopted server is nobody's child here, so its end can only be looked for. */
async function hasExited(server: ProcessIdentity): Promise<boolean> {
  const deadline = Date.now() + EXIT_MS_MAX;
  while (isAlive(server)) {
    if (Date.now() > deadline) return false;
    await delay(POLL_MS);
  }
  return true;
}

function secret(): string {
  return randomBytes(32).toString('base64url');
}

function freePort(): Promise<number> {
  return new Promise((resolvePort, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, HOST, () => {
      const address = probe.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      probe.close(() => resolvePort(port));
    });
  });
}
