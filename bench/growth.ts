// How cost grows: with lanes, worker processes, the size of values, pipelines on one queue, and a large backlog.
//
// Workers wait at an empty stream. What was filled before is then released into it by the source itself, a few MiB a
// step, and the clock runs until all of it is applied: neither Node's start nor the filling is in it. Each way is
// measured once in turn, then all of them again: a machine's speed drifts. The figure is the median.

import { RedisServer } from '../test/support/redis-server.ts';
import { ceilingOnce, type SetLoad } from './ceiling.ts';
import { drainOnce, ONE } from './drain.ts';
import { median, type Spread, spreadOf } from './figures.ts';
import { cpuPerCommand, type Pipeline } from './pipeline.ts';
import { Probe } from './probe.ts';
import { say } from './say.ts';
import { type Bench, type Filled, KEYSPACE, LANES, NAME, startQueue } from './support.ts';
import { fillSets } from './workload.ts';

const LANE_COUNTS = [1, 2, 4, 8, 16, 64] as const;
const WORKER_COUNTS = [1, 2, 3, 4] as const;
const PIPELINE_COUNTS = [1, 2, 4, 8] as const;
/** Bytes of the value, and how many of them make a run; less with fewer `--commands`. */
const VALUES = [
  { label: '10 B', valueBytes: 10, commands: 500_000 },
  { label: '100 B', valueBytes: 100, commands: 500_000 },
  { label: '1 KiB', valueBytes: 1_024, commands: 200_000 },
  { label: '64 KiB', valueBytes: 65_536, commands: 4_000 },
  { label: '1 MiB', valueBytes: 1_048_576, commands: 256 },
] as const;
const COMMANDS = 500_000;
const BACKLOG = { bytes: 2 ** 30, valueBytes: 1_024, keyspace: 100_000 };
/** `--commands` at which all of this has its full size. */
const FULL_SIZE_COMMANDS = 2_000_000;
const RUNS_MAX = 2;
/** Filled once and released as often as wanted, by several pipelines in parts. */
const RESERVE = 'binlog-reserve';
const PARTS = 8;
const RELEASE_BYTES = 4 * 1024 * 1024;
const SINGLE_PROBES = 300;
const SINGLE_WARM_UP = 50;

/** Copies up to ARGV[2] entries behind ARGV[1] of KEYS[1] to the end of KEYS[2]; the last one's id, or nothing. */
const RELEASE = `
local last = false
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  redis.call('XADD', KEYS[2], '*', unpack(entry[2]))
  last = entry[1]
end
return last`;

export interface GrowthPoint {
  readonly label: string;
  readonly perSecond: number;
  readonly perSecondOfRuns: readonly number[];
  readonly bytesPerSecond: number;
  /** redis-benchmark with values of this size in the same run. */
  readonly ceilingPerSecond: number;
  /** Of all worker processes together, and of the queue's server, us. */
  readonly workersUsPerCommand: number;
  readonly queueUsPerCommand: number;
  /** Of the largest worker, and of the queue's server. */
  readonly workerRssBytes: number;
  readonly queueRssBytes: number;
  /** One command at a time, from XADD to visible; only of lanes. */
  readonly single?: Spread;
}

export interface Growth {
  readonly commands: number;
  readonly runs: number;
  readonly seconds: number;
  readonly lanes: readonly GrowthPoint[];
  readonly workers: readonly GrowthPoint[];
  readonly values: readonly GrowthPoint[];
  readonly pipelines: readonly GrowthPoint[];
  readonly backlog: {
    readonly bytes: number;
    readonly perSecond: number;
    readonly bytesPerSecond: number;
    readonly peakRssBytes: Readonly<Record<string, number>>;
    readonly queueUsedPeakBytes: number;
  };
}

interface Way {
  readonly label: string;
  readonly lanes?: number;
  readonly workers?: number;
  readonly pipelines?: number;
  readonly single?: boolean;
}

export async function growthOnce(bench: Bench): Promise<Growth> {
  const startedMs = performance.now();
  const scale = Math.min(1, bench.settings.commands / FULL_SIZE_COMMANDS);
  const commands = scaled(COMMANDS, scale);
  const runs = Math.min(RUNS_MAX, bench.settings.runs);
  say(`growth: ${commands} commands`);
  const reserve = await fillParts(bench, commands);
  const load = { commands };
  const lanes = LANE_COUNTS.map((count) => ({ label: String(count), lanes: count, single: true }));
  const workers = WORKER_COUNTS.map((count) => ({ label: String(count), workers: count }));
  const pipelines = PIPELINE_COUNTS.map((count) => ({ label: String(count), pipelines: count }));
  const figures = {
    lanes: await pointsOf(bench, reserve, lanes, load, runs),
    workers: await pointsOf(bench, reserve, workers, load, runs),
    pipelines: await pointsOf(bench, reserve, pipelines, load, runs),
    values: await valuePoints(bench, scale, runs),
    backlog: await backlogOnce(bench, scale),
  };
  return { commands, runs, seconds: (performance.now() - startedMs) / 1000, ...figures };
}

/** Each part has keys of its own, so that all of them together are known. */
async function fillParts(bench: Bench, commands: number): Promise<Filled[]> {
  const keyspace = KEYSPACE / PARTS;
  const parts: Filled[] = [];
  for (let i = 0; i < PARTS; i++) {
    const keys = { keyspace, keysFrom: i * keyspace };
    parts.push(await fillSets(bench, `${RESERVE}-${i}`, commands / PARTS, keys));
  }
  return parts;
}

async function valuePoints(bench: Bench, scale: number, runs: number): Promise<GrowthPoint[]> {
  const points: GrowthPoint[] = [];
  for (const { label, valueBytes, commands } of VALUES) {
    const load = { commands: scaled(commands, scale), valueBytes };
    const filled = await fillSets(bench, RESERVE, load.commands, { valueBytes });
    points.push(...(await pointsOf(bench, [filled], [{ label }], load, runs)));
    await bench.source.client().del(RESERVE);
  }
  return points;
}

/** A backlog that is many times larger than what a process may hold: workers start behind it. */
async function backlogOnce(bench: Bench, scale: number): Promise<Growth['backlog']> {
  const { bytes, valueBytes, keyspace } = BACKLOG;
  const filled = await fillSets(bench, RESERVE, scaled(bytes / valueBytes, scale), { valueBytes, keyspace });
  const run = await drainOnce(bench, filled, ONE);
  await bench.source.client().del(RESERVE);
  await bench.target.client().flushall('SYNC');
  return {
    bytes: filled.bytes,
    perSecond: run.perSecond,
    bytesPerSecond: filled.bytes / run.seconds,
    peakRssBytes: run.peakRssBytes,
    queueUsedPeakBytes: run.queueUsedPeakBytes,
  };
}

async function pointsOf(
  bench: Bench,
  reserve: readonly Filled[],
  ways: readonly Way[],
  load: SetLoad,
  runs: number,
): Promise<GrowthPoint[]> {
  const ceilings: number[] = [];
  const measured = ways.map((): Released[] => []);
  for (let i = 0; i < runs; i++) {
    ceilings.push(await ceilingOnce(bench, load));
    for (const [at, way] of ways.entries()) measured[at]?.push(await releasedOnce(bench, reserve, way));
  }
  return ways.map((way, at) => pointOf(way, measured[at] ?? [], median(ceilings)));
}

type Released = Omit<GrowthPoint, 'perSecondOfRuns' | 'ceilingPerSecond' | 'label'>;

function pointOf({ label }: Way, runs: readonly Released[], ceilingPerSecond: number): GrowthPoint {
  const of = (figure: (run: Released) => number) => median(runs.map(figure));
  const [single] = runs.flatMap((run) => run.single ?? []).sort((a, b) => a.p50Ms - b.p50Ms);
  return {
    label,
    ceilingPerSecond,
    perSecond: of((run) => run.perSecond),
    perSecondOfRuns: runs.map((run) => run.perSecond),
    bytesPerSecond: of((run) => run.bytesPerSecond),
    workersUsPerCommand: of((run) => run.workersUsPerCommand),
    queueUsPerCommand: of((run) => run.queueUsPerCommand),
    workerRssBytes: Math.max(...runs.map((run) => run.workerRssBytes)),
    queueRssBytes: Math.max(...runs.map((run) => run.queueRssBytes)),
    ...(single === undefined ? {} : { single }),
  };
}

async function releasedOnce(bench: Bench, reserve: readonly Filled[], way: Way): Promise<Released> {
  const { lanes = LANES, workers = 1, pipelines: count = 1, single = false } = way;
  await using queue = await startQueue();
  await using pipelines = new Pipelines();
  for (let i = 0; i < count; i++) {
    const pipeline = await pipelines.add(bench, i, { lanes, queue });
    for (let n = 0; n < workers; n++) pipeline.startWorker({ label: `worker-${i}-${n}` });
  }
  for (const pipeline of pipelines.all) await pipeline.untilReady();
  const work = pipelines.all.map((pipeline, at) => {
    const share = reserve.slice((reserve.length / count) * at, (reserve.length / count) * (at + 1));
    return { pipeline, share };
  });
  const commands = total(reserve, (filled) => filled.commands);
  const before = pipelines.all.map((pipeline) => pipeline.cpu());
  const startedMs = performance.now();
  await Promise.all([
    ...work.map(({ pipeline, share }) => release(bench, share, pipeline.key)),
    ...work.map(({ pipeline, share }) => pipeline.untilApplied(total(share, (filled) => filled.seqs))),
  ]);
  const seconds = (performance.now() - startedMs) / 1000;
  const costs = pipelines.all.map((one, at) => cpuPerCommand(before[at] ?? {}, one.cpu(), commands));
  for (const { pipeline, share } of work) await pipeline.check(total(share, (filled) => filled.keys ?? 0));
  const [first] = pipelines.all;
  if (first === undefined) throw new Error('no pipeline');
  const spread = single ? await oneByOne(first) : undefined;
  for (const { key } of pipelines.all) await bench.source.client().del(key);
  const memory = pipelines.all.flatMap((pipeline) => Object.entries(pipeline.memory()));
  const isWorker = ([label]: readonly [string, number]) => label.startsWith('worker');
  const result = {
    perSecond: commands / seconds,
    bytesPerSecond: total(reserve, (filled) => filled.bytes) / seconds,
    workersUsPerCommand: sum(costs.flatMap((cost) => Object.entries(cost).filter(isWorker))),
    queueUsPerCommand: costs[0]?.queue ?? 0,
    workerRssBytes: Math.max(...memory.filter(isWorker).map(([, bytes]) => bytes)),
    queueRssBytes: Math.max(...memory.filter((one) => !isWorker(one)).map(([, bytes]) => bytes)),
  };
  say(
    `lanes ${lanes}, workers ${workers}, pipelines ${count}, ${way.label}: ${(result.perSecond / 1000).toFixed(1)} k/s`,
  );
  return spread === undefined ? result : { ...result, single: spread };
}

async function oneByOne(pipeline: Pipeline): Promise<Spread> {
  await using probe = new Probe(pipeline);
  for (let i = 0; i < SINGLE_WARM_UP; i++) await probe.probe();
  const latencies: number[] = [];
  for (let i = 0; i < SINGLE_PROBES; i++) latencies.push(await probe.probe());
  return spreadOf(latencies);
}

/** Appends what is in the reserve to `key`. */
async function release(bench: Bench, reserve: readonly Filled[], key: string): Promise<void> {
  const source = bench.source.client();
  for (const filled of reserve) {
    const entries = await source.xlen(filled.key);
    const count = Math.max(1, Math.floor((entries * RELEASE_BYTES) / filled.bytes));
    let last: unknown = '0-0';
    do last = await source.eval(RELEASE, 2, filled.key, key, String(last), count);
    while (last !== null);
  }
}

/** Each has a target of its own, because a target takes no second pipeline; the first one has the bench's. */
class Pipelines implements AsyncDisposable {
  readonly all: Pipeline[] = [];
  readonly #targets: RedisServer[] = [];

  async add(bench: Bench, at: number, to: { lanes: number; queue: RedisServer }): Promise<Pipeline> {
    const key = `binlog-released-${at}`;
    await bench.source.client().del(key);
    let target = bench.target;
    if (at === 0) await target.client().flushall('SYNC');
    else {
      target = await RedisServer.start();
      this.#targets.push(target);
    }
    const pipeline = await bench.pipelineOn(key, { ...to, name: `${NAME}-${at}`, target });
    this.all.push(pipeline);
    return pipeline;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((pipeline) => pipeline[Symbol.asyncDispose]()));
    await Promise.all(this.#targets.map((target) => target[Symbol.asyncDispose]()));
  }
}

/** A multiple of the parts, and enough to tell something. */
function scaled(full: number, scale: number): number {
  return Math.max(PARTS, Math.ceil((full * scale) / PARTS) * PARTS);
}

function total(reserve: readonly Filled[], of: (filled: Filled) => number): number {
  return reserve.reduce((all, filled) => all + of(filled), 0);
}

function sum(entries: readonly (readonly [string, number])[]): number {
  return entries.reduce((all, [, value]) => all + value, 0);
}
