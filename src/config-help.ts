import { factsOf, type OptionName, optionNames, options } from './config.ts';
import { flagOf, variableOf } from './config-facts.ts';
import { formatSize } from './config-values.ts';
import { VERBS, type Verb, verbs } from './config-verbs.ts';

/** Everyday options on one screen; with `all` every option, and what can be given by environment alone. */
export function helpFor(command: Verb | undefined, all: boolean): string {
  if (command === undefined) return all ? everything() : overview();
  const { summary, operands, example, notes = [] } = verbs[command];
  const names = optionNames.filter((name) => factsOf(name).commands.includes(command) && name !== 'help');
  const shown = names.filter((name) => all || factsOf(name).everyday === true);
  return [
    `lanegate ${command}: ${summary}`,
    '',
    `Usage: lanegate ${command} ${operands === '' ? '' : `${operands} `}[options]`,
    ...shown.map(line),
    '',
    `Example: ${example}`,
    ...(all ? [...notes, ...legend()] : [`More options: lanegate ${command} --help --all`]),
    '',
  ].join('\n');
}

/** Markdown for the README: every option with its default and who takes it. */
export function optionsTable(): string {
  const rows = optionNames.map((name) => {
    const { commands, given, description } = factsOf(name);
    const flag = given === 'secret' ? '' : `\`${flagText(name)}\``;
    const variable = given === 'flag-only' ? '' : `\`${variableOf(name)}\``;
    const taken =
      commands.length === VERBS.length ? 'all' : VERBS.filter((verb) => commands.includes(verb)).join(', ');
    const standard = defaultText(name);
    return `| ${flag} | ${variable} | ${standard === '' ? '' : `\`${standard}\``} | ${description} | ${taken} |`;
  });
  return [
    '| flag | variable | default | what it does | commands |',
    '|---|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}

function overview(): string {
  return [
    'lanegate applies a Redis-style binlog to a Redis-protocol server: in parallel lanes, in order, exactly once.',
    '',
    'Usage: lanegate COMMAND [options]',
    ...VERBS.map((verb) => `  ${verb.padEnd(9)}${verbs[verb].summary}`),
    '',
    `Example: ${verbs.run.example}`,
    'Options of a command: lanegate COMMAND --help. Everything: lanegate --help --all.',
    '',
  ].join('\n');
}

function everything(): string {
  const sections = VERBS.map((verb) => {
    const { summary, operands } = verbs[verb];
    return `  ${`${verb} ${operands}`.trimEnd().padEnd(48)}${summary}`;
  });
  return [
    'Usage: lanegate COMMAND [options]',
    ...sections,
    '',
    'Options (in brackets: the commands that take them)',
    ...optionNames.map((name) => {
      const { commands } = factsOf(name);
      return `${line(name)} [${commands.length === VERBS.length ? 'all' : commands.join(' ')}]`;
    }),
    ...legend(),
    '',
  ].join('\n');
}

function legend(): string[] {
  return [
    'Each option is also a variable (--board-port: LANEGATE_BOARD_PORT) and a key of the --config file (boardPort).',
    'A flag wins over a variable, a variable over the file. Passwords: variable or file, never a flag.',
  ];
}

function line(name: OptionName): string {
  const { description, given } = factsOf(name);
  const standard = defaultText(name);
  const left = given === 'secret' ? variableOf(name) : flagText(name);
  return `  ${left.padEnd(30)} ${description}${standard === '' ? '' : ` (${standard})`}`;
}

/** --board-port PORT, --board-write; --[no-]split-multi-key for what is on unless turned off. */
function flagText(name: OptionName): string {
  const { placeholder } = factsOf(name);
  if (placeholder !== undefined) return `--${flagOf(name)} ${placeholder}`;
  return `--${standardOf(name) === true ? '[no-]' : ''}${flagOf(name)}`;
}

function defaultText(name: OptionName): string {
  const value = standardOf(name);
  if (value === true) return 'on';
  if (value === undefined || value === false) return '';
  if (typeof value === 'number' && factsOf(name).placeholder === 'SIZE') return formatSize(value);
  return Array.isArray(value) ? value.join(',') : String(value);
}

function standardOf(name: OptionName): unknown {
  return options.shape[name].safeParse(undefined).data;
}
