import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { optionNames } from '../../src/config.ts';
import { variableOf } from '../../src/config-facts.ts';
import { loadConfig, parseInvocation } from '../../src/config-load.ts';
import { isVerb } from '../../src/config-verbs.ts';
import { packageRoot } from '../../src/runtime/package.ts';

// The files that carry lanegate to other machines: each command and each variable in them is one that it has.

type Environment = Record<string, string>;

interface Service {
  readonly command?: readonly string[];
  readonly environment?: Environment;
  readonly stop_grace_period?: string;
  readonly ports?: readonly string[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly depends_on?: Record<string, { readonly condition: string }>;
}

interface Compose {
  readonly services: Record<string, Service>;
  readonly volumes: Record<string, unknown>;
}

const KNOWN = new Set(optionNames.map(variableOf));
const PASSWORDS = { LANEGATE_BOARD_PASSWORD: 'chosen' };

function read(path: string): string {
  return readFileSync(join(packageRoot(), path), 'utf8');
}

/** `${NAME:-default}` and `${NAME:?why}` as compose replaces them. */
function interpolated(environment: Environment = {}, given: Environment = PASSWORDS): Environment {
  const replace = (value: string) =>
    value.replace(/\$\{(\w+)(?::([-?])([^}]*))?\}/g, (_, name: string, kind?: string, rest = '') => {
      const found = given[name];
      if (found === undefined && kind !== '-') throw new Error(`${name} is needed: ${rest}`);
      return found ?? rest;
    });
  return Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name, replace(String(value))]),
  );
}

/** @throws ConfigurationError for whatever lanegate would refuse */
function accepts(argv: readonly string[], environment: Environment) {
  const [verb, ...rest] = argv;
  if (!isVerb(verb)) throw new Error(`${verb} is no command`);
  for (const name of Object.keys(environment)) expect(KNOWN).toContain(name);
  return parseInvocation(verb, rest, { ...environment }, packageRoot()).config;
}

/** The words behind `node bin/lanegate.js` wherever a text shows such a command. */
function shownCommands(text: string): string[][] {
  return [...text.matchAll(/node (?:\S*\/)?bin\/lanegate\.js ([^\n"#<]*)/g)].map(([, words = '']) =>
    words.trim().split(/\s+/),
  );
}

describe('compose.yaml', () => {
  const text = read('compose.yaml');
  const { services, volumes } = parse(text, { merge: true }) as Compose;
  const ours = Object.entries(services).filter(([, { command }]) => command?.[1] === 'bin/lanegate.js');

  test('runs commands that lanegate has, with options that it takes', () => {
    expect(ours.map(([name]) => name)).toEqual(['worker', 'board']);
    for (const [, { command = [], environment }] of ours) {
      expect(command[0]).toBe('node');
      accepts(command.slice(2), interpolated(environment));
    }
    expect(() => interpolated(services.board?.environment, {})).toThrow(/choose a password/);
  });

  test('the commands in its comments work in the container that they name', () => {
    const board = interpolated(services.board?.environment);
    const shown = shownCommands(text);
    expect(shown.map(([verb]) => verb)).toEqual(['status', 'append']);
    for (const argv of shown) accepts(argv, board);
  });

  test('every address is a service, every volume is declared, every port is the one that is asked', () => {
    for (const [, service] of ours) {
      const environment = interpolated(service.environment);
      for (const role of ['SOURCE', 'TARGET', 'QUEUE']) {
        const host = new URL(environment[`LANEGATE_${role}`] ?? '').hostname;
        expect(services).toHaveProperty(host);
        expect(service.depends_on?.[host]).toEqual({ condition: 'service_healthy' });
      }
      const port = environment.LANEGATE_HTTP_PORT ?? environment.LANEGATE_BOARD_PORT;
      expect(service.healthcheck?.test.join(' ')).toContain(`http://127.0.0.1:${port}/healthz`);
      for (const mapping of service.ports ?? []) expect(mapping.split(':').at(-1)).toBe(port);
    }
    expect(Object.keys(volumes)).toEqual(['source', 'queue', 'target']);
  });

  test('the queue keeps what it is given, and a container is given longer than a worker needs to drain', () => {
    const queue = services.queue?.command?.join(' ');
    expect(queue).toContain('--appendonly yes');
    expect(queue).toContain('--maxmemory-policy noeviction');
    for (const [, { command = [], environment, stop_grace_period: grace = '' }] of ours) {
      const { graceMs } = accepts(command.slice(2), interpolated(environment));
      expect(Number(grace.replace(/s$/, '')) * 1000).toBeGreaterThan(graceMs);
    }
  });
});

describe('Dockerfile', () => {
  const text = read('Dockerfile');

  test('copies what is there, and what .dockerignore lets through', () => {
    const kept = read('.dockerignore')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    const copied = [...text.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, paths = '']) =>
      paths.split(' '),
    );
    expect(copied).toContain('src');
    for (const path of copied) {
      expect(existsSync(join(packageRoot(), path)), path).toBe(true);
      expect(kept).toContain(path);
    }
  });

  test('runs as a user without rights, and starts what package.json names', () => {
    expect(text).toMatch(/^USER node$/m);
    const command = JSON.parse(/^CMD (.+)$/m.exec(text)?.[1] ?? '[]') as string[];
    const { bin } = JSON.parse(read('package.json')) as { bin: Record<string, string> };
    expect(command).toEqual(['node', bin.lanegate, '--help']);
  });
});

describe('the systemd unit', () => {
  const text = read('packaging/lanegate.service');

  test('starts a worker with the variables that its comment shows', () => {
    const variables = [...text.matchAll(/^# {3}(LANEGATE_\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [
      name,
      value,
    ]);
    expect(variables.map(([name]) => name)).toContain('LANEGATE_TARGET_PASSWORD');
    const start = /^ExecStart=(.+)$/m.exec(text)?.[1] ?? '';
    const [argv] = shownCommands(start);
    expect(argv).toEqual(['worker']);
    accepts(argv ?? [], Object.fromEntries(variables));
  });

  test('gives longer than a worker needs to drain, and does not start again what options forbid', () => {
    const urls = ['--source', 'redis-stream://h?key=k', '--target', 'redis://h', '--queue', 'redis://h'];
    const { graceMs } = loadConfig('worker', urls, {}, packageRoot());
    expect(Number(/^TimeoutStopSec=(\d+)$/m.exec(text)?.[1]) * 1000).toBeGreaterThan(graceMs);
    expect(text).toMatch(/^RestartPreventExitStatus=2$/m);
  });
});
