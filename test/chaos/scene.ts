import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { until, wipe } from '../support/faults.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';
import { Crew } from './crew.ts';
import { SmallDisk } from './disk.ts';
import { PIKA_DATABASES, PikaOrigin } from './pika-source.ts';

// Everything that can break, and how it is made whole: source, queue, target and the target's replica, each behind a
// proxy; the worker processes; and, outside of all faults, a model that says what commands mean. A Pika as the source is
// one of our own (test/support/pika-master.ts).

export const NAME = 'chaos';
export const PREFIX = `{lanegate-${NAME}}`;
export const LOCK_MS = 1_500;
const WATCHDOG_MS = 300;
const DISK_MEBIBYTES = 192;
const DURABLE = ['--appendonly', 'yes', '--auto-aof-rewrite-min-size', '24mb'];
const START: Readonly<Record<SourceKind, readonly string[]>> = {
  'redis-stream': [],
  // No deadline of the workload comes near: they are compared as the source has them.
  redis: ['--expiry-grace-ms', '0'],
  pika: ['--from', 'beginning'],
};
const LINKED = ['--repl-diskless-sync-delay', '0', '--repl-backlog-size', '64mb'];
/** An entry that the source has answered, and forgets when it is killed, would be in the model and in no log. */
const KEEPS_ALL = ['--appendfsync', 'always'];

export const SOURCES = ['redis-stream', 'redis', 'pika'] as const;
export type SourceKind = (typeof SOURCES)[number];
export type SeatName = 'source' | 'queue' | 'target';

export interface SceneOptions {
  readonly source: SourceKind;
  readonly workers: number;
  readonly lanes: number;
}

export class Scene implements AsyncDisposable {
  readonly options: SceneOptions;
  readonly source: RedisServer | PikaOrigin;
  readonly queue: RedisServer;
  readonly proxies: Readonly<Record<SeatName, FaultyProxy>>;
  /** Of the queue, the target and its replica; none where this process may not mount. */
  readonly #disks: ReadonlyMap<RedisServer, SmallDisk>;
  /** Between the target and its replica. */
  readonly replicaLink: FaultyProxy;
  readonly crew: Crew;
  readonly dir: string;
  readonly #pair: [primary: RedisServer, replica: RedisServer];

  private constructor(
    options: SceneOptions,
    parts: {
      source: RedisServer | PikaOrigin;
      servers: readonly [RedisServer, RedisServer, RedisServer];
      proxies: Record<SeatName, FaultyProxy>;
      replicaLink: FaultyProxy;
      disks: ReadonlyMap<RedisServer, SmallDisk>;
      dir: string;
    },
  ) {
    const [queue, target, replica] = parts.servers;
    this.options = options;
    this.source = parts.source;
    this.queue = queue;
    this.#pair = [target, replica];
    this.proxies = parts.proxies;
    this.replicaLink = parts.replicaLink;
    this.#disks = parts.disks;
    this.dir = parts.dir;
    const tuned = ['--lock-ms', String(LOCK_MS), '--watchdog-ms', String(WATCHDOG_MS)];
    const lanes = ['--lanes', String(options.lanes), '--data-dir', parts.dir];
    const args = ['worker', ...this.urls, ...lanes, ...tuned, ...START[options.source]];
    this.crew = new Crew(options.workers, args, parts.dir);
  }

  static async start(options: SceneOptions): Promise<Scene> {
    const disks = new Map<RedisServer, SmallDisk>();
    const onDisk = async (...args: string[]) => {
      const disk = await SmallDisk.mount(DISK_MEBIBYTES);
      const server = await RedisServer.start({ args: [...DURABLE, ...args], ...(disk && { dir: disk.dir }) });
      if (disk) disks.set(server, disk);
      return server;
    };
    const servers = await Promise.all([
      onDisk('--maxmemory-policy', 'noeviction'),
      onDisk(...LINKED),
      onDisk(...LINKED),
    ]);
    const [queue, target] = servers;
    const source =
      options.source === 'pika'
        ? await PikaOrigin.start()
        : await RedisServer.start({ args: [...DURABLE, ...LINKED, ...KEEPS_ALL] });
    const proxies = {
      source: await (source instanceof PikaOrigin ? FaultyProxy.startPair : FaultyProxy.start)(source.port),
      queue: await FaultyProxy.start(queue.port),
      target: await FaultyProxy.start(target.port),
    };
    const replicaLink = await FaultyProxy.start(target.port);
    const dir = mkdtempSync(join(tmpdir(), 'lanegate-chaos-'));
    const scene = new Scene(options, { source, servers, proxies, replicaLink, disks, dir });
    await scene.#followPrimary();
    return scene;
  }

  /** The primary. */
  get target(): RedisServer {
    return this.#pair[0];
  }

  get replica(): RedisServer {
    return this.#pair[1];
  }

  /** undefined where this process may not mount. */
  diskOf(server: RedisServer): SmallDisk | undefined {
    return this.#disks.get(server);
  }

  get pika(): PikaOrigin | undefined {
    return this.source instanceof PikaOrigin ? this.source : undefined;
  }

  /** A source that is not a Pika. */
  get redis(): RedisServer {
    if (this.source instanceof PikaOrigin) throw new Error('the source is a Pika');
    return this.source;
  }

  get sourceUrl(): string {
    const at = `127.0.0.1:${this.proxies.source.port}`;
    if (this.pika) return `pika://${at}?db=${PIKA_DATABASES.join(',')}`;
    return this.options.source === 'redis' ? `redis://${at}` : `redis-stream://${at}?key=binlog`;
  }

  get urls(): string[] {
    const { queue, target } = this.proxies;
    const servers = ['--source', this.sourceUrl, '--queue', queue.url, '--target', target.url];
    return ['--name', NAME, ...servers];
  }

  /** A client of nobody's that fails at once while its server is away. */
  static direct(server: RedisServer): Redis {
    const client = new Redis(server.url, { maxRetriesPerRequest: 1, lazyConnect: true });
    client.on('error', () => {});
    return client;
  }

  /** Sum of the lanes' checkpoints at a server: how far it is. */
  async appliedAt(server: RedisServer): Promise<number> {
    const keys = Array.from({ length: this.options.lanes }, (_, lane) => `lanegate:${NAME}:ck:${lane}`);
    const values = await server.client().mget(...keys);
    return values.reduce((sum, value) => sum + Number(value?.split(':')[1] ?? 0), 0);
  }

  /** The replica takes the primary's place, and what was the primary begins anew as its replica. */
  async failOver(): Promise<void> {
    const [old, successor] = this.#pair;
    await old.kill();
    this.proxies.target.cutAll();
    await successor.client().call('REPLICAOF', 'NO', 'ONE');
    this.#pair.reverse();
    this.proxies.target.retarget(successor.port);
    this.replicaLink.cutAll();
    this.replicaLink.retarget(successor.port);
    await wipe(old);
    await old.restart();
    await this.#followPrimary();
  }

  /** The replica is in step with the primary, or it takes too long. */
  async replicaInStep(timeoutMs: number): Promise<boolean> {
    return await until(
      'the replica follows',
      async () => {
        const [mine, its] = await Promise.all([
          this.target.client().info('replication'),
          this.replica.client().info('replication'),
        ]);
        const offset = (text: string, name: string) =>
          Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(text)?.[1]);
        const behind = offset(mine, 'master_repl_offset') - offset(its, 'slave_repl_offset');
        return its.includes('master_link_status:up') && behind < 4_096;
      },
      timeoutMs,
    ).then(
      () => true,
      () => false,
    );
  }

  /** Everything runs and nothing is in its way; connections that are half-open stay so. */
  async heal(): Promise<void> {
    for (const disk of this.#disks.values()) disk.free();
    for (const proxy of Object.values(this.proxies)) {
      proxy.disarm();
      proxy.unmute();
      proxy.sliceBytes(0);
      proxy.latency(0);
      proxy.refuse(false);
    }
    await this.pika?.heal();
    for (const child of this.crew.members) child.signal('SIGCONT');
    this.crew.topUp();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.crew.dispose();
    const { source, queue, replicaLink, proxies } = this;
    const all = [...Object.values(proxies), replicaLink, source, queue, ...this.#pair];
    for (const one of all) await one[Symbol.asyncDispose]();
    for (const one of this.#disks.values()) await one[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async #followPrimary(): Promise<void> {
    await this.replica.client().replicaof('127.0.0.1', this.replicaLink.port);
  }
}
