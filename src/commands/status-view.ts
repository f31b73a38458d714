import type { LaneStatus, PipelineStatus, SnapshotStatus, Stopped, Waiting } from '../status.ts';
import { escapeControl, formatBytes, formatCount, formatDuration } from './format.ts';
import { stopPlaceText } from './stop-text.ts';

export interface ViewOptions {
  /** ANSI colours and block characters; false gives plain ASCII for a file or pipe. */
  readonly colour: boolean;
  /** Columns of the terminal. */
  readonly width: number;
  /** The command that starts a process for this pipeline. */
  readonly start?: string;
}

const WIDTH_MIN = 40;
const BAR_CELLS_MAX = 24;
const BAR_CELLS_MIN = 4;
const LABEL_CELLS = 9;
const CODES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;
type Style = keyof typeof CODES;
const STATE_STYLES = { running: 'green', waiting: 'yellow', stopped: 'red' } as const;

interface Row {
  readonly text: string;
  /** Columns before the second and each later line; default: two more than before the first. */
  readonly indent?: number;
  /** Never wrapped: a command that is copied must not get a line break. */
  readonly whole?: boolean;
  readonly style?: Style | undefined;
}

/** `lanegate status` for people: everything that is not as it should be stands below the table with its way out. */
export function renderStatus(status: PipelineStatus, options: ViewOptions): string {
  const width = Math.max(WIDTH_MIN, options.width);
  const sections = [
    header(status),
    laneTable(status, width, options.colour),
    [...idleRows(status, options.start ?? 'lanegate run'), ...troubles(status)],
    footer(status),
  ];
  const rows = sections
    .filter((section) => section.length > 0)
    .flatMap((section, index) => (index === 0 ? section : [{ text: '' }, ...section]));
  const lines = rows.flatMap((row) => wrap(row, width).map((line) => paint(line, row.style, options.colour)));
  return `${lines.join('\n')}\n`;
}

function header(status: PipelineStatus): Row[] {
  const { source, ingest, head, lowWaterMark } = status;
  const connection = source.connected ? 'connected' : 'not connected';
  const sourceText =
    source.kind === null
      ? 'not known yet'
      : `${source.kind} at ${source.position ?? 'its beginning'}, ${connection}`;
  const holder = ingest.holder === null ? 'held by nobody' : `held by ${ingest.holder}`;
  const notes = [
    `epoch ${ingest.epoch}`,
    ...(ingest.generation === null ? [] : [`generation ${ingest.generation}`]),
    ...(ingest.paused ? ['paused by an operator'] : []),
    ...(ingest.backpressure ? ['resting: the journal is full'] : []),
    ...(ingest.stopped === null ? [] : ['stopped']),
  ];
  const mark = lowWaterMark.position === null ? 'not known' : `seq ${formatCount(lowWaterMark.seq)}`;
  return [
    { text: `lanegate ${escapeControl(status.name)}: ${status.state}`, style: STATE_STYLES[status.state] },
    labelled('source', sourceText),
    ...snapshotRows(source),
    labelled('journal', `head at seq ${formatCount(head.seq)}, everything applied through ${mark}`),
    labelled('lag', lagText(status)),
    labelled('ingest', `${holder}, ${notes.join(', ')}`),
    labelled('gate', gateText(status), status.gate.open ? 'yellow' : undefined),
  ];
}

function snapshotRows({ kind, snapshot }: PipelineStatus['source']): Row[] {
  if (snapshot === null || (snapshot.phase === 'streaming' && snapshot.spooledBytes === 0)) return [];
  // A Pika is read through its client port, key by key.
  return [labelled(kind === 'pika' ? 'copy' : 'full sync', snapshotText(snapshot))];
}

/** `loading: 1.2 GiB of 3.0 GiB, 1,234,567 keys, 80 MiB/s, 23 s left; 12 MiB wait on disk` */
export function snapshotText(snapshot: SnapshotStatus): string {
  const { phase, receivedBytes, totalBytes, loadedBytes, keys, spooledBytes, bytesPerSecond, msLeft } =
    snapshot;
  const waits = spooledBytes === 0 ? '' : `; ${formatBytes(spooledBytes)} wait on disk`;
  if (phase === 'streaming') return `done${waits}`;
  if (phase === 'full') return `resting: the spool is full (--spool-max)${waits}`;
  if (phase === 'connecting' || phase === 'waiting') {
    return phase === 'waiting' ? 'the source makes its snapshot' : `connecting${waits}`;
  }
  const whole = totalBytes === null ? '' : ` of ${formatBytes(totalBytes)}`;
  const parts = [
    `${phase}: ${formatBytes(loadedBytes)}${whole}`,
    ...(receivedBytes > loadedBytes ? [`${formatBytes(receivedBytes)} received`] : []),
    `${formatCount(keys)} keys`,
    ...(bytesPerSecond === null ? [] : [`${formatBytes(bytesPerSecond)}/s`]),
    ...(msLeft === null ? [] : [`${formatDuration(msLeft)} left`]),
  ];
  return parts.join(', ') + waits;
}

function lagText({ lagEntries, lagMs }: PipelineStatus): string {
  return lagEntries === 0 && lagMs === 0
    ? 'none'
    : `${formatCount(lagEntries)} entries, ${formatDuration(lagMs)}`;
}

function gateText({ gate }: PipelineStatus): string {
  const place = `\`${gate.command ?? '?'}\` at seq ${formatCount(gate.seq ?? 0)}`;
  if (gate.stopped !== null) return `stopped at ${place}`;
  if (!gate.open) return 'closed';
  if (gate.waitingFor.length === 0) return `open for ${place}, all its lanes have arrived`;
  return `open for ${place}, waiting for ${gate.waitingFor.length === 1 ? 'lane' : 'lanes'} ${gate.waitingFor.join(', ')}`;
}

function laneTable(status: PipelineStatus, width: number, colour: boolean): Row[] {
  if (status.lanes.length === 0) return [];
  const cells = status.lanes.map((lane) => ({
    lane: String(lane.lane),
    backlog: formatBytes(lane.backlogBytes),
    applied: formatCount(lane.appliedThrough),
    tail: formatCount(lane.tail),
    notes: laneNotes(lane, status),
  }));
  const widest = (key: keyof (typeof cells)[number]) =>
    Math.max(key.length, ...cells.map((row) => row[key].length));
  const columns = {
    lane: widest('lane'),
    backlog: widest('backlog'),
    applied: widest('applied'),
    tail: widest('tail'),
  };
  const fixed = columns.lane + columns.backlog + columns.applied + columns.tail + widest('notes') + 10;
  const barCells = Math.min(BAR_CELLS_MAX, Math.max(BAR_CELLS_MIN, width - fixed));
  const line = (row: (typeof cells)[number], bar: string) =>
    [
      row.lane.padStart(columns.lane),
      bar,
      row.backlog.padStart(columns.backlog),
      row.applied.padStart(columns.applied),
      row.tail.padStart(columns.tail),
      row.notes,
    ]
      .join('  ')
      .trimEnd();
  const title = { lane: 'lane', backlog: 'backlog', applied: 'applied', tail: 'tail', notes: 'notes' };
  const bytesMax = Math.max(...status.lanes.map((lane) => lane.backlogBytes));
  const rows = cells.map((row, index): Row => {
    const lane = status.lanes[index];
    const text = line(row, bar({ part: lane?.backlogBytes ?? 0, whole: bytesMax, cells: barCells, colour }));
    return { text: cut(text, width, colour), style: lane === undefined ? undefined : laneStyle(lane) };
  });
  return [{ text: cut(line(title, ' '.repeat(barCells)), width, colour), style: 'bold' }, ...rows];
}

function laneNotes(lane: LaneStatus, { gate }: PipelineStatus): string {
  const notes = [
    ...(lane.stopped === null ? [] : [`stopped at seq ${formatCount(lane.stopped.seq)}`]),
    ...(lane.waiting === null ? [] : [`waiting: ${escapeControl(lane.waiting.code)}`]),
    ...(lane.paused ? ['paused'] : []),
    ...(gate.open && gate.waitingFor.includes(lane.lane) ? ['the gate waits for it'] : []),
  ];
  return notes.join(', ');
}

function laneStyle(lane: LaneStatus): Style | undefined {
  if (lane.stopped !== null) return 'red';
  return lane.waiting !== null || lane.paused ? 'yellow' : undefined;
}

function bar(options: { part: number; whole: number; cells: number; colour: boolean }): string {
  const { part, whole, cells, colour } = options;
  // A lane that has anything left never looks done.
  const filled = part === 0 || whole === 0 ? 0 : Math.max(1, Math.round((part / whole) * cells));
  const [full, empty] = colour ? ['█', '░'] : ['#', '.'];
  return full.repeat(filled) + empty.repeat(cells - filled);
}

function troubles(status: PipelineStatus): Row[] {
  const waiting: [string, Waiting | null][] = [
    ['the source', status.source.waiting],
    ['the queue', status.queue.waiting],
    ['the target', status.target.waiting],
    ...status.lanes.map((lane): [string, Waiting | null] => [`lane ${lane.lane}`, lane.waiting]),
  ];
  const stops: [string, Stopped | null][] = [
    ['ingest', status.ingest.stopped],
    ['the gate', status.gate.stopped],
    ...status.lanes.map((lane): [string, Stopped | null] => [`lane ${lane.lane}`, lane.stopped]),
  ];
  return [
    ...waiting.flatMap(([who, trouble]) => (trouble === null ? [] : waitingRows(who, trouble, status.time))),
    ...stops.flatMap(([who, stop]) => (stop === null ? [] : stopRows(who, stop))),
  ];
}

/** What is to be done waits for somebody who does it. */
function idleRows({ workers, queue }: PipelineStatus, start: string): Row[] {
  // While the queue does not answer, nobody knows who works.
  if (workers.length > 0 || queue.waiting !== null) return [];
  return [
    { text: 'waiting: no worker runs, nothing is read or applied', style: 'yellow' },
    { text: `  type: ${escapeControl(start)}`, whole: true, style: 'bold' },
  ];
}

function waitingRows(who: string, waiting: Waiting, time: number): Row[] {
  const since = formatDuration(Math.max(0, time - waiting.sinceMs));
  return [
    { text: `waiting for ${since}: ${who}, ${escapeControl(waiting.code)}`, style: 'yellow' },
    { text: `  ${escapeControl(waiting.hint)}` },
  ];
}

function stopRows(who: string, stop: Stopped): Row[] {
  return [
    { text: `stopped: ${who} ${stopPlaceText(stop, formatCount)}`, style: 'red' },
    { text: `  reason: ${escapeControl(stop.reason)}` },
    { text: `  type: ${escapeControl(stop.hint)}`, whole: true, style: 'bold' },
  ];
}

function footer({ counters, workers, target }: PipelineStatus): Row[] {
  const counted: [number, string][] = [
    [counters.fenced, 'fenced'],
    [counters.duplicatesDropped, 'duplicates dropped'],
    [counters.retries, 'retries'],
    [counters.divergences, 'divergences'],
    [counters.unverified, 'unverified'],
    [counters.deadLettered, 'dead-lettered'],
    [counters.lateDeadlines, 'deadlines late'],
    [counters.repaired, 'keys repaired'],
    [counters.leftOut, 'keys left out'],
    [counters.undetermined, 'whose effect the log does not fix'],
    [counters.ignored, 'ignored'],
  ];
  const rest = counted.filter(([count]) => count > 0).map(([count, what]) => `${formatCount(count)} ${what}`);
  const always = [
    `${formatCount(counters.applied)} commands applied`,
    `${formatCount(counters.gates)} gates`,
  ];
  const unread = counters.divergences + counters.unverified + counters.deadLettered + counters.leftOut > 0;
  return [
    labelled('counters', [...always, ...rest].join(', ')),
    ...(unread ? [labelled('', 'see: lanegate errors', 'yellow')] : []),
    ...(target.guarantee === null || target.guarantee === 'exactly once'
      ? []
      : [labelled('applied', target.guarantee, 'yellow')]),
    ...(workers.length === 0 ? [labelled('workers', 'none', 'yellow')] : []),
    ...workers.map((worker, index) => {
      const where = `${escapeControl(worker.id)} on ${escapeControl(worker.host)}, pid ${worker.pid}`;
      const lanes = worker.lanes.length === 0 ? '' : `, lanes ${ranges(worker.lanes)}`;
      return labelled(index === 0 ? 'workers' : '', `${where}: ${worker.roles.join(', ')}${lanes}`);
    }),
  ];
}

/** `0..3, 5` */
function ranges(numbers: readonly number[]): string {
  const spans: [number, number][] = [];
  for (const number of [...numbers].sort((a, b) => a - b)) {
    const last = spans.at(-1);
    if (last !== undefined && number === last[1] + 1) last[1] = number;
    else spans.push([number, number]);
  }
  return spans.map(([from, to]) => (from === to ? `${from}` : `${from}..${to}`)).join(', ');
}

function labelled(label: string, text: string, style?: Style): Row {
  return { text: `${label.padEnd(LABEL_CELLS)} ${escapeControl(text)}`, indent: LABEL_CELLS + 1, style };
}

function paint(text: string, style: Style | undefined, colour: boolean): string {
  return colour && style !== undefined && text !== '' ? `\u001b[${CODES[style]}m${text}\u001b[0m` : text;
}

function cut(text: string, width: number, colour: boolean): string {
  const mark = colour ? '…' : '~';
  return text.length <= width ? text : `${text.slice(0, width - 1)}${mark}`;
}

/** Breaks at spaces; a longer word stays whole. */
function wrap(row: Row, width: number): string[] {
  if (row.whole === true || row.text.length <= width) return [row.text];
  const [first = '', ...words] = row.text.trimStart().split(' ');
  const lead = row.text.length - row.text.trimStart().length;
  const lines: string[] = [];
  let line = ' '.repeat(lead) + first;
  for (const word of words) {
    if (line.length + 1 + word.length <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = ' '.repeat(row.indent ?? lead + 2) + word;
    }
  }
  return [...lines, line];
}
