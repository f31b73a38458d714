import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';

type ScriptName =
  | 'arrive'
  | 'begin'
  | 'flush-intent'
  | 'flush-settled'
  | 'gate-closed'
  | 'hole'
  | 'orphans'
  | 'pause'
  | 'pause-owners'
  | 'progress'
  | 'rebuild'
  | 'resume-point'
  | 'room'
  | 'sleep'
  | 'snapshot'
  | 'stop'
  | 'trim';

interface Script {
  readonly text: string;
  readonly sha: string;
}

const loaded = new Map<ScriptName, Script>();

/** `-- include account` stands for account.lua: what several steps do in the same way. */
const INCLUDE = /^-- include (\S+)$/gm;

function textOf(file: string): string {
  return readFileSync(new URL(`./${file}.lua`, import.meta.url), 'utf8');
}

function script(name: ScriptName): Script {
  const known = loaded.get(name);
  if (known) return known;
  const text = textOf(name).replace(INCLUDE, (_, file: string) => textOf(file));
  const fresh = { text, sha: createHash('sha1').update(text).digest('hex') };
  loaded.set(name, fresh);
  return fresh;
}

/** Runs one of the atomic steps in this folder. A server that has lost its script cache is given the text again. */
export async function runScript(
  redis: Redis,
  name: ScriptName,
  keys: readonly string[],
  args: readonly (string | number | Buffer)[],
): Promise<unknown> {
  const { text, sha } = script(name);
  try {
    return await redis.call('EVALSHA', sha, keys.length, ...keys, ...args);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
    return await redis.call('EVAL', text, keys.length, ...keys, ...args);
  }
}
