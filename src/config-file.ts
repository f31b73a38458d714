import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { factsOf, type OptionName, optionNames } from './config.ts';
import { flagOf } from './config-facts.ts';
import { nearest } from './config-nearest.ts';
import { messageOf } from './runtime/errors.ts';

const require = createRequire(import.meta.url);

/** Checked for their keys only. `origin` names file and key. */
export type ConfigFile = ReadonlyMap<OptionName, { value: unknown; origin: string }>;

/** Reads the YAML or JSON file of --config; adds what is wrong with it to `problems`, never a value from it. */
export function readConfigFile(path: string | undefined, problems: string[]): ConfigFile {
  const found = new Map<OptionName, { value: unknown; origin: string }>();
  if (path === undefined) return found;
  const known = optionNames.filter((name) => factsOf(name).given !== 'flag-only' && name !== 'config');
  for (const [key, value] of Object.entries(readMapping(path, problems))) {
    const name = known.find((option) => option === key || flagOf(option) === key);
    // Behind a colon without a blank stands what was meant as the value.
    const origin = `${path}: ${key.replace(/[:=\s].*/s, '...')}`;
    if (name === undefined)
      problems.push(`${origin}: unknown key${nearest(key, key.includes('-') ? known.map(flagOf) : known)}`);
    else if (found.has(name)) problems.push(`${origin}: given more than once`);
    else if (value !== null) found.set(name, { value, origin });
  }
  return found;
}

function readMapping(path: string, problems: string[]): Record<string, unknown> {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    problems.push(
      `--config: cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? messageOf(error)}`,
    );
    return {};
  }
  // Loaded when there is a file: most starts have none.
  const { parseDocument } = require('yaml') as typeof import('yaml');
  const document = parseDocument(text, { prettyErrors: true, logLevel: 'silent' });
  for (const error of document.errors) {
    // The message quotes the line, which may hold a password.
    const at = error.linePos?.[0];
    problems.push(
      `${path}: line ${at?.line ?? '?'}, column ${at?.col ?? '?'}: not valid YAML or JSON (${error.code})`,
    );
  }
  if (document.errors.length > 0) return {};
  let content: unknown;
  try {
    content = document.toJS({ maxAliasCount: 100 });
  } catch {
    problems.push(`${path}: its aliases (*name) cannot be resolved`);
    return {};
  }
  if (content === null || content === undefined) return {};
  if (typeof content === 'object' && !Array.isArray(content)) return content as Record<string, unknown>;
  problems.push(`${path}: must be a mapping of options to values`);
  return {};
}
