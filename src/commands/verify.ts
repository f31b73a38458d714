import { Hold } from '../roles/hold.ts';
import { Operator } from '../roles/operator.ts';
import { type Endpoint, parseEndpoint } from '../runtime/endpoint.ts';
import { ConfigurationError } from '../runtime/errors.ts';
import { Verification, type VerifyResult } from '../verify/verify.ts';
import type { CommandContext } from './context.ts';
import { operatorName, withPipeline } from './open-pipeline.ts';
import { progressText, renderReport, ScanMeter } from './verify-view.ts';

const ROUNDS = 3;
const PAUSE_MS = 1_000;
const PATIENCE_MS = 300_000;
const REDRAW_MS = 250;
const LOG_MS = 10_000;
const CLEAR_LINE = '\r\u001b[K';

/** Compares two servers. Exit code 1 if they differ. */
export async function verify(context: CommandContext): Promise<number> {
  const { config, stdout } = context;
  const { source, target } = endpointsOf(context);
  const beganMs = performance.now();
  const compare = () => compareServers(context, source, target);
  const result = config.atBarrier ? await atBarrier(context, compare) : await compare();
  const seconds = Math.round(performance.now() - beganMs) / 1000;
  const report = { ...result, seconds };
  stdout.write(config.json ? `${JSON.stringify(report)}\n` : renderReport(report, config.sample));
  return Object.values(result.differences).every((count) => count === 0) ? 0 : 1;
}

/** @throws ConfigurationError */
function endpointsOf({ config }: CommandContext): { source: Endpoint; target: Endpoint } {
  const { source = '', target } = config;
  if (/^rediss?-stream:/i.test(source)) {
    throw new ConfigurationError([
      '--source: a stream is a log, not a data set: verify needs the server that holds the data (redis:// or rediss://)',
    ]);
  }
  if (!/^rediss?:\/\//i.test(source)) {
    throw new ConfigurationError(['--source: verify needs a URL that begins with redis:// or rediss://']);
  }
  if (target === undefined) throw new ConfigurationError(['--target is missing']);
  return { source: parseEndpoint('--source', source, config.sourceSecrets), target };
}

/** `pardon` as in VerifyOptions. */
export async function compareServers(
  { config, stderr, log, signal }: CommandContext,
  source: Endpoint,
  target: Endpoint,
  pardon?: (db: number, key: Buffer) => boolean,
): Promise<VerifyResult> {
  const verification = new Verification({
    source,
    target,
    sample: config.sample,
    rounds: config.rounds ?? ROUNDS,
    ttl: { toleranceMs: config.ttlTolerance * 1000, graceMs: config.ttlGrace * 1000 },
    pauseMs: PAUSE_MS,
    patienceMs: PATIENCE_MS,
    ...(pardon === undefined ? {} : { pardon }),
    signal,
    onTrouble: (side, what) => log.warn({ side }, `verify waits: ${what}`),
  });
  const terminal = (stderr as { isTTY?: boolean }).isTTY === true;
  const meter = new ScanMeter();
  meter.update(verification.progress, performance.now());
  const tell = () => {
    const { progress } = verification;
    const text = progressText(progress, meter.update(progress, performance.now()));
    if (terminal) stderr.write(`${CLEAR_LINE}${text}`);
    else log.info(progress, `verify: ${text}`);
  };
  const timer = setInterval(tell, terminal ? REDRAW_MS : LOG_MS);
  try {
    return await verification.run();
  } finally {
    clearInterval(timer);
    if (terminal) stderr.write(CLEAR_LINE);
  }
}

/** Runs `compare` while the pipeline stands still; it goes on afterwards, whatever happens. */
async function atBarrier(
  context: CommandContext,
  compare: () => Promise<VerifyResult>,
): Promise<VerifyResult> {
  const { config, signal, log } = context;
  // --source names the data here, which is no source of the pipeline.
  const ofPipeline = { ...context, config: { ...config, source: undefined } };
  return await withPipeline(ofPipeline, async ({ redis, journal, records, observer, queues }) => {
    const operator = new Operator({
      redis,
      journal,
      records,
      queues: await queues(),
      by: operatorName(),
      now: Date.now,
    });
    const timeoutMs = config.timeout * 1000;
    const hold = new Hold({ redis, journal, queues: await queues(), observer, operator, timeoutMs, signal });
    try {
      const seq = await hold.take();
      log.info({ seq }, 'the pipeline is held');
      const result = await compare();
      await hold.verify(seq);
      return result;
    } finally {
      await hold.release();
    }
  });
}
