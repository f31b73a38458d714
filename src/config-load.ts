import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Config, factsOf, type OptionName, type Options, optionNames, options } from './config.ts';
import { flagOf, type OptionFacts, variableOf } from './config-facts.ts';
import { type ConfigFile, readConfigFile } from './config-file.ts';
import { nearest } from './config-nearest.ts';
import { type Verb, verbs } from './config-verbs.ts';
import { type Endpoint, type EndpointSecrets, parseEndpoint } from './runtime/endpoint.ts';
import { ConfigurationError } from './runtime/errors.ts';
import { sourceProblems } from './sources/open.ts';

type Environment = Record<string, string | undefined>;

/** A value before it is checked, and what to call it in a complaint. */
interface Given {
  readonly value: unknown;
  readonly origin: string;
}

interface CommandLine {
  readonly flags: ReadonlyMap<OptionName, Given>;
  readonly positionals: readonly string[];
}

const SERVERS = ['source', 'target', 'queue'] as const;
const PATHS = [
  'dataDir',
  ...SERVERS.flatMap((server) => [`${server}TlsCa`, `${server}TlsCert`, `${server}TlsKey`] as const),
] as const satisfies readonly OptionName[];
const CREDENTIALS_IN_URL = /^[a-z][a-z0-9+.-]*:\/\/[^/?#]*:[^/?#]*@/i;

/**
 * Reads the options of one command: flag over environment over file over default. Variables that hold a secret are
 * deleted from `env`, so that no child process and no crash report inherits them.
 * @throws ConfigurationError with every problem at once.
 */
export function loadConfig(command: Verb, argv: readonly string[], env: Environment, cwd: string): Config {
  return parseInvocation(command, argv, env, cwd).config;
}

/** As loadConfig, with the operands that stand between the flags. */
export function parseInvocation(
  command: Verb,
  argv: readonly string[],
  env: Environment,
  cwd: string,
): { config: Config; positionals: readonly string[] } {
  const problems: string[] = [];
  const { flags, positionals } = readCommandLine(command, argv, problems);
  const variables = readEnvironment(env, problems);
  const path = (flags.get('config') ?? variables.get('config'))?.value;
  const file = readConfigFile(typeof path === 'string' ? resolve(cwd, path) : undefined, problems);
  const given = pick(command, flags, variables, file);
  const parsed = validate(given, problems);
  for (const name of PATHS) {
    const value = parsed[name];
    if (value !== undefined) Object.assign(parsed, { [name]: resolve(cwd, value) });
  }
  const config = assemble(parsed, given, cwd, problems);
  checkOperands(command, positionals, problems);
  checkRequired(command, config.roles, given, problems);
  checkBoard(command, config, problems);
  if (problems.length > 0) throw new ConfigurationError(problems);
  return { config, positionals };
}

function readCommandLine(command: Verb, argv: readonly string[], problems: string[]): CommandLine {
  const kinds = new Map<string, { name: OptionName; type: 'string' | 'boolean'; on: boolean }>();
  for (const name of optionNames) {
    const about = factsOf(name);
    // A secret is no flag, but whoever tries takes its value along, so that no complaint repeats it.
    const type = about.placeholder === undefined && about.given !== 'secret' ? 'boolean' : 'string';
    kinds.set(flagOf(name), { name, type, on: true });
    if (type === 'boolean' && about.given !== 'flag-only')
      kinds.set(`no-${flagOf(name)}`, { name, type, on: false });
  }
  const flags = new Map<OptionName, Given>();
  const positionals: string[] = [];
  const declared = Object.fromEntries([...kinds].map(([flag, { type }]) => [flag, { type }]));
  const { tokens } = parseArgs({ args: [...argv], options: declared, strict: false, tokens: true });
  let unknownAt = Number.NaN;
  for (const token of tokens) {
    // What follows an unknown flag is most likely its value, and may be a secret.
    if (token.kind === 'positional' && token.index !== unknownAt + 1) positionals.push(token.value);
    if (token.kind !== 'option') continue;
    const kind = kinds.get(token.name);
    if (kind === undefined) unknownAt = token.index;
    const problem =
      kind === undefined ? unknownFlag(command, token.rawName) : misused(command, kind, token, flags);
    if (problem !== undefined) problems.push(problem);
    else if (kind !== undefined) {
      const value = kind.type === 'boolean' ? kind.on : token.value;
      flags.set(kind.name, { value, origin: `--${flagOf(kind.name)}` });
    }
  }
  return { flags, positionals };
}

function misused(
  command: Verb,
  kind: { name: OptionName; type: 'string' | 'boolean' },
  token: { rawName: string; value?: string | undefined; inlineValue?: boolean | undefined },
  flags: ReadonlyMap<OptionName, Given>,
): string | undefined {
  const { commands, given } = factsOf(kind.name);
  if (given === 'secret') {
    const file = `--${flagOf(kind.name)}-file`;
    return `${token.rawName}: a password on the command line is seen by others; use ${variableOf(kind.name)} or ${file}`;
  }
  if (!commands.includes(command)) {
    return `${token.rawName}: not an option of \`lanegate ${command}\`, but of ${commands.join(', ')}`;
  }
  if (flags.has(kind.name)) return `${token.rawName}: given more than once`;
  if (kind.type === 'boolean' && token.value !== undefined) return `${token.rawName}: takes no value`;
  if (kind.type === 'boolean') return undefined;
  const swallowed = token.inlineValue === false && token.value?.startsWith('--') === true;
  return token.value === undefined || swallowed ? `${token.rawName}: needs a value` : undefined;
}

function unknownFlag(command: Verb, rawName: string): string {
  const flags = optionNames
    .filter((name) => factsOf(name).given !== 'secret')
    // Of two that are equally near, the one that this command takes.
    .sort((a, b) => Number(takes(command, factsOf(b))) - Number(takes(command, factsOf(a))))
    .map((name) => `--${rawName.startsWith('--no-') ? 'no-' : ''}${flagOf(name)}`);
  return `${rawName}: unknown option${nearest(rawName, flags)}`;
}

function readEnvironment(env: Environment, problems: string[]): Map<OptionName, Given> {
  const found = new Map<OptionName, Given>();
  for (const name of optionNames) {
    const about = factsOf(name);
    const variable = variableOf(name);
    const value = env[variable];
    if (about.given === 'flag-only' || value === undefined) continue;
    // An empty variable is how compose files and shells say "not set".
    if (value !== '') found.set(name, { value, origin: variable });
    if (about.given === 'secret' || CREDENTIALS_IN_URL.test(value)) delete env[variable];
  }
  const known = optionNames.map(variableOf);
  for (const variable of Object.keys(env)) {
    if (!variable.startsWith('LANEGATE_') || known.includes(variable)) continue;
    const suggestion = nearest(variable, known, 2);
    // Only what looks like a slip: orchestrators put variables of their own under such prefixes.
    if (suggestion !== '') problems.push(`${variable}: unknown variable${suggestion}`);
  }
  return found;
}

/** Flag over environment over file. What the command does not take is ignored: files and variables are shared. */
function pick(
  command: Verb,
  flags: ReadonlyMap<OptionName, Given>,
  variables: ReadonlyMap<OptionName, Given>,
  file: ConfigFile,
): Map<OptionName, Given> {
  const given = new Map<OptionName, Given>();
  for (const name of optionNames) {
    if (!takes(command, factsOf(name))) continue;
    const found = flags.get(name) ?? variables.get(name) ?? file.get(name);
    if (found !== undefined) given.set(name, found);
  }
  return given;
}

function takes(command: Verb, about: OptionFacts): boolean {
  return about.commands.includes(command);
}

function validate(given: ReadonlyMap<OptionName, Given>, problems: string[]): Options {
  const values: Partial<Record<OptionName, unknown>> = {};
  for (const name of optionNames) {
    const schema = options.shape[name];
    const found = given.get(name);
    const result = schema.safeParse(found?.value);
    if (result.success) values[name] = result.data;
    else {
      values[name] = schema.safeParse(undefined).data;
      for (const issue of result.error.issues)
        problems.push(`${found?.origin}: ${issue.message}${echo(name, found)}`);
    }
  }
  return values as Options;
}

/** The offending value, unless it may hold a password. */
function echo(name: OptionName, found: Given | undefined): string {
  const secret = factsOf(name).given === 'secret' || (SERVERS as readonly string[]).includes(name);
  return secret ? '' : `, not ${JSON.stringify(found?.value)}`;
}

function assemble(
  parsed: Options,
  given: ReadonlyMap<OptionName, Given>,
  cwd: string,
  problems: string[],
): Config {
  const { source, target, queue, boardPasswordFile, ...rest } = parsed;
  const kept = Object.entries(rest).filter(
    ([name]) => !/^(source|target|queue)(Username|Password|Tls)/.test(name),
  );
  const password = (server: 'source' | 'target' | 'queue' | 'board') =>
    readPassword(
      parsed[`${server}Password`],
      parsed[`${server}PasswordFile`],
      `${server}Password`,
      cwd,
      problems,
    );
  const secrets = (server: (typeof SERVERS)[number]): EndpointSecrets => ({
    username: parsed[`${server}Username`],
    password: password(server),
    tlsCa: parsed[`${server}TlsCa`],
    tlsCert: parsed[`${server}TlsCert`],
    tlsKey: parsed[`${server}TlsKey`],
    tlsServerName: parsed[`${server}TlsServerName`],
    tlsInsecure: parsed[`${server}TlsInsecure`],
  });
  for (const server of SERVERS) checkTls(server, parsed, given, problems);
  const sourceSecrets = secrets('source');
  checkSource(source, sourceSecrets, rest.from, given, problems);
  return {
    ...(Object.fromEntries(kept) as Omit<Config, 'source' | 'sourceSecrets' | 'target' | 'queue'>),
    source,
    sourceSecrets,
    target: endpoint(target, given.get('target')?.origin ?? '', secrets('target'), problems),
    queue: endpoint(queue, given.get('queue')?.origin ?? '', secrets('queue'), problems),
    boardPassword: password('board'),
  };
}

function readPassword(
  password: string | undefined,
  path: string | undefined,
  name: 'sourcePassword' | 'targetPassword' | 'queuePassword' | 'boardPassword',
  cwd: string,
  problems: string[],
): string | undefined {
  if (path === undefined) return password;
  if (password !== undefined) {
    problems.push(`${variableOf(name)} and its file ${path} are both given: give one`);
    return password;
  }
  try {
    return readFileSync(resolve(cwd, path), 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    problems.push(`--${flagOf(name)}-file: cannot read ${path}: ${(error as NodeJS.ErrnoException).code}`);
    return undefined;
  }
}

function endpoint(
  url: string | undefined,
  origin: string,
  secrets: EndpointSecrets,
  problems: string[],
): Endpoint | undefined {
  if (url === undefined) return undefined;
  try {
    const parsed = /^rediss?:\/\//.test(url) ? parseEndpoint(origin, url, secrets) : undefined;
    // Elsewhere ?password= is known, and what is shown of a URL has its query.
    if (parsed?.display.includes('?') === false) return parsed;
    problems.push(
      parsed === undefined
        ? `${origin}: must be a URL that begins with redis:// or rediss://`
        : `${origin}: a URL of this server takes nothing behind a "?"`,
    );
  } catch (error) {
    if (error instanceof ConfigurationError) problems.push(...error.problems);
    else throw error;
  }
  return undefined;
}

/** Whether anything reads such a URL, and can begin at such a position. */
function checkSource(
  url: string | undefined,
  secrets: EndpointSecrets,
  from: string | undefined,
  given: ReadonlyMap<OptionName, Given>,
  problems: string[],
): void {
  if (url === undefined) return;
  const option = given.get('source')?.origin ?? '--source';
  const found = sourceProblems(url, { option, secrets, from });
  problems.push(...found.url, ...found.from.map((problem) => `${given.get('from')?.origin}: ${problem}`));
}

/** A certificate for a connection that is not encrypted is a mistake that would go unnoticed. */
function checkTls(
  server: (typeof SERVERS)[number],
  parsed: Options,
  given: ReadonlyMap<OptionName, Given>,
  problems: string[],
): void {
  const url = parsed[server];
  if (url === undefined || url.startsWith('rediss')) return;
  for (const [name, { origin }] of given) {
    if (!name.startsWith(`${server}Tls`) || parsed[name] === false) continue;
    problems.push(`${origin}: has no effect, --${server} does not use TLS (rediss...://)`);
  }
}

function checkOperands(command: Verb, positionals: readonly string[], problems: string[]): void {
  const { operands, operandsMin, operandsMax } = verbs[command];
  if (positionals.length < operandsMin) problems.push(`usage: lanegate ${command} ${operands}`);
  for (const extra of positionals.slice(operandsMax))
    problems.push(`unexpected argument ${JSON.stringify(extra)}`);
}

function checkRequired(
  command: Verb,
  roles: Config['roles'],
  given: ReadonlyMap<OptionName, Given>,
  problems: string[],
): void {
  const required = new Set(verbs[command].required);
  if (command === 'worker' && roles.includes('ingest')) required.add('source');
  for (const name of SERVERS) {
    if (!required.has(name) || given.has(name)) continue;
    problems.push(`--${name} is missing (or ${variableOf(name)}, or ${name} in the file of --config)`);
  }
}

function checkBoard(command: Verb, config: Config, problems: string[]): void {
  if (!factsOf('boardPort').commands.includes(command) || config.boardPort === 0) return;
  if ((config.boardUser === undefined) !== (config.boardPassword === undefined)) {
    problems.push('LANEGATE_BOARD_USER and LANEGATE_BOARD_PASSWORD belong together: one is missing');
  }
  const loopback = /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(config.boardHost);
  if (!loopback && config.boardPassword === undefined) {
    problems.push(
      `--board-host: ${config.boardHost} can be reached from elsewhere and the board shows keys and jobs: ` +
        'set LANEGATE_BOARD_USER and LANEGATE_BOARD_PASSWORD, or stay on 127.0.0.1',
    );
  }
}
