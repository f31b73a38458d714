import type { CommandContext } from './commands/context.ts';
import { commands } from './commands/registry.ts';
import type { Config } from './config.ts';
import { helpFor } from './config-help.ts';
import { nearest } from './config-nearest.ts';
import { isVerb, VERBS, type Verb } from './config-verbs.ts';
import { AbortedError, ConfigurationError, StopError } from './runtime/errors.ts';
import { armFailpoints } from './runtime/failpoints.ts';
import { createLogger, describeError, type LogOptions, safeMessage } from './runtime/log.ts';
import { packageVersion } from './runtime/package.ts';

const DONE = 0;
const FAILED = 1;
const USAGE = 2;
const INTERRUPTED = 130;

/** npm and npx pass on a Ctrl-C that the terminal has sent to us as well: it is one, not two. */
const SAME_SIGNAL_MS = 250;

export interface Io extends Pick<CommandContext, 'stdin' | 'stdout' | 'stderr' | 'signal'> {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  /** The process's standard error without it. */
  readonly logTo?: LogOptions['destination'];
}

/** The process: argv -> config -> command -> exit code. */
export async function main(): Promise<void> {
  const { stdin, stdout, stderr } = process;
  let verbose = false;
  const fail = (error: unknown) => {
    stderr.write(failureText(error, verbose));
    process.exit(FAILED);
  };
  // Node would print such an error whole, with the arguments of the command that failed.
  process.on('uncaughtException', fail);
  for (const stream of [stdout, stderr]) {
    // Whoever read us (`lanegate status | head`) has gone.
    stream.on('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EPIPE' ? process.exit(FAILED) : fail(error),
    );
  }
  const code = await runCommand(
    process.argv.slice(2),
    { stdin, stdout, stderr, signal: abortOnSignals(), env: process.env, cwd: process.cwd() },
    (debug) => {
      verbose = debug;
    },
  );
  await new Promise<void>((flushed) => stdout.write('', () => flushed()));
  process.exit(code);
}

/** Everything but the process itself. `onVerbose` hears whether stacks are wanted. */
export async function runCommand(
  argv: readonly string[],
  io: Io,
  onVerbose: (verbose: boolean) => void = () => {},
): Promise<number> {
  const [verb, ...rest] = argv;
  const asked = new Set(argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined));
  if (asked.has('--help') || asked.has('-h')) {
    io.stdout.write(helpFor(isVerb(verb) ? verb : undefined, asked.has('--all')));
    return DONE;
  }
  if (asked.has('--version')) {
    io.stdout.write(`${packageVersion()}\n`);
    return DONE;
  }
  if (!isVerb(verb)) {
    const unknown =
      verb === undefined ? 'no command given' : `unknown command ${verb}${nearest(verb, VERBS)}`;
    io.stderr.write(`lanegate: ${unknown}\n\n${helpFor(undefined, false)}`);
    return USAGE;
  }
  let config: Config | undefined;
  let verbose = false;
  try {
    // Not for --help: it brings the sources, whose URLs it checks.
    const { parseInvocation } = await import('./config-load.ts');
    const invocation = parseInvocation(verb, rest, io.env, io.cwd);
    config = invocation.config;
    verbose = config.logLevel === 'debug' || config.logLevel === 'trace';
    onVerbose(verbose);
    const log = createLogger({
      level: config.logLevel,
      format: config.logFormat,
      ...(io.logTo === undefined ? {} : { destination: io.logTo }),
    });
    const failpoints = armFailpoints(io.env);
    if (failpoints.length > 0)
      log.warn({ failpoints }, 'failpoints are armed: this process will fail on purpose');
    const command = await commands[verb]();
    return await command({ ...io, config, positionals: invocation.positionals, log });
  } catch (error) {
    if (error instanceof AbortedError && io.signal.aborted) return isService(verb, config) ? DONE : FAILED;
    io.stderr.write(failureText(error, verbose, verb));
    return error instanceof ConfigurationError ? USAGE : FAILED;
  }
}

/** Ends only by a signal, so that a signal is its clean end. Anything else was cut short. */
function isService(verb: Verb, config: Config | undefined): boolean {
  return ['run', 'worker', 'board'].includes(verb) && config?.until === undefined;
}

function failureText(error: unknown, verbose: boolean, verb?: Verb): string {
  if (error instanceof ConfigurationError) {
    const help = verb === undefined ? '' : `  lanegate ${verb} --help lists the options\n`;
    return error.problems.map((problem) => `lanegate: ${problem}\n`).join('') + help;
  }
  if (error instanceof StopError) return `lanegate: ${safeMessage(error)}\n  ${error.hint}\n`;
  const { message, stack } = describeError(error, verbose);
  return `lanegate: ${stack ?? message}\n`;
}

/** The first SIGINT or SIGTERM asks to stop, the second one does not ask. */
function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  let firstMs: number | undefined;
  const onSignal = () => {
    const nowMs = performance.now();
    firstMs ??= nowMs;
    if (controller.signal.aborted && nowMs - firstMs > SAME_SIGNAL_MS) process.exit(INTERRUPTED);
    controller.abort();
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  return controller.signal;
}
