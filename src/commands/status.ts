import { waitUntilCaughtUp } from '../roles/caught-up.ts';
import { sleep } from '../runtime/backoff.ts';
import type { PipelineStatus } from '../status.ts';
import type { CommandContext } from './context.ts';
import { escapeControl, formatCount } from './format.ts';
import { type OpenPipeline, withPipeline } from './open-pipeline.ts';
import { startCommand } from './start-command.ts';
import { renderStatus, type ViewOptions } from './status-view.ts';
import { stopText } from './stop-text.ts';

const REDRAW_MS = 1_000;
const WIDTH_DEFAULT = 100;
const CLEAR = '\u001b[H\u001b[J';

export async function status(context: CommandContext): Promise<number> {
  return await withPipeline(context, async (pipeline) => {
    if (context.config.wait) return await wait(context, pipeline);
    if (context.config.watch) return await watch(context, pipeline);
    print(context, await pipeline.observer.status());
    return 0;
  });
}

/** Redraws until a signal, which is its clean end. */
async function watch(context: CommandContext, { observer }: OpenPipeline): Promise<number> {
  const { stdout, signal, config } = context;
  const clear = !config.json && viewOf(context).colour ? CLEAR : '';
  for (;;) {
    const current = await observer.status();
    if (signal.aborted) return 0;
    stdout.write(clear);
    print(context, current);
    try {
      await sleep(REDRAW_MS, signal);
    } catch {
      return 0;
    }
  }
}

async function wait(context: CommandContext, { observer, source }: OpenPipeline): Promise<number> {
  const { config, signal, stdout, stderr } = context;
  const onStatus = config.watch ? watcher(context) : undefined;
  const timeoutMs = config.timeout * 1000;
  const end = await waitUntilCaughtUp({
    observer,
    source,
    timeoutMs,
    signal,
    ...(onStatus === undefined ? {} : { onStatus }),
  });
  if (config.json) print(context, end.status);
  if (end.kind === 'caught up') {
    if (!config.json)
      stdout.write(`caught up: everything through seq ${formatCount(end.status.head.seq)} is applied\n`);
    return 0;
  }
  if (end.kind === 'stopped') stderr.write(stopText(end.place, end.stop));
  else {
    const seconds = formatCount(config.timeout);
    stderr.write(
      `lanegate status: not caught up after ${seconds} s, waiting for ${escapeControl(end.waitingFor)}\n`,
    );
  }
  return 1;
}

function watcher(context: CommandContext): (current: PipelineStatus) => void {
  let drawnMs = Number.NEGATIVE_INFINITY;
  const clear = viewOf(context).colour ? CLEAR : '';
  return (current) => {
    if (context.config.json || current.time - drawnMs < REDRAW_MS) return;
    drawnMs = current.time;
    context.stdout.write(clear);
    print(context, current);
  };
}

function print(context: CommandContext, current: PipelineStatus): void {
  const { stdout, config } = context;
  const options = { ...viewOf(context), start: startCommand(config) };
  stdout.write(config.json ? `${JSON.stringify(current)}\n` : renderStatus(current, options));
}

/** Colours and width of the terminal; plain and wide enough elsewhere. */
export function viewOf({ stdout }: Pick<CommandContext, 'stdout'>): ViewOptions {
  const { isTTY, columns } = stdout as { isTTY?: boolean; columns?: number };
  const colour = isTTY === true && (process.env.NO_COLOR ?? '') === '';
  return { colour, width: columns ?? WIDTH_DEFAULT };
}
