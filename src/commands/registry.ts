import type { Verb } from '../config-verbs.ts';
import type { Command } from './context.ts';

/** Imported when asked for: `append` need not load the board. */
export const commands: Readonly<Record<Verb, () => Promise<Command>>> = {
  run: async () => (await import('./run.ts')).run,
  worker: async () => (await import('./worker.ts')).worker,
  board: async () => (await import('./board.ts')).board,
  status: async () => (await import('./status.ts')).status,
  append: async () => (await import('./append.ts')).append,
  lane: async () => (await import('./lane.ts')).lane,
  errors: async () => (await import('./errors.ts')).errors,
  check: async () => (await import('./check.ts')).check,
  explain: async () => (await import('./explain.ts')).explain,
  verify: async () => (await import('./verify.ts')).verify,
  finish: async () => (await import('./finish.ts')).finish,
  relane: async () => (await import('./relane.ts')).relane,
  reset: async () => (await import('./reset.ts')).reset,
  'pika-binlog': async () => (await import('./pika-binlog.ts')).pikaBinlog,
  demo: async () => (await import('./demo.ts')).demo,
};
