import { createRequire } from 'node:module';
import { isatty } from 'node:tty';
import { type DestinationStream, destination, type Logger, pino, stdSerializers } from 'pino';

export type { Logger };

export interface LogOptions {
  readonly level: string;
  /** auto: pretty on a terminal, JSON elsewhere. */
  readonly format: 'auto' | 'json' | 'pretty';
  /** Standard error without it: standard output is for results. */
  readonly destination?: DestinationStream;
}

const STANDARD_ERROR = 2;
const require = createRequire(import.meta.url);

/** One logger a process. Writes are synchronous: the last line before a crash is the one that matters. */
export function createLogger(options: LogOptions): Logger {
  const pretty = options.format === 'pretty' || (options.format === 'auto' && isatty(STANDARD_ERROR));
  const raw = options.destination ?? destination({ dest: STANDARD_ERROR, sync: true });
  const stream = pretty
    ? prettyStream(raw, options.destination === undefined && isatty(STANDARD_ERROR))
    : raw;
  const verbose = options.level === 'debug' || options.level === 'trace';
  const err = (error: unknown) => describeError(error, verbose);
  return pino({ level: options.level, serializers: { ...stdSerializers, err, error: err } }, stream);
}

/** Formats in the same call: pino-pretty's own stream loses its last lines when the process exits. */
function prettyStream(raw: DestinationStream, colorize: boolean): DestinationStream {
  // Loaded for a terminal only: a service writes JSON.
  const { prettyFactory } = require('pino-pretty') as typeof import('pino-pretty');
  const format = prettyFactory({
    colorize,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid,hostname',
    singleLine: true,
  });
  return { write: (line) => raw.write(format(JSON.parse(line))) };
}

export interface ErrorDescription {
  readonly name: string;
  readonly message: string;
  readonly code?: string;
  readonly hint?: string;
  readonly cause?: string;
  readonly stack?: string;
}

/**
 * What may be said of an error. Picks fields instead of printing the object: ioredis hangs the command with all its
 * arguments, and so values and passwords, on its errors.
 */
export function describeError(error: unknown, withStack = false): ErrorDescription {
  if (!(error instanceof Error)) return { name: 'Error', message: mask(String(error)) };
  const { code, hint } = error as { code?: unknown; hint?: unknown };
  return {
    name: error.name,
    message: safeMessage(error),
    ...(typeof code === 'string' ? { code } : {}),
    ...(typeof hint === 'string' ? { hint } : {}),
    ...(error.cause === undefined ? {} : { cause: safeMessage(error.cause) }),
    ...(withStack && error.stack !== undefined ? { stack: mask(error.stack) } : {}),
  };
}

/** The message of anything thrown, without credentials and without the arguments that Redis repeats. */
export function safeMessage(error: unknown): string {
  if (!(error instanceof Error)) return mask(String(error));
  // Node leaves the message empty where connecting failed on several addresses.
  const inner: unknown = error instanceof AggregateError ? error.errors[0] : undefined;
  return error.message === '' && inner !== undefined ? safeMessage(inner) : mask(error.message || error.name);
}

/** `redis://u:p@h` -> `redis://***@h`; "unknown command 'X', with args beginning with: ..." loses its arguments. */
export function mask(text: string): string {
  return text
    .replace(/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/?#]*@/gi, '$1***@')
    .replace(/(with args beginning with:)[^\n]*/gi, '$1 ***');
}
