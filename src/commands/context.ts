import type { Readable, Writable } from 'node:stream';
import type { Config } from '../config.ts';
import type { Logger } from '../runtime/log.ts';

/** What a command is given. It returns its exit code: 0 done, 1 failed or stopped. Usage errors are thrown. */
export interface CommandContext {
  readonly config: Config;
  /** What stands between the flags, without the verb. */
  readonly positionals: readonly string[];
  readonly stdin: Readable;
  /** Results only. */
  readonly stdout: Writable;
  readonly stderr: Writable;
  /** Aborted by SIGINT and SIGTERM: stop taking work, finish, hand back, return. */
  readonly signal: AbortSignal;
  readonly log: Logger;
}

export type Command = (context: CommandContext) => Promise<number>;
