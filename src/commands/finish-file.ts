// The end of an AOF: all of it is applied, no process is at work any more, its deadlines become true.

import { type FileDeadlineCounts, restoreFileDeadlines } from '../finish/file-deadlines.ts';
import { AbortedError, ConfigurationError, StopError } from '../runtime/errors.ts';
import type { Identity } from '../target/control.ts';
import { Link } from '../verify/link.ts';
import type { CommandContext } from './context.ts';
import { removeControlKeys, say, telling, untilApplied, untilNoWorkers } from './finish-steps.ts';
import { stopCommands } from './finish-view.ts';
import { formatCount } from './format.ts';
import { type OpenPipeline, withPipelineOrItsRemains } from './open-pipeline.ts';

const RIGHTS = '~* +@read +info +select +pexpireat +hpexpireat';
const PATIENCE_MS = 60_000;
/** No process is there that could apply more. */
const NOBODY_S = 3;

/** What `--json` prints as its last line. A part that is missing was not reached. */
interface FinishFileReport {
  /** Where everything was applied. */
  caughtUp?: string;
  /** The file is another log by now: where the old one ended is not known. */
  replaced?: true;
  deadlines?: FileDeadlineCounts;
  /** The target is in import mode, because the pipeline counts on it. */
  importMode?: true;
  removed?: number;
  readonly done: string[];
  /** Why the exit code is 1. */
  readonly open: string[];
}

/** @throws StopError, ConfigurationError */
export async function finishFile(context: CommandContext): Promise<number> {
  const { config } = context;
  const unknown = (['freeze', 'verify'] as const).filter((name) => config[name]);
  if (unknown.length > 0) {
    throw new ConfigurationError(
      unknown.map((name) => `--${name}: an AOF is a file, and no server that could be asked`),
    );
  }
  return await withPipelineOrItsRemains(context, (pipeline) => finishPipeline(context, pipeline));
}

async function finishPipeline(context: CommandContext, pipeline: OpenPipeline): Promise<number> {
  const { config, stdout, signal } = context;
  const report: FinishFileReport = { done: [], open: [] };
  let failure: unknown;
  try {
    await steps(context, pipeline, report);
  } catch (error) {
    failure = error;
    report.open.unshift(error instanceof AbortedError ? 'interrupted' : 'cut short by an error');
  }
  stdout.write(config.json ? `${JSON.stringify(report)}\n` : render(report, context));
  if (failure !== undefined && !(failure instanceof AbortedError && signal.aborted)) throw failure;
  return report.open.length === 0 ? 0 : 1;
}

async function steps(
  context: CommandContext,
  pipeline: OpenPipeline,
  report: FinishFileReport,
): Promise<void> {
  const { config, signal, log } = context;
  if (config.target === undefined) throw new ConfigurationError(['--target is missing']);
  const identity = await identityOf(context, pipeline);
  await withoutWorkers(context, pipeline);
  if (isLog(pipeline, identity.source)) report.caughtUp = await untilApplied(context, pipeline, NOBODY_S);
  else {
    say(context, 'the file is another log by now, or gone: of the old one, what was read is finished');
    report.replaced = true;
    report.caughtUp = await allThatWasRead(pipeline);
  }
  const target = new Link({
    side: 'target',
    endpoint: config.target,
    signal,
    rights: RIGHTS,
    name: `lanegate:${config.name}:finish`,
    patienceMs: PATIENCE_MS,
    onTrouble: (what) => log.warn({ side: 'target' }, `finish waits: ${what}`),
  });
  try {
    await target.open();
    if (identity.importMode) report.importMode = true;
    const counts: FileDeadlineCounts = { scanned: 0, restored: 0, expired: 0, fields: 0 };
    report.deadlines = counts;
    say(context, 'putting the true deadlines back');
    const text = () => `${formatCount(counts.scanned)} keys, ${formatCount(counts.restored)} set`;
    await telling(context, text, () => restoreFileDeadlines(target, counts));
    report.done.push('deadlines');
    if (!config.removeKeys) return;
    const removed = await removeControlKeys(context, target, config.target.db);
    if (removed === undefined) {
      report.open.push("the pipeline's keys at the target are kept: not confirmed");
      return;
    }
    report.removed = removed;
    report.done.push('keys removed');
  } finally {
    target.close();
  }
}

async function identityOf({ config }: CommandContext, { observer }: OpenPipeline): Promise<Identity> {
  const { identity, status } = await observer.observe();
  if (identity === undefined) {
    throw new StopError(
      'NOT_BEGUN',
      status.target.waiting?.hint ?? `the target knows nothing of pipeline "${config.name}"`,
      { hint: 'look whether --name, --target and --queue (or --data-dir) are those of the run' },
    );
  }
  if (!identity.source.startsWith('aof:')) {
    throw new StopError('NOT_AN_AOF', `pipeline "${config.name}" reads ${identity.source}, and no AOF`, {
      hint: 'give the --name of the run',
    });
  }
  return identity;
}

/** False when the server has rewritten its AOF, or the file is gone: no run can go on from the log that was read. */
function isLog({ source }: OpenPipeline, identity: string): boolean {
  try {
    return source?.identity === identity;
  } catch (error) {
    if (error instanceof StopError) return false;
    throw error;
  }
}

/** The position up to which the journal was read. @throws StopError when not all of that is applied */
async function allThatWasRead({ observer }: OpenPipeline): Promise<string> {
  const { status, applied } = await observer.observe();
  const { seq, position } = status.head;
  if (applied?.seq === seq && !status.gate.open) return position ?? 'unknown';
  throw new StopError('NOT_CAUGHT_UP', `read up to seq ${seq}, applied through seq ${applied?.seq}`, {
    hint: 'the log cannot be read on from there: lanegate reset, and start over with the file of today',
  });
}

/** What they applied meanwhile would be held back again. */
async function withoutWorkers(context: CommandContext, pipeline: OpenPipeline): Promise<void> {
  const alive = await untilNoWorkers(context, pipeline, "waiting for the pipeline's processes to end");
  if (alive.length === 0) return;
  throw new StopError('STILL_RUNNING', "the pipeline's processes run", {
    hint: `wait for their end, or stop them: ${stopCommands(alive)}`,
  });
}

function render(
  { deadlines, removed, importMode, open, done }: FinishFileReport,
  { config }: CommandContext,
): string {
  const lines: string[] = [];
  if (!done.includes('deadlines')) lines.push('deadlines: not put back');
  else if (deadlines !== undefined) {
    const { scanned, restored, expired, fields } = deadlines;
    lines.push(
      `deadlines: ${formatCount(restored)} of ${formatCount(scanned)} keys have theirs again` +
        `, ${formatCount(expired)} whose time had come are gone` +
        (fields === 0 ? '' : `, and those of ${formatCount(fields)} hash fields`),
    );
  }
  if (removed !== undefined)
    lines.push(`${formatCount(removed)} keys of pipeline "${config.name}" are removed from the target`);
  if (open.length > 0) {
    lines.push('', 'not finished:', ...open.map((what) => `  ${what}`));
    lines.push('lanegate finish may be repeated: what it has done stays done');
  } else {
    lines.push('', 'finished');
    if (importMode)
      lines.push(
        'CONFIG SET import-mode no at the target, and in its file: until then nothing expires there',
      );
  }
  return `${lines.join('\n')}\n`;
}
