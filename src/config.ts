// Every option of every command, once: type, default, description and who takes it. Flags (--board-port), variables
// (LANEGATE_BOARD_PORT), file keys (boardPort or board-port), --help and the README's table all come from this tree.
// config-load.ts reads values into it, config-help.ts prints it.

import * as z from 'zod';
import { facts, type OptionFacts, option } from './config-facts.ts';
import { choice, duration, instant, integer, list, share, size, text, toggle } from './config-values.ts';
import { ROLES, VERBS, type Verb } from './config-verbs.ts';
import type { Endpoint, EndpointSecrets } from './runtime/endpoint.ts';

const APPLY = ['run', 'worker'] as const;
const CLASSIFY = ['run', 'worker', 'check', 'explain'] as const;
const STATE = [
  'run',
  'board',
  'status',
  'lane',
  'errors',
  'check',
  'verify',
  'finish',
  'relane',
  'reset',
] as const;
const PIPELINE = [...STATE, 'worker'] as const;
const ANY_SIZE = 1024 ** 4;
const DAY_MS = 86_400_000;

const path = () => text(/^[^\0]+$/, 'must be a path');
const port = () => integer(0, 65535);
const commandNames = () =>
  list('must be command names, separated by commas', (item) =>
    /^[\w.|-]+$/.test(item) ? item.toUpperCase() : undefined,
  );

/** Credentials and TLS of one server; `where` names it for people. */
function access<const P extends 'source' | 'target' | 'queue'>(where: P) {
  const commands: readonly Verb[] = {
    source: [...PIPELINE, 'append' as const],
    target: [...PIPELINE, 'explain' as const],
    queue: PIPELINE,
  }[where];
  const file = (description: string) =>
    option(path().optional(), { placeholder: 'FILE', description, commands });
  const shape = {
    Username: option(text().optional(), {
      placeholder: 'USER',
      description: `user name at the ${where}`,
      commands,
    }),
    Password: option(text().optional(), {
      description: `password at the ${where}`,
      commands,
      given: 'secret',
    }),
    PasswordFile: file(`file that holds the password at the ${where}`),
    TlsCa: file(`PEM file with the authority that signed the ${where}'s certificate`),
    TlsCert: file(`PEM file with the client certificate for the ${where}`),
    TlsKey: file(`PEM file with the key of the client certificate for the ${where}`),
    TlsServerName: option(text().optional(), {
      placeholder: 'NAME',
      description: `name that the ${where}'s certificate must carry`,
      commands,
    }),
    TlsInsecure: option(toggle().default(false), {
      description: `do not verify the ${where}'s certificate (tests only)`,
      commands,
    }),
  };
  type Shape = typeof shape;
  return Object.fromEntries(Object.entries(shape).map(([key, schema]) => [`${where}${key}`, schema])) as {
    [K in keyof Shape as `${P}${K & string}`]: Shape[K];
  };
}

export const options = z.object({
  name: option(text(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 letters, digits, _ or -').default('default'), {
    placeholder: 'NAME',
    description: 'name of the pipeline',
    everyday: true,
    commands: [...PIPELINE, 'explain'],
  }),
  source: option(text().optional(), {
    placeholder: 'URL',
    description: 'log: redis-stream://host:port?key=KEY, redis://, aof:///, rdb:///, pika://',
    everyday: true,
    commands: [...PIPELINE, 'append'],
  }),
  pikaNode: option(text(/^[\w.-]{1,64}:\d{1,5}$/, 'must be ip:port').optional(), {
    placeholder: 'IP:PORT',
    description:
      "as which slave a Pika master sees lanegate; unique among its slaves (default: the connection's own end)",
    commands: ['run', 'worker', 'check'],
  }),
  repair: option(choice(['on', 'off']).optional(), {
    placeholder: 'on|off',
    description:
      "read keys at a Pika master that its log gets wrong, and write them (default: on, where the master's data can be read)",
    commands: ['run', 'worker', 'check'],
  }),
  target: option(text().optional(), {
    placeholder: 'URL',
    description: 'server to write: redis://[user@]host:port (rediss:// for TLS)',
    everyday: true,
    commands: [...PIPELINE, 'explain'],
  }),
  queue: option(text().optional(), {
    placeholder: 'URL',
    description: 'Redis for journal and queues (run: without it an embedded one)',
    everyday: true,
    commands: PIPELINE,
  }),
  lanes: option(integer(1, 256).optional(), {
    placeholder: 'N',
    description: 'lanes, counts at the first start (8); later: lanegate relane',
    everyday: true,
    commands: ['run', 'worker', 'check', 'explain', 'demo'],
  }),
  config: option(path().optional(), {
    placeholder: 'FILE',
    description: 'YAML or JSON file with these options as keys',
    everyday: true,
    commands: VERBS,
  }),
  from: option(text(/^[\x20-\x7e]{1,512}$/, 'must be beginning, now, copy or a position').optional(), {
    placeholder: 'WHERE',
    description: 'beginning, now, copy (a Pika) or a position, at the first start',
    everyday: true,
    commands: ['run', 'worker', 'check', 'pika-binlog'],
  }),
  until: option(choice(['caught-up']).optional(), {
    placeholder: 'caught-up',
    description: 'end when all that is in the source now is applied (files: always)',
    everyday: true,
    commands: APPLY,
  }),
  untilTime: option(instant().optional(), {
    placeholder: 'TIME',
    description: 'read an AOF up to this time: 2026-01-31T12:00:00Z, or unix time in s or ms',
    commands: [...APPLY, 'finish'],
  }),
  targetData: option(choice(['refuse', 'keep', 'replace']).default('refuse'), {
    placeholder: 'WHAT',
    description: 'data found in the target: refuse, keep, or replace (flush)',
    everyday: true,
    commands: ['run', 'worker', 'check'],
  }),
  roles: option(
    list(`must be of ${ROLES.join(', ')}`, (item) => ROLES.find((role) => role === item)).default([...ROLES]),
    { placeholder: 'LIST', description: 'what this process does', everyday: true, commands: ['worker'] },
  ),
  httpPort: option(port().default(0), {
    placeholder: 'PORT',
    description: 'port for /healthz /readyz /metrics; 0: none',
    everyday: true,
    commands: ['worker'],
  }),
  httpHost: option(text().default('127.0.0.1'), {
    placeholder: 'HOST',
    description: 'address that --http-port binds to',
    commands: ['worker'],
  }),
  boardPort: option(port().default(7070), {
    placeholder: 'PORT',
    description: 'port of the board; 0: none',
    everyday: true,
    commands: ['run', 'board', 'demo'],
  }),
  boardHost: option(text().default('127.0.0.1'), {
    placeholder: 'HOST',
    description:
      'address of the board; not loopback: LANEGATE_BOARD_USER and LANEGATE_BOARD_PASSWORD are needed',
    commands: ['run', 'board', 'demo'],
  }),
  boardWrite: option(toggle().default(false), {
    description: 'the board may change jobs and queues',
    commands: ['run', 'board', 'demo'],
  }),
  boardUser: option(text().optional(), {
    placeholder: 'USER',
    description: 'user name that the board asks for',
    commands: ['run', 'board', 'demo'],
  }),
  boardPassword: option(text().optional(), {
    description: 'password that the board asks for',
    commands: ['run', 'board', 'demo'],
    given: 'secret',
  }),
  boardPasswordFile: option(path().optional(), {
    placeholder: 'FILE',
    description: 'file that holds the password of the board',
    commands: ['run', 'board', 'demo'],
  }),
  dataDir: option(path().default('.lanegate'), {
    placeholder: 'DIR',
    description: 'where the embedded queue server and the spool of a full sync live',
    everyday: true,
    commands: PIPELINE,
  }),
  spoolMax: option(size(1024 ** 2, ANY_SIZE).default(16 * 1024 ** 3), {
    placeholder: 'SIZE',
    description: 'how much of a full sync, and of what follows it, may wait in --data-dir',
    commands: APPLY,
  }),
  announcePort: option(port().default(0), {
    placeholder: 'PORT',
    description: 'port that a live source shows for this replica; 0 for none',
    commands: APPLY,
  }),
  acceptWeakerGuarantee: option(toggle().default(false), {
    description: 'apply into a target whose WATCH does not hold (a Pika); a start says what that means',
    commands: ['run', 'worker', 'check'],
  }),
  onPoison: option(choice(['stop', 'dead-letter']).default('stop'), {
    placeholder: 'WHAT',
    description: 'a command that cannot be applied: stop its lane, or dead-letter',
    everyday: true,
    commands: ['run', 'worker', 'check'],
  }),
  trimSource: option(toggle().default(false), {
    description: 'trim the source stream up to what is applied, never past another group',
    commands: APPLY,
  }),
  dbMap: option(
    list('must be databases and numbers such as db0=0,db1=1', (item) =>
      /^[\w.-]{1,24}=\d{1,5}$/.test(item) ? item : undefined,
    ).default([]),
    {
      placeholder: 'LIST',
      description: "database of the target for each of Pika's; default: the same number",
      commands: PIPELINE,
    },
  ),
  splitMultiKey: option(toggle().default(true), {
    description: 'split MSET, DEL, UNLINK and TOUCH into their lanes',
    commands: CLASSIFY,
  }),
  scriptKeys: option(choice(['all', 'declared']).default('all'), {
    placeholder: 'WHAT',
    description: 'lanes of EVAL, EVALSHA and FCALL: all, or those of the declared keys',
    commands: CLASSIFY,
  }),
  publish: option(toggle().default(false), {
    description: 'apply PUBLISH and SPUBLISH instead of dropping and counting them',
    commands: CLASSIFY,
  }),
  allow: option(commandNames().default([]), {
    placeholder: 'LIST',
    description: 'commands to apply although they are forbidden or unknown',
    commands: CLASSIFY,
  }),
  deny: option(commandNames().default([]), {
    placeholder: 'LIST',
    description: 'commands to forbid although they are known',
    commands: CLASSIFY,
  }),
  retentionMs: option(duration('ms', 0, 30 * DAY_MS).default(60_000), {
    placeholder: 'MS',
    description: 'how long the journal keeps what is applied, for a target that falls back',
    commands: APPLY,
  }),
  retentionBytes: option(size(0, ANY_SIZE).default(256 * 1024 ** 2), {
    placeholder: 'SIZE',
    description: 'how much of what is applied the journal keeps at most',
    commands: APPLY,
  }),
  expiryGraceMs: option(duration('ms', 0, 30 * DAY_MS).default(3_600_000), {
    placeholder: 'MS',
    description:
      'by how much deadlines of a live source are held back until lanegate finish (0: nor are those of an AOF); counts at the first start',
    commands: APPLY,
  }),
  budgetBytes: option(size(1024 ** 2, ANY_SIZE).default(128 * 1024 ** 2), {
    placeholder: 'SIZE',
    description: 'unapplied bytes in the journal at which reading waits',
    commands: APPLY,
  }),
  roundBytes: option(size(1024, 256 * 1024 ** 2).default(1024 ** 2), {
    placeholder: 'SIZE',
    description: 'bytes that one commit puts into the journal at most',
    commands: APPLY,
  }),
  chunkBytes: option(size(1024, 64 * 1024 ** 2).default(128 * 1024), {
    placeholder: 'SIZE',
    description: 'bytes that one transaction of a lane sends to the target',
    commands: APPLY,
  }),
  segmentBytes: option(size(1024, 64 * 1024 ** 2).default(2 * 1024 ** 2), {
    placeholder: 'SIZE',
    description: 'bytes of dense cross-lane commands that one gate applies',
    commands: APPLY,
  }),
  transactionBytes: option(size(1024, 512 * 1024 ** 2).default(64 * 1024 ** 2), {
    placeholder: 'SIZE',
    description: 'largest MULTI of the source; a larger one stops ingest',
    commands: APPLY,
  }),
  lingerMs: option(duration('ms', 0, 1000).default(1), {
    placeholder: 'MS',
    description: 'how long a commit waits for more to come',
    commands: APPLY,
  }),
  lockMs: option(duration('ms', 1000, 600_000).default(8000), {
    placeholder: 'MS',
    description: 'after which silence of a process its jobs go to another',
    commands: APPLY,
  }),
  watchdogMs: option(duration('ms', 50, 60_000).default(1000), {
    placeholder: 'MS',
    description: 'interval at which lost wake-ups and a fallen back target are looked for',
    commands: APPLY,
  }),
  graceMs: option(duration('ms', 0, 600_000).default(10_000), {
    placeholder: 'MS',
    description: 'time to finish work after SIGTERM before it is handed back',
    commands: [...APPLY, 'board', 'demo'],
  }),
  ...access('source'),
  ...access('target'),
  ...access('queue'),
  logLevel: option(choice(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']).default('info'), {
    placeholder: 'LEVEL',
    description: 'trace, debug, info, warn, error, fatal or silent',
    commands: VERBS,
  }),
  logFormat: option(choice(['auto', 'json', 'pretty']).default('auto'), {
    placeholder: 'FORMAT',
    description: 'json, pretty, or auto: pretty on a terminal',
    commands: VERBS,
  }),
  json: option(toggle().default(false), {
    description: 'print JSON',
    everyday: true,
    commands: ['status', 'lane', 'errors', 'check', 'explain', 'pika-binlog', 'verify', 'finish', 'demo'],
  }),
  watch: option(toggle().default(false), {
    description: 'draw it again every second',
    everyday: true,
    commands: ['status'],
  }),
  wait: option(toggle().default(false), {
    description: 'end when all that is in the source now is applied',
    everyday: true,
    commands: ['status'],
  }),
  timeout: option(duration('s', 1, 30 * 86_400).default(60), {
    placeholder: 'SECONDS',
    description: 'how long --wait, --at-barrier, relane, or each step of finish waits',
    everyday: true,
    commands: ['status', 'verify', 'finish', 'relane'],
  }),
  values: option(toggle().default(false), {
    description: 'show the arguments of commands, not only their names and keys',
    everyday: true,
    commands: ['errors', 'pika-binlog'],
  }),
  yes: option(toggle().default(false), {
    description: 'do not ask',
    everyday: true,
    commands: ['reset', 'finish'],
    given: 'flag-only',
  }),
  seq: option(integer(0, Number.MAX_SAFE_INTEGER).optional(), {
    placeholder: 'S',
    description: 'the command to skip, as `lanegate status` names it',
    everyday: true,
    commands: ['lane'],
    given: 'flag-only',
  }),
  reason: option(text().optional(), {
    placeholder: 'TEXT',
    description: 'why, kept with the skip or the pause',
    everyday: true,
    commands: ['lane'],
    given: 'flag-only',
  }),
  db: option(integer(0, 65535).default(0), {
    placeholder: 'N',
    description: 'database that the commands run in',
    everyday: true,
    commands: ['append'],
  }),
  batch: option(integer(1, 100_000).default(100), {
    placeholder: 'N',
    description: 'commands in one entry at most',
    everyday: true,
    commands: ['append'],
  }),
  resp: option(toggle().default(false), {
    description: 'standard input is RESP, not one command a line',
    everyday: true,
    commands: ['append'],
  }),
  sample: option(share().default(1), {
    placeholder: 'SHARE',
    description: 'share of the keys to compare, the same ones in every run',
    everyday: true,
    commands: ['verify'],
  }),
  rounds: option(integer(1, 1_000_000).optional(), {
    placeholder: 'N',
    description: 'verify: looks at a key that differs (3); demo: SET, SET, FLUSHDB, SET (1000)',
    everyday: true,
    commands: ['verify', 'demo'],
  }),
  ttlTolerance: option(duration('s', 0, 86_400).default(2), {
    placeholder: 'SECONDS',
    description: 'TTLs that are closer to each other are equal',
    everyday: true,
    commands: ['verify'],
  }),
  ttlGrace: option(duration('s', 0, 30 * 86_400).default(0), {
    placeholder: 'SECONDS',
    description: 'what the deadlines at the target are held back by',
    commands: ['verify'],
  }),
  atBarrier: option(toggle().default(false), {
    description: 'hold the pipeline (--name, --queue) at one seq meanwhile',
    everyday: true,
    commands: ['verify'],
  }),
  freeze: option(toggle().default(false), {
    description: 'hold the writes at the source meanwhile (CLIENT PAUSE WRITE)',
    everyday: true,
    commands: ['finish'],
  }),
  verify: option(toggle().default(false), {
    description: 'compare both sides key by key at the end',
    everyday: true,
    commands: ['finish'],
  }),
  removeKeys: option(toggle().default(false), {
    description: "remove the pipeline's keys from the target, once no worker runs",
    everyday: true,
    commands: ['finish'],
  }),
  serve: option(toggle().default(false), {
    description: 'go on with live traffic and the board until Ctrl-C',
    everyday: true,
    commands: ['demo'],
  }),
  help: option(toggle().default(false), { description: 'this text', commands: VERBS, given: 'flag-only' }),
  all: option(toggle().default(false), {
    description: 'with --help: every option',
    commands: VERBS,
    given: 'flag-only',
  }),
  version: option(toggle().default(false), {
    description: 'print the version',
    commands: VERBS,
    given: 'flag-only',
  }),
});

export type Options = z.output<typeof options>;
export type OptionName = keyof Options;
export const optionNames = Object.keys(options.shape) as readonly OptionName[];

type AccessName = keyof ReturnType<typeof access<'source' | 'target' | 'queue'>>;

/** What a command works with: checked, credentials folded into the endpoints, paths absolute. */
export type Config = Readonly<
  Omit<Options, 'target' | 'queue' | 'boardPasswordFile' | AccessName> & {
    /** As given; its scheme chooses the source, which parses it with `sourceSecrets`. */
    source?: string | undefined;
    sourceSecrets: EndpointSecrets;
    target: Endpoint | undefined;
    queue: Endpoint | undefined;
  }
>;

export function factsOf(name: OptionName): OptionFacts {
  const about = facts.get(options.shape[name]);
  if (about === undefined) throw new Error(`option ${name} is not described`);
  return about;
}
