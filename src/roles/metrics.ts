import { Counter, Gauge, Registry } from 'prom-client';
import type { LaneStatus, PipelineStatus } from '../status.ts';

const STATES = ['running', 'waiting', 'stopped'] as const;

const COUNTERS = {
  applied: ['applied', 'Commands applied to the target.'],
  gates: ['gates', 'Gates that were passed.'],
  fenced: ['fenced', 'Attempts of an outdated owner that the fence turned away.'],
  duplicatesDropped: ['duplicates_dropped', 'Commands delivered again and not applied again.'],
  retries: ['retries', 'Attempts repeated after a transient error.'],
  divergences: ['divergences', 'Commands that the target answered with an error inside EXEC.'],
  unverified: ['unverified', 'Batches applied whose replies nobody read.'],
  deadLettered: ['dead_lettered', 'Commands put into the dead-letter stream.'],
  lateDeadlines: ['late_deadlines', 'Commands applied when the deadline that they set had passed.'],
  repaired: ['repaired', 'Keys read again at the source because its log is wrong about them.'],
  leftOut: ['left_out', 'Keys of the source that the target cannot hold.'],
  undetermined: ['undetermined', 'Commands whose effect the log does not fix, applied as written.'],
  ignored: ['ignored', 'Commands of the source that need no applying.'],
} as const satisfies Record<keyof PipelineStatus['counters'], readonly [string, string]>;

type PipelineGauge = readonly [
  name: string,
  help: string,
  value: (status: PipelineStatus) => number | undefined,
];
const PIPELINE_GAUGES: readonly PipelineGauge[] = [
  ['lag_ms', 'Age of the oldest unapplied command in milliseconds, 0 without one.', (status) => status.lagMs],
  ['lag_entries', 'Entries of the source that are not applied yet.', (status) => status.lagEntries],
  ['head', 'Seq of the last command in the journal.', (status) => status.head.seq],
  [
    'low_water_mark',
    'Seq through which everything is applied; absent while unknown.',
    (status) => (status.lowWaterMark.position === null ? undefined : status.lowWaterMark.seq),
  ],
  ['gate_open', '1 while a gate waits for its lanes or runs.', (status) => Number(status.gate.open)],
  ['gate_stopped', '1 while the gate is stopped.', (status) => Number(status.gate.stopped !== null)],
  ['ingest_stopped', '1 while ingest is stopped.', (status) => Number(status.ingest.stopped !== null)],
  ['ingest_paused', '1 while an operator has paused ingest.', (status) => Number(status.ingest.paused)],
  [
    'ingest_backpressure',
    '1 while the journal is full and reading rests.',
    (status) => Number(status.ingest.backpressure),
  ],
  [
    'source_connected',
    '1 while ingest is connected to the source.',
    (status) => Number(status.source.connected),
  ],
  [
    'snapshot_received_bytes',
    'Bytes of a full sync or copy that have arrived.',
    (status) => status.source.snapshot?.receivedBytes,
  ],
  [
    'snapshot_total_bytes',
    'Bytes of the whole of it, where the source says.',
    (status) => status.source.snapshot?.totalBytes ?? undefined,
  ],
  [
    'snapshot_loaded_bytes',
    'Bytes of a full sync or copy that are read.',
    (status) => status.source.snapshot?.loadedBytes,
  ],
  ['snapshot_keys', 'Keys of a full sync or copy that are read.', (status) => status.source.snapshot?.keys],
  [
    'spool_bytes',
    'Bytes of a live source that wait on disk.',
    (status) => status.source.snapshot?.spooledBytes,
  ],
  ['workers', 'Live worker processes.', (status) => status.workers.length],
];

type LaneGauge = readonly [name: string, help: string, value: (lane: LaneStatus) => number];
const LANE_GAUGES: readonly LaneGauge[] = [
  [
    'lane_applied_through',
    'Seq through which the lane is applied (its checkpoint).',
    (lane) => lane.appliedThrough,
  ],
  ['lane_tail', 'Seq of the last command in the lane.', (lane) => lane.tail],
  ['lane_backlog_bytes', 'Unapplied bytes in the lane log.', (lane) => lane.backlogBytes],
  ['lane_paused', "1 while the lane's queue is paused.", (lane) => Number(lane.paused)],
  ['lane_waiting', '1 while the lane retries a transient error.', (lane) => Number(lane.waiting !== null)],
  [
    'lane_stopped',
    '1 while the lane is stopped by a command that cannot be applied.',
    (lane) => Number(lane.stopped !== null),
  ],
];

/** The Prometheus view of a status: values are set at each scrape, nothing is collected in between. */
export class PipelineMetrics {
  readonly #registry = new Registry();
  readonly #pipelineGauges: readonly Gauge[];
  readonly #laneGauges: readonly Gauge[];
  readonly #counters: Readonly<Record<keyof typeof COUNTERS, Counter>>;
  readonly #state: Gauge;
  readonly #up: Gauge;
  readonly #processMemory: Gauge;
  readonly #processCpu: Counter;

  constructor() {
    const gauge = (name: string, help: string, labelNames: string[] = []) =>
      new Gauge({ name, help, labelNames, registers: [this.#registry] });
    const counter = (name: string, help: string, labelNames: string[] = []) =>
      new Counter({ name, help, labelNames, registers: [this.#registry] });
    this.#up = gauge('lanegate_up', '1 if the status of the pipeline could be read for this scrape.');
    this.#state = gauge('lanegate_state', '1 for the state the pipeline is in.', ['pipeline', 'state']);
    this.#pipelineGauges = PIPELINE_GAUGES.map(([name, help]) =>
      gauge(`lanegate_${name}`, help, ['pipeline']),
    );
    this.#laneGauges = LANE_GAUGES.map(([name, help]) =>
      gauge(`lanegate_${name}`, help, ['pipeline', 'lane']),
    );
    const keys = Object.keys(COUNTERS) as (keyof typeof COUNTERS)[];
    this.#counters = Object.fromEntries(
      keys.map((key) => [key, counter(`lanegate_${COUNTERS[key][0]}_total`, COUNTERS[key][1], ['pipeline'])]),
    ) as Record<keyof typeof COUNTERS, Counter>;
    this.#processMemory = gauge('process_resident_memory_bytes', 'Resident memory of this process in bytes.');
    this.#processCpu = counter(
      'process_cpu_seconds_total',
      'User and system CPU time of this process in seconds.',
    );
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Prometheus text; without a status only what this process knows of itself, and lanegate_up 0. */
  text(status: PipelineStatus | undefined): Promise<string> {
    this.#registry.resetMetrics();
    this.#up.set(Number(status !== undefined));
    if (status !== undefined) this.#setPipeline(status);
    const { user, system } = process.cpuUsage();
    this.#processMemory.set(process.memoryUsage.rss());
    this.#processCpu.inc((user + system) / 1e6);
    return this.#registry.metrics();
  }

  #setPipeline(status: PipelineStatus): void {
    const pipeline = { pipeline: status.name };
    for (const state of STATES) this.#state.set({ ...pipeline, state }, Number(status.state === state));
    for (const [index, [, , value]] of PIPELINE_GAUGES.entries()) {
      const current = value(status);
      if (current !== undefined) this.#pipelineGauges[index]?.set(pipeline, current);
    }
    for (const [index, [, , value]] of LANE_GAUGES.entries()) {
      for (const lane of status.lanes)
        this.#laneGauges[index]?.set({ ...pipeline, lane: String(lane.lane) }, value(lane));
    }
    for (const key of Object.keys(COUNTERS) as (keyof typeof COUNTERS)[]) {
      this.#counters[key].inc(pipeline, status.counters[key]);
    }
  }
}
