import { describeJob } from '../../processors/jobs.ts';
import { QueueSet } from '../../queues/queue-set.ts';
import { Children } from '../demo/children.ts';
import { liveTraffic } from '../demo/live-traffic.ts';
import { applyNaively } from '../demo/naive.ts';
import { compareOutcomes, type Outcome, readOutcomes } from '../demo/outcome.ts';
import { DemoPipeline, PIPELINE } from '../demo/pipeline.ts';
import { applyOneByOne } from '../demo/reference.ts';
import { type DemoServers, startServers } from '../demo/servers.ts';
import { rounds } from '../demo/workload.ts';
import { JournalKeys } from '../journal/keys.ts';
import { type Board, startBoard } from '../roles/board.ts';
import type { CommandContext } from './context.ts';
import { type DemoResult, DemoStory } from './demo-view.ts';

const LANES = 8;
const ROUNDS = 1000;

export async function demo(context: CommandContext): Promise<number> {
  const hangup = new AbortController();
  // A terminal that is closed must not leave the servers behind.
  const onHangup = () => hangup.abort();
  process.on('SIGHUP', onHangup);
  const children = new Children();
  try {
    const signal = AbortSignal.any([context.signal, hangup.signal]);
    return await onServers({ ...context, signal }, children);
  } finally {
    await children.close();
    process.removeListener('SIGHUP', onHangup);
  }
}

async function onServers(context: CommandContext, children: Children): Promise<number> {
  const { config, stdout, stderr, signal } = context;
  const lanes = config.lanes ?? LANES;
  const beganMs = performance.now();
  const story = new DemoStory(config.json ? stderr : stdout, config.rounds ?? ROUNDS);
  story.begin(config.rounds ?? ROUNDS, lanes);
  const servers = await startServers(children, signal);
  const pipeline = new DemoPipeline({ children, servers, lanes, graceMs: config.graceMs });
  try {
    const show: Show = { context, servers, pipeline, lanes, story };
    const result = await compare(show, beganMs);
    story.end(result);
    if (config.json) stdout.write(`${JSON.stringify(contractOf(result))}\n`);
    if (config.serve) await serve(show);
    return result.lanegate.rounds === 0 ? 0 : 1;
  } finally {
    await pipeline.close();
  }
}

interface Show {
  readonly context: CommandContext;
  readonly servers: DemoServers;
  readonly pipeline: DemoPipeline;
  readonly lanes: number;
  readonly story: DemoStory;
}

/** One after the other, so that they do not take each other's processor time. */
async function compare(show: Show, beganMs: number): Promise<DemoResult> {
  const { context, servers, pipeline, lanes, story } = show;
  const { config, signal } = context;
  const count = config.rounds ?? ROUNDS;

  const one = story.phase('one by one');
  await applyOneByOne(servers.reference, rounds(0, count), signal);
  one.end();
  const reference = await readOutcomes(servers.reference, count);

  const ungated = story.phase('lanes without a gate');
  await applyNaively({ target: servers.naive, lanes, log: rounds(0, count), signal });
  const naive = { ms: ungated.end(), ...(await judge(reference, servers.naive)) };

  const gated = story.phase('lanegate, 2 workers');
  const { gates, kills } = await pipeline.apply({
    rounds: count,
    onProgress: (applied) => gated.progress(applied),
    onKill: (text) => gated.note(text),
    signal,
  });
  const lanegate = { ms: gated.end(), gates, kills, ...(await judge(reference, servers.target)) };

  const seconds = Math.round((performance.now() - beganMs) / 100) / 10;
  return { rounds: count, naive, lanegate, seconds };
}

async function judge(reference: readonly Outcome[], server: DemoServers['target']) {
  return compareOutcomes(reference, await readOutcomes(server, reference.length));
}

/** What `--json` promises. */
function contractOf({ rounds: count, naive, lanegate, seconds }: DemoResult) {
  const { gates, kills } = lanegate;
  return {
    rounds: count,
    naive: { divergedRounds: naive.rounds },
    lanegate: { divergedRounds: lanegate.rounds, gates, kills },
    seconds,
  };
}

/** Live traffic and the board until a signal. */
async function serve({ context, servers, pipeline, lanes, story }: Show): Promise<void> {
  const { config, signal } = context;
  const queues = new QueueSet(pipeline.redis, new JournalKeys(PIPELINE));
  let board: Board | undefined;
  try {
    if (config.boardPort !== 0) {
      board = await startBoard({
        host: config.boardHost,
        port: config.boardPort,
        findFreePort: true,
        write: config.boardWrite,
        user: config.boardUser,
        password: config.boardPassword,
        queues: [...queues.lanes(lanes), queues.gate, queues.ingest],
        describeJob,
        status: () => pipeline.observer.status(),
        ready: () => pipeline.observer.ready(),
        log: context.log,
      });
    }
    const pids = pipeline.workers.map(({ pid }) => pid);
    const where = `--name ${PIPELINE} --queue ${servers.queue.display} --target ${servers.target.display}`;
    story.serving(board?.url, [
      `npx lanegate status --watch ${where}`,
      `echo 'SET hello world' | npx lanegate append --source '${pipeline.sourceUrl}'`,
      `redis-cli -p ${servers.target.port} get hello`,
      `kill -9 ${pids[0]}    # the other worker goes on, a new one is started`,
    ]);
    const onTick = () => {
      for (const text of pipeline.replaceEnded()) story.say(text);
    };
    await liveTraffic(pipeline.writer, onTick, signal);
  } finally {
    story.say('\nStopping: the workers finish what they have begun.');
    await board?.close();
    await queues.close();
  }
}
