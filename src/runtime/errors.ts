// Three classes and a default: aborted (clean stop), stop (unrecoverable, names the way out),
// configuration (every problem at once). Everything else is transient and retried by runtime/backoff.ts.

/** A clean stop was asked for while something was under way. Never logged as a failure. */
export class AbortedError extends Error {
  override readonly name = 'AbortedError';
  constructor(what = 'stopped') {
    super(what);
  }
}

/** Unrecoverable without an operator: exit code 1. `hint` is a command or one sentence that helps. */
export class StopError extends Error {
  override readonly name = 'StopError';
  readonly code: string;
  readonly hint: string;
  readonly facts: Readonly<Record<string, string | number>>;

  constructor(
    code: string,
    message: string,
    options: { hint: string; facts?: Record<string, string | number>; cause?: unknown },
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.facts = options.facts ?? {};
  }
}

/** Bad options or files: exit code 2, all problems listed at once. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(problems.join('\n'));
    this.problems = problems;
  }
}

/** The message of anything thrown, without stack, arguments or values. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
