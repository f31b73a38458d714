import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { QueueSet } from '../../queues/queue-set.ts';
import { Journal } from '../../src/journal/journal.ts';
import { Records } from '../../src/journal/records.ts';
import { Operator, type Place } from '../../src/roles/operator.ts';
import { until } from '../support/faults.ts';
import type { WorkerChild } from '../support/pipeline.ts';
import { between, type Fault, pick, type Stage } from './fault.ts';
import { LOCK_MS, NAME, PREFIX, type Scene } from './scene.ts';

// What happens to workers and by the hands of operators.

const REACHED_MS_MAX = 12_000;
const HOLDER_TRIES = 4;
/** The lock runs out, and two sweeps of the stalled check later the job is another's. */
const ASLEEP_MS = LOCK_MS + 2 * 1_000 + 1_000;

const DEADLY = [
  'before-commit',
  'after-commit-before-announce',
  'between-multi-and-exec',
  'after-exec-before-reply',
  'after-exec-before-finish',
  'gate-after-pause',
  'gate-after-exec',
  'gate-after-exec-before-resume',
  'gate-after-resume',
] as const;
const SLEEPY = ['between-multi-and-exec', 'gate-after-pause', 'before-commit'] as const;

export function processFaults(): Fault[] {
  return [
    { name: 'worker killed', run: workerKilled },
    { name: 'all workers killed', run: allKilled },
    { name: 'worker stopped for longer than its lock', run: asleep },
    { name: 'rolling restart', run: rollingRestart },
    { name: 'operator pauses and resumes', run: operatorPauses },
    { name: 'jobs retried by hand', run: jobsRetried },
    { name: 'queue emptied, killed at during-rebuild', run: diesInRebuild },
    ...DEADLY.map((at): Fault => ({ name: `killed at ${at}`, run: (stage) => diesAt(stage, at) })),
    ...SLEEPY.map((at): Fault => ({ name: `zombie at ${at}`, run: (stage) => sleepsAt(stage, at) })),
  ];
}

async function workerKilled({ scene, next }: Stage): Promise<boolean> {
  const child = pick(scene.crew.members, next);
  if (child) await scene.crew.kill(child);
  await between(next, 0, 500);
  scene.crew.topUp();
  return child !== undefined;
}

async function allKilled({ scene, next }: Stage): Promise<boolean> {
  const { members } = scene.crew;
  await Promise.all(members.map((child) => scene.crew.kill(child)));
  await between(next, 0, 500);
  scene.crew.topUp();
  return members.length > 0;
}

async function asleep({ scene, next }: Stage): Promise<boolean> {
  const child = pick(scene.crew.members, next);
  child?.signal('SIGSTOP');
  await delay(ASLEEP_MS);
  child?.signal('SIGCONT');
  return child?.running ?? false;
}

async function rollingRestart({ scene }: Stage): Promise<boolean> {
  const { members } = scene.crew;
  for (const child of members) {
    scene.crew.add();
    await scene.crew.retire(child);
  }
  return members.length > 0;
}

/** A new worker with a failpoint takes the place of another one. */
async function plant({ scene, next }: Stage, failpoint: string): Promise<WorkerChild> {
  const child = scene.crew.add(failpoint);
  const old = pick(
    scene.crew.members.filter((member) => member !== child),
    next,
  );
  if (old) await scene.crew.retire(old);
  return child;
}

async function happens(what: string, probe: () => boolean): Promise<boolean> {
  return await until(what, probe, REACHED_MS_MAX).catch(() => false);
}

/** Every worker may be the one: who holds ingest, or arrives last at a gate, is not ours to choose. */
async function diesAt({ scene, guards, next }: Stage, at: string): Promise<boolean> {
  const before = scene.crew.members;
  const armed = before.map(() => scene.crew.add(`${at}=kill@${1 + Math.floor(next() * 3)}`));
  await Promise.all(before.map((child) => scene.crew.kill(child)));
  const hit = await happens(`a worker dies at ${at}`, () => armed.some(({ reached }) => reached.length > 0));
  const gate = hit && at.startsWith('gate-') ? await guards.abandonedGate(scene) : undefined;
  await Promise.all(armed.map((child) => scene.crew.kill(child)));
  scene.crew.topUp();
  if (gate) await guards.gateGoesOn(scene, gate);
  return hit;
}

async function sleepsAt(stage: Stage, at: string): Promise<boolean> {
  const child = await plant(stage, `${at}=stop@${1 + Math.floor(stage.next() * 3)}`);
  if (at === 'before-commit') await makeHolder(stage.scene, child);
  const hit = await happens(`a worker falls asleep at ${at}`, () => child.reached.length > 0);
  if (hit) await delay(ASLEEP_MS);
  child.signal('SIGCONT');
  if (!hit) await stage.scene.crew.retire(child);
  stage.scene.crew.topUp();
  return hit && child.running;
}

/** Whoever else holds ingest is killed, a few times. */
async function makeHolder(scene: Scene, child: WorkerChild): Promise<void> {
  const pid = ({ process }: WorkerChild) => `-${process.pid}-`;
  for (let tries = 0; tries < HOLDER_TRIES; tries++) {
    const holder = await until(
      'somebody alive holds ingest',
      async () => {
        const id = await scene.queue.client().hget(`${PREFIX}:journal`, 'holder');
        return scene.crew.members.find((member) => id?.includes(pid(member)));
      },
      REACHED_MS_MAX,
    ).catch(() => undefined);
    if (holder === undefined || holder === child) return;
    await scene.crew.kill(holder);
    scene.crew.topUp();
  }
}

async function diesInRebuild({ scene }: Stage): Promise<boolean> {
  await Promise.all(scene.crew.members.map((child) => scene.crew.kill(child)));
  await scene.queue.client().flushall();
  const child = scene.crew.add('during-rebuild=kill');
  await happens('a worker dies in the rebuild', () => !child.running);
  const hit = child.reached.length > 0;
  await scene.crew.kill(child);
  scene.crew.topUp();
  return hit;
}

async function asOperator<T>(
  scene: Scene,
  act: (operator: Operator, queues: QueueSet) => Promise<T>,
): Promise<T> {
  const redis = new Redis(scene.queue.url, { maxRetriesPerRequest: null });
  redis.on('error', () => {});
  const journal = new Journal(NAME, redis);
  const queues = new QueueSet(redis, journal.keys);
  const records = new Records(redis, journal.keys);
  try {
    return await act(new Operator({ redis, journal, records, queues, by: 'chaos', now: Date.now }), queues);
  } finally {
    await queues.close();
    redis.disconnect();
  }
}

function places({ options }: Scene): Place[] {
  const lanes = Array.from({ length: options.lanes }, (_, lane): Place => ({ kind: 'lane', lane }));
  return [...lanes, { kind: 'gate' }, { kind: 'ingest' }];
}

async function operatorPauses({ scene, next }: Stage): Promise<boolean> {
  return await asOperator(scene, async (operator) => {
    const held = places(scene).filter(() => next() < 0.4);
    for (const place of held) await operator.pause(place, 'chaos');
    await between(next, 300, 1_500);
    for (const place of held) await operator.resume(place);
    return held.length > 0;
  });
}

/** Whatever an operator held goes on. */
export async function resumeAll(scene: Scene): Promise<void> {
  await asOperator(scene, async (operator) => {
    for (const place of places(scene)) await operator.resume(place);
  });
}

async function jobsRetried({ scene, next }: Stage): Promise<boolean> {
  return await asOperator(scene, async (_, queues) => {
    let retried = 0;
    for (let round = 0; round < 5; round++) {
      const all = [
        ...Array.from({ length: scene.options.lanes }, (__, lane) => queues.lane(lane)),
        queues.gate,
      ];
      for (const queue of all) {
        for (const job of await queue.getJobs(['completed', 'failed'], 0, 3)) {
          const state = await job?.getState().catch(() => 'unknown');
          if (state !== 'completed' && state !== 'failed') continue;
          // It may be gone by now, or its deduplication id taken.
          retried += await job.retry(state).then(
            () => 1,
            () => 0,
          );
        }
      }
      await between(next, 50, 250);
    }
    return retried > 0;
  });
}
