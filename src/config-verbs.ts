/** The commands of lanegate, for people and for the reader of the command line. */

export const VERBS = [
  'run',
  'worker',
  'board',
  'status',
  'append',
  'lane',
  'errors',
  'check',
  'explain',
  'verify',
  'finish',
  'relane',
  'reset',
  'pika-binlog',
  'demo',
] as const;
export type Verb = (typeof VERBS)[number];

export const ROLES = ['ingest', 'lanes', 'gate'] as const;

export interface VerbFacts {
  readonly summary: string;
  /** What follows the verb on the usage line, before the options. */
  readonly operands: string;
  readonly operandsMin: number;
  readonly operandsMax: number;
  readonly required: readonly ('source' | 'target' | 'queue')[];
  readonly example: string;
  /** Said by --help --all. */
  readonly notes?: readonly string[];
}

const NO_OPERANDS = { operands: '', operandsMin: 0, operandsMax: 0 } as const;
const SOURCE = "--source 'redis-stream://src?key=binlog'";
const TARGET = '--target redis://dst';
const QUEUE = '--queue redis://jobs';

export const verbs: Readonly<Record<Verb, VerbFacts>> = {
  run: {
    ...NO_OPERANDS,
    summary: 'everything in one process: ingest, lanes, gate, board',
    required: ['source', 'target'],
    example: `lanegate run ${SOURCE} ${TARGET}`,
  },
  worker: {
    ...NO_OPERANDS,
    summary: 'ingest, lanes and gate; start as many as you like',
    required: ['target', 'queue'],
    example: `lanegate worker ${SOURCE} ${TARGET} ${QUEUE}`,
  },
  board: {
    ...NO_OPERANDS,
    summary: 'Bull Board and the HTTP API alone',
    required: [],
    example: `lanegate board ${QUEUE} ${TARGET}`,
  },
  status: {
    ...NO_OPERANDS,
    summary: 'how far each lane is and what waits or stopped',
    required: [],
    example: 'lanegate status --wait --timeout 120',
  },
  append: {
    ...NO_OPERANDS,
    summary: 'put commands from standard input into the stream of --source',
    required: ['source'],
    example: `echo 'SET key1 a1' | lanegate append ${SOURCE}`,
  },
  lane: {
    summary: 'resume, skip, show or pause a lane, ingest or the gate',
    operands: 'resume|skip|show|pause N|all|ingest|gate',
    operandsMin: 2,
    operandsMax: 2,
    required: [],
    example: 'lanegate lane skip 3 --seq 81234 --reason "wrong type, seen by me"',
  },
  errors: {
    ...NO_OPERANDS,
    summary: 'stops, divergences, unverified batches, dead letters, keys left out',
    required: [],
    example: 'lanegate errors --json',
  },
  check: {
    ...NO_OPERANDS,
    summary: 'connect and run every start-up check; changes nothing',
    required: ['source', 'target'],
    example: `lanegate check ${SOURCE} ${TARGET} ${QUEUE}`,
  },
  explain: {
    summary: 'class, lanes, gate or refusal of one command',
    operands: "'COMMAND'",
    operandsMin: 1,
    operandsMax: 1000,
    required: [],
    example: "lanegate explain 'RENAME a b'",
  },
  verify: {
    ...NO_OPERANDS,
    summary: 'compare a server with the target, key by key, in both directions',
    required: ['source', 'target'],
    example: 'lanegate verify --source redis://src --target redis://dst --sample 0.01',
    notes: [
      'Both servers are only read. The least that a user needs on either: ~* +@read +info +select',
      'Exit code: 0 equal, 1 differences or failure, 2 usage. Values are never printed.',
    ],
  },
  finish: {
    ...NO_OPERANDS,
    summary: 'the end of a migration: wait for all of it, put the true deadlines back, say what to switch',
    required: ['source', 'target'],
    example: `lanegate finish --source redis://src ${TARGET} ${QUEUE} --freeze --verify`,
    notes: [
      'Of an AOF (aof://), whose deadlines are held back as well: run it when the run has ended.',
      'Of a live server: run it while the workers run. It may be cut short and repeated; repeat it if the source was written to afterwards.',
      'At the source its user needs ~* +@read +info +select, for --freeze +client|pause +client|unpause as well; at the',
      'target +pexpireat +persist besides.',
      'Exit code: 0 done and both sides agree, 1 not done or not equal, 2 usage.',
    ],
  },
  relane: {
    summary: 'change the number of lanes',
    operands: 'N',
    operandsMin: 1,
    operandsMax: 1,
    required: [],
    example: `lanegate relane 16 ${QUEUE} ${TARGET}`,
  },
  reset: {
    ...NO_OPERANDS,
    summary: "remove the pipeline's keys from queue, target and source",
    required: ['target'],
    example: `lanegate reset ${SOURCE} ${TARGET} ${QUEUE}`,
  },
  'pika-binlog': {
    summary: "print the items of Pika's binlog files",
    operands: 'FILE|DIR',
    operandsMin: 1,
    operandsMax: 1,
    required: [],
    example: 'lanegate pika-binlog /path/to/log/log_db0 --from 3:147005',
  },
  demo: {
    ...NO_OPERANDS,
    summary: 'the problem and the answer on embedded servers',
    required: [],
    example: 'lanegate demo --rounds 1000 --lanes 8',
  },
};

export function isVerb(word: string | undefined): word is Verb {
  return (VERBS as readonly string[]).includes(word ?? '');
}
