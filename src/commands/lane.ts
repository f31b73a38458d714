import type { Observation } from '../roles/observe.ts';
import { Operator, type Place, placeName, queueName, type StopFound } from '../roles/operator.ts';
import { ConfigurationError, StopError } from '../runtime/errors.ts';
import type { PipelineStatus } from '../status.ts';
import type { CommandContext } from './context.ts';
import { escapeControl, formatBytes } from './format.ts';
import { type OpenPipeline, operatorName, withPipelineOrItsRemains } from './open-pipeline.ts';
import { stopText } from './stop-text.ts';

const LANE_MAX = 255;
const VERBS = ['resume', 'skip', 'show', 'pause'] as const;
type LaneVerb = (typeof VERBS)[number];

interface Request {
  readonly verb: LaneVerb;
  /** Lane, 'gate', 'ingest'; 'all': every lane, the gate and ingest. */
  readonly of: number | 'all' | 'ingest' | 'gate';
}

export async function lane(context: CommandContext): Promise<number> {
  const request = readRequest(context);
  return await withPipelineOrItsRemains(context, async (pipeline) => {
    const { redis, journal, records, queues } = pipeline;
    const places = await placesOf(request, pipeline);
    const operator = new Operator({
      redis,
      journal,
      records,
      queues: await queues(),
      by: operatorName(),
      now: Date.now,
    });
    if (request.verb === 'show') return await show(context, pipeline, operator, places);
    if (request.verb === 'skip') return await skip(context, pipeline, operator, places[0] as Place);
    for (const place of places) {
      const name = placeName(place);
      if (request.verb === 'pause') {
        const rests = await operator.pause(place, context.config.reason);
        const still = rests ? '' : ', but a job of it is still at work';
        context.stdout.write(
          `${name} is paused${still}; lanegate lane resume ${argumentOf(place)} ends it\n`,
        );
      } else {
        const changed = await operator.resume(place);
        if (changed || request.of !== 'all')
          context.stdout.write(`${name} ${changed ? 'goes on' : 'was not held'}\n`);
      }
    }
    return 0;
  });
}

/** @throws ConfigurationError with every problem at once */
function readRequest({ positionals, config }: CommandContext): Request {
  const problems: string[] = [];
  const [first = '', second = ''] = positionals;
  const verb = VERBS.find((one) => one === first);
  const word = (['all', 'ingest', 'gate'] as const).find((one) => one === second);
  const number = /^\d{1,3}$/.test(second) && Number(second) <= LANE_MAX ? Number(second) : undefined;
  const of = word ?? number;
  if (verb === undefined) problems.push(`lane: ${JSON.stringify(first)} is not ${VERBS.join(', ')}`);
  if (of === undefined)
    problems.push(`lane: ${JSON.stringify(second)} is not a lane's number, all, ingest or gate`);
  if (verb === 'skip') {
    if (of === 'all') problems.push('lane skip: names one lane, ingest or gate, not all');
    if (config.seq === undefined)
      problems.push('--seq is missing: the command to skip, as lanegate status names it');
    if (config.reason === undefined) problems.push('--reason is missing: it is kept with the skip');
  } else if (config.seq !== undefined) {
    problems.push(`--seq: has no effect on lane ${first}`);
  }
  if (verb === undefined || of === undefined || problems.length > 0) throw new ConfigurationError(problems);
  return { verb, of };
}

/** @throws StopError for a lane that the pipeline does not have */
async function placesOf({ of }: Request, { journal }: OpenPipeline): Promise<Place[]> {
  if (of === 'gate' || of === 'ingest') return [{ kind: of }];
  const inForce = await journal.inForce();
  const all = Array.from(
    { length: inForce?.lanes ?? 0 },
    (_, number): Place => ({ kind: 'lane', lane: number }),
  );
  if (of === 'all') return [...all, { kind: 'gate' }, { kind: 'ingest' }];
  const one = all[of];
  if (one !== undefined) return [one];
  if (inForce === undefined) {
    throw new StopError('NOT_BEGUN', 'the pipeline has not begun: the queue knows nothing of it', {
      hint: 'look whether --name and --queue are right, or start it: lanegate run',
    });
  }
  throw new StopError(
    'NO_LANE',
    `there is no lane ${of}: the pipeline has the lanes 0 to ${inForce.lanes - 1}`,
    {
      hint: 'lanegate status shows them',
    },
  );
}

async function skip(
  { config, stdout, stderr }: CommandContext,
  { records, observer }: OpenPipeline,
  operator: Operator,
  place: Place,
): Promise<number> {
  const { seq = 0, reason = '' } = config;
  const name = placeName(place);
  const outcome = await operator.skip(place, seq, reason);
  if (outcome.kind === 'skipped') {
    const { command, behind } = outcome.stop.record;
    const what = behind ? 'had failed and is recorded' : 'is left out';
    stdout.write(`seq ${seq} (${escapeControl(command)}) ${what}; ${name} goes on; see: lanegate errors\n`);
    return 0;
  }
  if (outcome.kind === 'no command') {
    stderr.write(`lanegate lane: ${name} does not stand at a command that could be skipped\n`);
    stderr.write(stopText(name, outcome.stop.record));
    return 1;
  }
  if (outcome.stops.length === 0) {
    const { status } = await observer.observe();
    const stops = [...(await records.stops())].map(([where, { seq: at }]) => `${where} at seq ${at}`);
    stderr.write(`lanegate lane: ${name} is not stopped, ${standsAt(place, status)}: nothing was skipped\n`);
    const told = stops.length === 0 ? 'nothing is stopped' : `stopped: ${stops.join(', ')}`;
    stderr.write(`  ${told}; lanegate status shows it\n`);
    return 1;
  }
  const where = outcome.stops.map(({ record }) => record.seq).join(', ');
  stderr.write(`lanegate lane: ${name} is stopped at seq ${where}, not at seq ${seq}: nothing was skipped\n`);
  for (const stop of outcome.stops) stderr.write(stopText(name, stop.record));
  return 1;
}

function standsAt(place: Place, { lanes, gate, head }: PipelineStatus): string {
  if (place.kind === 'ingest') return `it has read through seq ${head.seq}`;
  if (place.kind === 'gate') return gate.open ? `it is open at seq ${gate.seq}` : 'it is closed';
  const lane = lanes[place.lane];
  return `it has applied through seq ${lane?.appliedThrough ?? 0} of ${lane?.tail ?? 0}`;
}

/** What `show` says of one place; commands are named, never their values. */
interface Shown {
  readonly place: string;
  readonly paused: boolean;
  /** `operator`, `stop`, `gate:...` -> since when, by whom and why */
  readonly pausedBy: Readonly<Record<string, unknown>>;
  readonly stops: readonly StopFound['record'][];
  readonly lane?: {
    readonly appliedThrough: number;
    readonly tail: number;
    readonly backlogBytes: number;
    readonly next: {
      readonly kind: string;
      readonly first: number;
      readonly seq: number;
      readonly count: number;
    } | null;
  };
}

async function show(
  context: CommandContext,
  pipeline: OpenPipeline,
  operator: Operator,
  places: readonly Place[],
): Promise<number> {
  const observation = await pipeline.observer.observe();
  const shown: Shown[] = [];
  for (const place of places) shown.push(await look(pipeline, operator, observation, place));
  const { stdout, config } = context;
  if (config.json) stdout.write(`${JSON.stringify(shown.length === 1 ? shown[0] : shown)}\n`);
  else stdout.write(shown.map(text).join(''));
  return 0;
}

async function look(
  { redis, journal }: OpenPipeline,
  operator: Operator,
  { status }: Observation,
  place: Place,
): Promise<Shown> {
  const name = queueName(place);
  const pauses = await redis.hgetall(journal.keys.pauses);
  const pausedBy = Object.entries(pauses)
    .filter(([field]) => field.startsWith(`${name}|`))
    .map(([field, value]) => [field.slice(name.length + 1), readValue(value)] as const);
  const stops = (await operator.stopsAt(place)).map(({ record }) => record);
  const paused = (await redis.hexists(`${journal.keys.prefix}:${name}:meta`, 'paused')) === 1;
  const base = { place: placeName(place), paused, pausedBy: Object.fromEntries(pausedBy), stops };
  if (place.kind !== 'lane') return base;
  const lane = status.lanes[place.lane];
  if (lane === undefined) return base;
  const { appliedThrough, tail, backlogBytes } = lane;
  const [item] = appliedThrough < tail ? await journal.readLane(place.lane, appliedThrough, 1) : [];
  const next =
    item === undefined ? null : { kind: item.kind, first: item.first, seq: item.seq, count: item.count };
  return { ...base, lane: { appliedThrough, tail, backlogBytes, next } };
}

function readValue(value: string): unknown {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

function text({ place, paused, pausedBy, stops, lane: own }: Shown): string {
  const owners = Object.entries(pausedBy).map(([owner, about]) => `${owner} ${pauseText(about)}`);
  const lines = [
    `${place}: ${stops.length > 0 ? 'stopped' : paused ? 'paused' : 'neither stopped nor paused'}`,
  ];
  if (own !== undefined) {
    lines.push(
      `  applied through seq ${own.appliedThrough}, tail ${own.tail}, ${formatBytes(own.backlogBytes)} behind`,
    );
    if (own.next?.kind === 'marker') lines.push(`  next: the gate at seq ${own.next.seq}`);
    if (own.next?.kind === 'batch') {
      lines.push(`  next: seq ${own.next.first}..${own.next.seq}, ${own.next.count} commands`);
    }
  }
  if (owners.length > 0) lines.push(`  paused by: ${escapeControl(owners.join(', '))}`);
  const told = stops.flatMap((stop) => stopText(place, stop).trimEnd().split('\n'));
  return `${[...lines, ...told.map((line) => `  ${line}`)].join('\n')}\n`;
}

function pauseText(about: unknown): string {
  if (typeof about === 'number') return `since ${new Date(about).toISOString()}`;
  const { by, atMs, reason } = about as { by?: unknown; atMs?: unknown; reason?: unknown };
  const since = typeof atMs === 'number' ? ` since ${new Date(atMs).toISOString()}` : '';
  return `${by ?? ''}${since}${reason === undefined ? '' : ` (${reason})`}`;
}

function argumentOf(place: Place): string {
  return place.kind === 'lane' ? String(place.lane) : place.kind;
}
