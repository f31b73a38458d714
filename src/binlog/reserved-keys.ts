// Keys of lanegate in the log: a source may be the target of another pipeline, whose bookkeeping it then carries.

import { startsWith } from './ascii.ts';
import { formatKey } from './quoting.ts';
import type { RespScanner } from './resp.ts';

/** No key of the log under it reaches the target. */
export const RESERVED_PREFIX = 'lanegate:';

/** What a pipeline keeps in its target (target/control.ts). */
const BOOKKEEPING = /^lanegate:([A-Za-z0-9_-]{1,64}):(?:identity|mark|flush|ck:\d+|check|probe:.*)$/s;
const KEY_BYTES_MAX = 256;

export interface Reserved {
  /** All of the keys are bookkeeping of other pipelines: a command of these alone means nothing here. */
  readonly foreign: boolean;
  readonly key: Buffer;
  /** Names the key. */
  readonly why: string;
}

/** The name of the pipeline that keeps `key` in its target. */
function pipelineOf(key: Buffer): string | undefined {
  return key.length > KEY_BYTES_MAX ? undefined : BOOKKEEPING.exec(key.toString('latin1'))?.[1];
}

export class ReservedKeys {
  readonly #prefix = Buffer.from(RESERVED_PREFIX);
  readonly #own: string | undefined;

  /** `own`: name of the pipeline that reads the log. */
  constructor(own: string | undefined) {
    this.#own = own;
  }

  has({ buffer, argStart, argEnd }: RespScanner, at: number): boolean {
    return startsWith(buffer, argStart[at] as number, argEnd[at] as number, this.#prefix);
  }

  /** Undefined when none of `keys` is lanegate's. */
  judge(scanner: RespScanner, keys: readonly number[]): Reserved | undefined {
    const ours = keys.filter((at) => this.has(scanner, at));
    if (ours.length === 0) return undefined;
    const found = ours.map((at) => ({ key: scanner.arg(at), pipeline: pipelineOf(scanner.arg(at)) }));
    const bad = found.find(({ pipeline }) => pipeline === undefined || pipeline === this.#own);
    const { key, pipeline } = bad ?? (found[0] as (typeof found)[number]);
    const foreign = bad === undefined && ours.length === keys.length;
    return { foreign, key, why: this.#why(key, pipeline) };
  }

  #why(key: Buffer, pipeline: string | undefined): string {
    const shown = formatKey(key);
    if (pipeline !== undefined && pipeline === this.#own)
      return `${shown}: the pipeline's own keys; where the source is the target of another pipeline of that name, give this one another --name`;
    return `${shown}: keys under ${RESERVED_PREFIX} belong to lanegate`;
  }
}
