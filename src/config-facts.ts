import * as z from 'zod';
import type { Verb } from './config-verbs.ts';

export interface OptionFacts {
  readonly description: string;
  readonly commands: readonly Verb[];
  /** What stands for the value in --help; undefined for a toggle. */
  readonly placeholder?: string;
  readonly everyday?: boolean;
  /** Where the option can be given: secrets are no flags, decisions about one call are nothing but flags. */
  readonly given?: 'flag-only' | 'secret';
}

/** What each option is, beside its type and default. */
export const facts = z.registry<OptionFacts>();

export function option<S extends z.ZodType>(schema: S, about: OptionFacts): S {
  facts.add(schema, about);
  return schema;
}

/** boardPort -> board-port */
export function flagOf(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** boardPort -> LANEGATE_BOARD_PORT */
export function variableOf(name: string): string {
  return `LANEGATE_${flagOf(name).replaceAll('-', '_').toUpperCase()}`;
}
