import { setTimeout as delay } from 'node:timers/promises';
import { Queue } from 'bullmq';
import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { Feed, until } from '../support/faults.ts';
import { Pipeline } from '../support/pipeline.ts';
import { logWorkload } from '../support/workload.ts';

// I8: whatever is taken away in the queue's Redis by hand or by Bull Board, the pipeline moves again by itself; and
// because order and safety never rested on it, nothing is lost or applied twice.

const PREFIX = '{lanegate-test}';
const LANES = 4;

interface Hand {
  readonly redis: Redis;
  readonly lane: (lane: number) => Queue;
  readonly gate: Queue;
  readonly ingest: Queue;
  /** SIGKILL of the holder of ingest, and a new process instead. */
  readonly kill: () => Promise<void>;
}

async function removeAll(queue: Queue): Promise<void> {
  for (const job of await queue.getJobs(['waiting', 'waiting-children', 'prioritized', 'failed'])) {
    // Some are at work by now.
    await job?.remove().catch(() => {});
  }
}

const DEEDS: readonly { readonly what: string; readonly deed: (hand: Hand) => Promise<void> }[] = [
  {
    what: 'the lane queues are obliterated',
    deed: async ({ lane }) => {
      for (let at = 0; at < LANES; at++) await lane(at).obliterate({ force: true });
    },
  },
  {
    what: 'the lane queues are drained and the jobs in them removed',
    deed: async ({ lane }) => {
      for (let at = 0; at < LANES; at++) {
        await lane(at).drain();
        await removeAll(lane(at));
      }
    },
  },
  {
    what: 'the gate queue is obliterated, with the parents of all flows',
    deed: async ({ gate }) => {
      await removeAll(gate);
      await gate.obliterate({ force: true });
    },
  },
  {
    what: 'the ingest job is removed while it is at work',
    deed: async ({ ingest }) => {
      await ingest.obliterate({ force: true });
    },
  },
  {
    what: 'meta of every queue is deleted: concurrency and pauses are gone',
    deed: async ({ redis }) => {
      for (let at = 0; at < LANES; at++) await redis.del(`${PREFIX}:lane-${at}:meta`);
      await redis.del(`${PREFIX}:gate:meta`, `${PREFIX}:ingest:meta`);
    },
  },
  {
    what: 'global concurrency is set to 5',
    deed: async ({ lane, ingest }) => {
      for (let at = 0; at < LANES; at++) await lane(at).setGlobalConcurrency(5);
      await ingest.setGlobalConcurrency(5);
    },
  },
  {
    what: 'lanes are paused and resumed through BullMQ, whatever the gates do',
    deed: async ({ lane, gate }) => {
      for (let round = 0; round < 10; round++) {
        await gate.pause();
        for (let at = 0; at < LANES; at++) await lane((at + round) % LANES).pause();
        for (let at = 0; at < LANES; at++) await lane(at).resume();
        await gate.resume();
      }
    },
  },
  {
    what: 'the hash of the waiting and active jobs is deleted, their ids stay behind',
    deed: async ({ redis }) => {
      for (let at = 0; at < LANES; at++) {
        const key = `${PREFIX}:lane-${at}`;
        const ids = [
          ...(await redis.lrange(`${key}:wait`, 0, -1)),
          ...(await redis.lrange(`${key}:active`, 0, -1)),
        ];
        if (ids.length > 0) await redis.del(...ids.map((id) => `${key}:${id}`));
      }
    },
  },
  {
    what: 'the lists of waiting and active jobs are deleted, their hashes and deduplication ids stay behind',
    deed: async ({ redis }) => {
      for (let at = 0; at < LANES; at++) {
        const key = `${PREFIX}:lane-${at}`;
        await redis.del(`${key}:wait`, `${key}:active`, `${key}:marker`);
      }
    },
  },
  {
    what: 'the ingest job is cut in half, and its holder is killed',
    deed: async ({ redis, kill }) => {
      await redis.del(`${PREFIX}:ingest:wait`, `${PREFIX}:ingest:active`);
      await kill();
    },
  },
  {
    what: 'the lists of jobs are something else for a while, so that no job can be added',
    deed: async ({ redis }) => {
      for (let at = 0; at < LANES; at++) {
        await redis.del(`${PREFIX}:lane-${at}:wait`);
        await redis.set(`${PREFIX}:lane-${at}:wait`, 'not a list');
      }
      await delay(400);
      for (let at = 0; at < LANES; at++) await redis.del(`${PREFIX}:lane-${at}:wait`);
    },
  },
  {
    what: 'part of the journal is deleted: the gates, then a lane log',
    deed: async ({ redis }) => {
      await redis.del(`${PREFIX}:gate-commands`);
      await delay(400);
      await redis.del(`${PREFIX}:log:1`);
    },
  },
  {
    what: 'a lane log holds an item that the head does not know, as after half of a commit',
    deed: async ({ redis }) => {
      const head = Number(await redis.hget(`${PREFIX}:journal`, 'head'));
      const [last] = await redis.xrevrange(`${PREFIX}:log:1`, '+', '-', 'COUNT', 1);
      const words = String(last?.[1][1]).split(' ');
      // Far enough away that no lane can take it for its next one.
      words.splice(2, 2, String(head + 50_000), String(head + 50_001));
      await redis.xadd(`${PREFIX}:log:1`, `${head + 50_001}-0`, 'h', words.join(' '));
    },
  },
  {
    what: 'the records of pauses are deleted while the flags stay',
    deed: async ({ redis }) => {
      for (let at = 0; at < LANES; at++) await redis.hset(`${PREFIX}:lane-${at}:meta`, 'paused', 'gate');
      await redis.del(`${PREFIX}:pauses`);
    },
  },
];

describe('I8: what is removed by hand in the queue is made good', () => {
  for (const [half, deeds] of [DEEDS.slice(0, 7), DEEDS.slice(7)].entries()) {
    test(deeds.map(({ what }) => what).join('; '), async () => {
      await using pipeline = await Pipeline.start({ lanes: LANES });
      const workload = { commands: 4000, global: 15, crossing: 80, seed: 801 + half };
      const feed = new Feed(pipeline, await logWorkload(pipeline.oracle.client(), workload));
      pipeline.worker();
      pipeline.worker();
      await feed.while(0.1, () =>
        until('work is done', async () => ((await pipeline.counters()).applied ?? 0) > 50),
      );
      const redis = pipeline.queue.client().duplicate({ maxRetriesPerRequest: null });
      const made = new Map<string, Queue>();
      const queue = (name: string) => {
        const known = made.get(name) ?? new Queue(name, { connection: redis, prefix: PREFIX });
        made.set(name, known);
        return known;
      };
      const hand: Hand = {
        redis,
        lane: (lane) => queue(`lane-${lane}`),
        gate: queue('gate'),
        ingest: queue('ingest'),
        kill: async () => {
          const holder = String(await redis.hget(`${PREFIX}:journal`, 'holder'));
          const found = pipeline.workers.find(({ process }) => holder.includes(`-${process.pid}-`));
          await found?.kill();
          pipeline.worker();
        },
      };
      try {
        for (const { what, deed } of deeds) {
          await feed.while(0.85 / deeds.length, () => deed(hand));
          await pipeline.caughtUp(20_000).catch((error: unknown) => {
            throw new Error(`when ${what}`, { cause: error });
          });
        }
        await feed.rest();
        await pipeline.caughtUp();
        expect(await pipeline.differences()).toEqual([]);
      } finally {
        for (const each of made.values()) await each.close();
        redis.disconnect();
      }
    });
  }
});
