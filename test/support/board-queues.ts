import { Queue } from 'bullmq';
import type { RedisServer } from './redis-server.ts';

/** Plain BullMQ queues under the names of a pipeline with `lanes` lanes. */
export class BoardQueues implements AsyncDisposable {
  readonly all: readonly Queue[];

  private constructor(all: readonly Queue[]) {
    this.all = all;
  }

  static async create(redis: RedisServer, lanes: number): Promise<BoardQueues> {
    const names = [...Array.from({ length: lanes }, (_, lane) => `lane-${lane}`), 'gate', 'ingest'];
    const queues = names.map(
      (name) =>
        new Queue(name, {
          prefix: '{lanegate-default}',
          connection: { host: '127.0.0.1', port: redis.port },
        }),
    );
    await Promise.all(queues.map((queue) => queue.waitUntilReady()));
    return new BoardQueues(queues);
  }

  named(name: string): Queue {
    const queue = this.all.find((candidate) => candidate.name === name);
    if (queue === undefined) throw new Error(`no queue ${name}`);
    return queue;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((queue) => queue.close()));
  }
}

/** Stands in for the project's own formatter of job data. */
export function describeJob(queueName: string, data: unknown): string {
  const { from, to, commands, ms } = data as { from: number; to: number; commands: number; ms?: number };
  if (to === undefined) throw new Error('not a job of lanegate');
  const took = ms === undefined ? '' : `, ${ms} ms`;
  return `${queueName.replace('-', ' ')}: seq ${from}..${to}, ${commands} commands, 11 KiB${took}`;
}
