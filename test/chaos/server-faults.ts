import { setTimeout as delay } from 'node:timers/promises';
import { aofBytes, loseAofBehind, until, wipe } from '../support/faults.ts';
import type { RedisServer } from '../support/redis-server.ts';
import { between, type Fault, type Stage } from './fault.ts';
import { PREFIX, type Scene } from './scene.ts';

// What happens to servers. Each of them runs again when a fault is over.

const WRITTEN_BYTES = 8_000;
const WRITTEN_MS_MAX = 4_000;

export function serverFaults(scene: Scene): Fault[] {
  return [
    { name: 'source killed', run: ({ scene, next }) => killed(scene.source, next) },
    { name: 'queue killed', run: ({ scene, next }) => killed(scene.queue, next) },
    { name: 'target killed', run: ({ scene, next }) => killed(scene.target, next) },
    { name: 'queue power loss', run: ({ scene }) => powerLoss(scene.queue, { torn: true }) },
    // Torn, Redis 7.0 may run half of a transaction at a later restart, which no client can tell: RELIABILITY.md.
    { name: 'target power loss', run: ({ scene }) => powerLoss(scene.target, { torn: false }) },
    { name: 'queue emptied', run: emptied },
    { name: 'queue replaced by an empty one', run: replaced },
    { name: 'queue out of memory', run: ({ scene, next }) => outOfMemory(scene.queue, next) },
    { name: 'target out of memory', run: ({ scene, next }) => outOfMemory(scene.target, next) },
    { name: 'target read-only', run: readOnly },
    { name: 'target refuses the password', run: wrongPassword },
    { name: 'target failed over to a lagging replica', run: (stage) => failedOver(stage, false) },
    { name: 'queue emptied and target failed over', run: (stage) => failedOver(stage, true) },
    { name: 'faults during recovery', run: duringRecovery },
    ...diskFaults(scene),
  ];
}

async function killed(server: Pick<RedisServer, 'kill' | 'restart'>, next: () => number): Promise<boolean> {
  await server.kill();
  await between(next, 50, 1_500);
  await server.restart();
  return true;
}

async function powerLoss(server: RedisServer, how: { torn: boolean }): Promise<boolean> {
  const bytes = await aofBytes(server);
  await until(
    'something is written',
    async () => (await aofBytes(server)) > bytes + WRITTEN_BYTES,
    WRITTEN_MS_MAX,
  ).catch(() => {});
  await server.kill();
  // Less than before: the log was rewritten meanwhile.
  const lost = (await aofBytes(server)) > bytes ? await loseAofBehind(server, bytes, how) : 0;
  await server.restart();
  return lost > 0;
}

async function emptied({ scene }: Stage): Promise<boolean> {
  return (await scene.queue.client().flushall()) === 'OK';
}

async function replaced({ scene }: Stage): Promise<boolean> {
  await scene.queue.kill();
  await wipe(scene.queue);
  await scene.queue.restart();
  return true;
}

async function refusals(server: RedisServer, code: string): Promise<number> {
  const stats = await server.client().info('errorstats');
  return Number(new RegExp(`^errorstat_${code}:count=(\\d+)`, 'm').exec(stats)?.[1] ?? 0);
}

async function outOfMemory(server: RedisServer, next: () => number): Promise<boolean> {
  const before = await refusals(server, 'OOM');
  await server.client().config('SET', 'maxmemory', '1');
  await between(next, 500, 2_000);
  const after = await refusals(server, 'OOM');
  await server.client().config('SET', 'maxmemory', '0');
  return after > before;
}

async function readOnly({ scene, next }: Stage): Promise<boolean> {
  const { target } = scene;
  const before = await refusals(target, 'READONLY');
  // Of nobody: it keeps its data.
  await target.client().replicaof('127.0.0.1', 1);
  await between(next, 500, 2_000);
  const after = await refusals(target, 'READONLY');
  await target.client().replicaof('NO', 'ONE');
  return after > before;
}

async function wrongPassword({ scene, next }: Stage): Promise<boolean> {
  const { target } = scene;
  const admin = target.client();
  const before = await refusals(target, 'NOAUTH');
  await admin.call('ACL', 'SETUSER', 'chaos', 'on', '>chaos', '~*', '&*', '+@all');
  await admin.auth('chaos', 'chaos');
  try {
    await admin.call('ACL', 'SETUSER', 'default', 'resetpass', '>another');
    await admin.call('CLIENT', 'KILL', 'USER', 'default');
    await between(next, 1_000, 3_000);
    return (await refusals(target, 'NOAUTH')) > before;
  } finally {
    await admin.call('ACL', 'SETUSER', 'default', 'nopass');
  }
}

function diskFaults(scene: Scene): Fault[] {
  if (scene.diskOf(scene.queue) === undefined) return [];
  return [
    { name: 'queue disk full', run: ({ scene: { queue }, next }) => diskFull(scene, queue, next) },
    { name: 'target disk full', run: ({ scene: { target }, next }) => diskFull(scene, target, next) },
  ];
}

async function diskFull(scene: Scene, server: RedisServer, next: () => number): Promise<boolean> {
  const writes = (how: 'ok' | 'err') => async () =>
    (await server.client().info('persistence')).includes(`aof_last_write_status:${how}`);
  const disk = scene.diskOf(server);
  await disk?.fill();
  const hit = await until('it cannot write', writes('err'), WRITTEN_MS_MAX).catch(() => false);
  await between(next, 300, 1_500);
  disk?.free();
  await until('it writes again', writes('ok'));
  await rewriteAof(server);
  return hit;
}

/**
 * Redis 7.0.15 takes back what it wrote of a command when the disk was full, but goes on behind it where the file was made by
 * a rewrite: a hole of NULs, which its next start refuses.
 */
async function rewriteAof(server: RedisServer): Promise<void> {
  const redis = server.client();
  const rewrites = async () => /^aof_rewrites:(\d+)/m.exec(await redis.info('persistence'))?.[1];
  const before = await rewrites();
  // Refused while one is under way, which began before.
  await until(
    'a rewrite begins',
    async () => (await redis.bgrewriteaof().catch(() => undefined)) !== undefined,
  );
  await until('its log is written anew', async () => {
    const isDone = (await redis.info('persistence')).includes('aof_rewrite_in_progress:0');
    return isDone && (await rewrites()) !== before;
  });
}

/** The replica has not heard from the target for a while when it takes its place. */
async function failedOver({ scene, next }: Stage, queueToo: boolean): Promise<boolean> {
  if (!(await scene.replicaInStep(WRITTEN_MS_MAX))) return false;
  scene.replicaLink.halfOpen();
  await between(next, 500, 2_500);
  const [ahead, behind] = await Promise.all([scene.appliedAt(scene.target), scene.appliedAt(scene.replica)]);
  if (queueToo) await scene.queue.client().flushall();
  await scene.failOver();
  return behind > 0 && behind < ahead;
}

async function duringRecovery({ scene, next }: Stage): Promise<boolean> {
  const journal = () => scene.queue.client().hget(`${PREFIX}:journal`, 'id');
  const before = await journal();
  await scene.queue.client().flushall();
  await Promise.race([
    until('a journal is made anew', async () => {
      const now = await journal();
      return now !== null && now !== before;
    }).catch(() => {}),
    between(next, 0, 2_000),
  ]);
  await Promise.all(scene.crew.members.map((child) => scene.crew.kill(child)));
  scene.crew.topUp();
  await delay(next() * 800);
  await killed(scene.target, next);
  for (const proxy of Object.values(scene.proxies)) proxy.cutAll();
  await delay(next() * 500);
  await killed(scene.queue, next);
  return true;
}
