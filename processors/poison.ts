import { laneQueue } from '../queues/names.ts';
import { keysOf } from '../src/binlog/keys.ts';
import { formatKey } from '../src/binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../src/binlog/resp.ts';
import type { IngestRole, Skip, StopPlace, StopRecord } from '../src/journal/records.ts';
import type { Batch } from '../src/target/plan.ts';
import { type Refusal, refusalOf } from '../src/target/refusal.ts';
import type { BatchOutcome, ReplyError } from '../src/wire/replies.ts';
import type { PipelineContext } from './context.ts';

type Aborted = Extract<BatchOutcome, { kind: 'aborted' }>;

export interface Judged {
  readonly refusal: Refusal;
  readonly error: ReplyError;
  /** Place in the batch of the command that is to blame; undefined when it is none of them. */
  readonly index: number | undefined;
}

/** What stands behind an EXEC that was refused: the first error that waiting does not cure, else the first. */
export function judge(outcome: Aborted): Judged {
  const errors = outcome.errors.map(({ index, error }) => ({ index, error, refusal: refusalOf(error) }));
  const [first] = errors;
  const curable = errors.find(({ refusal }) => refusal !== 'poison');
  // While the target refuses everything (READONLY, OOM) single verdicts mean nothing.
  if (curable) return curable;
  if (first) return first;
  return { refusal: refusalOf(outcome.error), error: outcome.error, index: undefined };
}

/** Name and key of a command for people: never a value. */
export function nameOf(
  context: PipelineContext,
  args: readonly Buffer[],
): { command: string; key: string | null } {
  const command = formatKey(args[0] ?? Buffer.from('?')).toUpperCase();
  const scanner = new RespScanner();
  scanner.reset(encodeCommand(args));
  if (!scanner.next()) return { command, key: null };
  const table = context.table();
  const spec = table.resolve(scanner);
  const at = spec ? keysOf(scanner, spec).keys[0] : undefined;
  const key = at === undefined ? undefined : args[at];
  return { command, key: key === undefined ? null : formatKey(key) };
}

const REASON_CHARS_MAX = 300;
/** What a server puts behind the error that a script ended with. */
const OF_SCRIPT = / script: \S+, on @?user_\w+:\d+\.?\s*$/;
/** What a server says by itself when a script's command fails. */
const BY_SERVER =
  /^(WRONGTYPE Operation against|OOM command not allowed|READONLY You can't write|ERR value is not a|ERR (Error running script: )?Script killed by user|NOPERM )/;
/** Of fewer characters an argument says nothing, and would be found by chance. */
const ARGUMENT_CHARS_MIN = 3;
/** Longer ones no error repeats whole. */
const ARGUMENT_BYTES_MAX = 1_024;

/** A script may end with any text, also one that stands neither in the command nor in a pattern of ours. */
function scriptsOwn(text: string): string {
  return OF_SCRIPT.test(text) && !BY_SERVER.test(text) ? 'the script ended with an error of its own' : text;
}

/**
 * An error text without what it repeats of the command: arguments (GEOADD its coordinates, a script what it was given),
 * and the piece of a script's text at which it could not be read.
 */
export function reasonOf(error: ReplyError, args: readonly Buffer[]): string {
  let text = scriptsOwn(error.message)
    .slice(0, 2 * ARGUMENT_BYTES_MAX)
    .replace(/(with args beginning with:)[^\n]*/, '$1 ...')
    .replace(/(Protocol error: invalid bulk length).*/s, "$1 (above the target's proto-max-bulk-len)")
    .replace(/\bnear '.*'/s, "near '...'")
    .replace(/\b(?:user_script|user_function|@user_\w+):\d+: .*/s, 'an error of its own');
  for (const arg of args.slice(1)) {
    if (arg.length < ARGUMENT_CHARS_MIN || arg.length > ARGUMENT_BYTES_MAX) continue;
    text = text.replaceAll(arg.toString('utf8'), '...');
  }
  return text.slice(0, REASON_CHARS_MAX);
}

/** Leaves a command out by policy: it is kept as a dead letter, and skipped from now on. */
export async function leaveOut(
  context: PipelineContext,
  place: {
    readonly stop: StopPlace;
    readonly skip: Skip['place'];
    readonly generation: string;
    readonly journalId: string;
    /** Seq whose position is shown. */
    readonly at: number;
  },
  blamed: { readonly seq: number; readonly args: readonly Buffer[] },
  reason: string,
): Promise<void> {
  const { records, now } = context;
  const { generation } = place;
  const left = { generation, seq: blamed.seq, reason, by: 'on-poison', atMs: now() };
  const named = {
    position: await positionOf(context, place.journalId, place.at),
    ...nameOf(context, blamed.args),
  };
  await records.deadLetter({ place: place.stop, ...left, ...named }, encodeCommand(blamed.args));
  await records.skip({ ...left, place: place.skip });
}

/** Stops a place durably, pauses the lane's queue for the eye, and says so once. */
export async function stopPlace(
  context: PipelineContext,
  place: StopPlace,
  record: StopRecord,
): Promise<void> {
  const { records, queues } = context;
  // The same again, by whoever looked while this one was on its way, is no news.
  const before = await records.stopAt(place, record.generation);
  await records.stop(place, record);
  if (place.startsWith('lane:')) {
    const lane = Number(place.slice('lane:'.length));
    await queues.pauseAs('stop', laneQueue(lane), record.atMs);
  }
  sayStopped(context, place, record, before);
}

/** Stops ingest, unless the role in which its holder met the reason has gone to another one. */
export async function stopIngest(
  context: PipelineContext,
  record: StopRecord,
  role: IngestRole,
): Promise<'stopped' | 'superseded'> {
  const outcome = await context.records.stopAs(role, 'ingest', record);
  if (outcome.kind === 'stopped') sayStopped(context, 'ingest', record, outcome.before);
  return outcome.kind;
}

function sayStopped(
  { log }: PipelineContext,
  place: StopPlace,
  record: StopRecord,
  before: StopRecord | undefined,
): void {
  const { generation, seq, command, key, position, hint, reason } = record;
  if (before?.generation === generation && before.seq === seq && before.reason === reason) return;
  log.error({ place, seq, command, key, position, hint }, `stopped: ${reason}`);
}

/** The round that holds a seq, as text: behind the first position, up to and including the second. */
export async function positionOf(context: PipelineContext, journalId: string, seq: number): Promise<string> {
  const { journal } = context;
  const [before, end] = await Promise.all([
    journal.resumePoint(journalId, Math.max(0, seq - 1)),
    journal.roundEnd(seq),
  ]);
  return `${before?.position ?? 'unknown'}..${end ?? 'unknown'}`;
}

/** Records every error reply of an executed batch; returns the first. */
export async function recordErrors(
  context: PipelineContext,
  generation: string,
  lanes: readonly number[],
  batch: Batch,
  errors: Extract<BatchOutcome, { kind: 'committed' }>['errors'],
): Promise<{ seq: number; command: string; key: string | null; reason: string } | undefined> {
  let first: { seq: number; command: string; key: string | null; reason: string } | undefined;
  for (const { index, error } of errors) {
    const found = batch.commandAt(index);
    const args = found?.args ?? [];
    const named = { seq: found?.seq ?? 0, ...nameOf(context, args), reason: reasonOf(error, args) };
    first ??= named;
    await context.records.divergence(
      { kind: 'error-reply', generation, through: named.seq, lanes, atMs: context.now(), ...named },
      args.length === 0 ? Buffer.alloc(0) : encodeCommand(args),
    );
  }
  return first;
}
