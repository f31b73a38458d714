import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { helpFor, optionsTable } from '../../src/config-help.ts';
import { loadConfig, parseInvocation } from '../../src/config-load.ts';
import { VERBS, type Verb } from '../../src/config-verbs.ts';
import { ConfigurationError } from '../../src/runtime/errors.ts';

const SOURCE = 'redis-stream://127.0.0.1:6379?key=binlog';
const URLS = ['--source', SOURCE, '--target', 'redis://127.0.0.1:6380', '--queue', 'redis://127.0.0.1:6381'];

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lanegate-config-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function problemsOf(verb: Verb, argv: string[], env: Record<string, string> = {}): readonly string[] {
  try {
    loadConfig(verb, argv, env, folder);
  } catch (error) {
    if (error instanceof ConfigurationError) return error.problems;
    throw error;
  }
  return [];
}

function write(name: string, content: string): string {
  writeFileSync(join(folder, name), content);
  return name;
}

describe('where a value comes from', () => {
  test('a flag wins over a variable, a variable over the file, the file over the default', () => {
    const config = write('lanegate.yaml', 'lanes: 2\nboardPort: 2\non-poison: dead-letter\n');
    const env = { LANEGATE_LANES: '3', LANEGATE_BOARD_PORT: '3', LANEGATE_CONFIG: config };
    const loaded = loadConfig('run', [...URLS, '--lanes', '4'], env, folder);
    expect(loaded).toMatchObject({ lanes: 4, boardPort: 3, onPoison: 'dead-letter', targetData: 'refuse' });
  });

  test('lanes are undefined when nobody names them', () => {
    expect(loadConfig('run', URLS, {}, folder).lanes).toBeUndefined();
  });

  test('an empty variable is not given', () => {
    expect(loadConfig('run', URLS, { LANEGATE_LANES: '' }, folder).lanes).toBeUndefined();
  });

  test('JSON is read like YAML, camelCase like kebab-case, a YAML list like commas', () => {
    const json = write('a.json', '{"name":"p1","roles":["lanes","gate"],"http-port":8080}');
    const argv = [...URLS.slice(2), '--config', json];
    expect(loadConfig('worker', argv, {}, folder)).toMatchObject({
      name: 'p1',
      roles: ['lanes', 'gate'],
      httpPort: 8080,
    });
  });

  test('values of the file that are for other commands are ignored, so that one file serves all', () => {
    const config = write('shared.yaml', `source: ${SOURCE}\nlanes: 4\nboardPort: 1\n`);
    expect(problemsOf('append', ['--config', config])).toEqual([]);
  });
});

describe('sizes, durations and toggles', () => {
  test.each([
    ['64MiB', 64 * 1024 ** 2],
    ['64mb', 64 * 1024 ** 2],
    ['65536', 65536],
    ['1.5m', 1.5 * 1024 ** 2],
    ['2 KiB', 2048],
  ])('a size of %s is %i bytes', (text, bytes) => {
    expect(loadConfig('run', [...URLS, '--transaction-bytes', text], {}, folder).transactionBytes).toBe(
      bytes,
    );
  });

  test.each([
    ['5000', 5000],
    ['5s', 5000],
    ['2m', 120_000],
    ['250ms', 250],
  ])('a grace period of %s is %i ms', (text, ms) => {
    expect(loadConfig('run', [...URLS, '--grace-ms', text], {}, folder).graceMs).toBe(ms);
  });

  test('a bare timeout counts in seconds', () => {
    expect(loadConfig('status', ['--timeout', '90'], {}, folder).timeout).toBe(90);
    expect(loadConfig('status', ['--timeout', '2m'], {}, folder).timeout).toBe(120);
  });

  test('--no-split-multi-key turns splitting off', () => {
    expect(loadConfig('run', URLS, {}, folder).splitMultiKey).toBe(true);
    expect(loadConfig('run', [...URLS, '--no-split-multi-key'], {}, folder).splitMultiKey).toBe(false);
    expect(loadConfig('run', URLS, { LANEGATE_SPLIT_MULTI_KEY: 'no' }, folder).splitMultiKey).toBe(false);
  });

  test('a number in YAML is not taken for text', () => {
    const config = write('n.yaml', 'name: 007\n');
    expect(problemsOf('status', ['--config', config])).toEqual([
      expect.stringContaining('name: must be text; put it in quotes'),
    ]);
  });
});

describe('complaints', () => {
  test('every problem is listed at once', () => {
    const config = write('bad.yaml', 'bord-port: 1\ntarget-data: maybe\n');
    const argv = ['--lanes', '0', '--nmae', 'x', '--config', config, '--target', 'http://h', 'stray'];
    const problems = problemsOf('run', argv, { LANEGATE_CHUNK_BYTES: 'lots', LANEGATE_LANE: '3' }).join('\n');
    expect(problems).toContain('--lanes: must be a whole number from 1 to 256, not "0"');
    expect(problems).toContain('--nmae: unknown option, did you mean --name?');
    expect(problems).toContain('bord-port: unknown key, did you mean board-port?');
    expect(problems).toContain('target-data: must be one of refuse, keep, replace, not "maybe"');
    expect(problems).toContain('LANEGATE_CHUNK_BYTES: must be a size');
    expect(problems).toContain('LANEGATE_LANE: unknown variable, did you mean LANEGATE_LANES?');
    expect(problems).toContain('--target: must be a URL that begins with redis:// or rediss://');
    expect(problems).toContain('--source is missing');
    expect(problems).toContain('unexpected argument "stray"');
    expect(problems).not.toContain('"x"');
    expect(problems).not.toContain('--target is missing');
  });

  test('a source that nothing reads, a position that is none and bad servers are listed with all the rest', () => {
    const argv = [
      '--source',
      'kafka://h/topic',
      '--from',
      'yesterday',
      '--target',
      'redis://h/x',
      '--lanes',
      'x',
    ];
    const problems = problemsOf('run', [...argv, '--queue', 'h:6379', '--nonsense']);
    expect(problems).toEqual([
      '--nonsense: unknown option',
      expect.stringContaining('--lanes: must be a whole number'),
      expect.stringContaining('--source: nothing reads kafka://'),
      expect.stringContaining('--target: the path of the URL must be a database number'),
      expect.stringContaining('--queue: must be a URL that begins with redis://'),
    ]);
    const env = { LANEGATE_SOURCE: 'redis-stream://h/0?kye=binlog', LANEGATE_FROM: 'yesterday' };
    expect(problemsOf('run', ['--target', 'redis://h'], env)).toEqual([
      'LANEGATE_SOURCE: the URL has ?kye=, but only ?key= is known',
      'LANEGATE_SOURCE: the URL names no stream: add ?key=NAME',
    ]);
  });

  test('a position is judged by the kind of its source', () => {
    expect(problemsOf('run', [...URLS, '--from', 'yesterday'])).toEqual([
      expect.stringMatching(/^--from: "yesterday" is not a position in a stream/),
    ]);
    for (const from of ['beginning', 'now', '1700000000000-3', '1700000000000-3@12'])
      expect(problemsOf('run', [...URLS, '--from', from])).toEqual([]);
  });

  test('credentials that cannot be decoded are named, not shown', () => {
    const problems = problemsOf('run', [
      '--source',
      'redis-stream://u:%zz@h?key=k',
      '--target',
      'redis://u:%zz@h',
    ]);
    expect(problems).toEqual([
      '--source: user or password is not valid percent-encoding',
      '--target: user or password is not valid percent-encoding',
    ]);
  });

  test.each([
    ['--taget', ', did you mean --target?'],
    ['--tls-ca', ', did you mean --source-tls-ca or --target-tls-ca or --queue-tls-ca?'],
    ['--no-split-multikey', ', did you mean --no-split-multi-key?'],
    ['--retention', ''],
    ['--foo', ''],
    ['--xyz', ''],
  ])('%s: unknown option%s', (flag, suggestion) => {
    const problems = problemsOf('run', [...URLS, flag]);
    expect(problems[0]).toContain(`${flag}: unknown option${suggestion}`);
    if (suggestion === '' && flag !== '--retention') expect(problems[0]).not.toContain('mean');
  });

  test('a flag of another command, one without its value and one given twice are refused', () => {
    expect(problemsOf('status', ['--board-port', '1'])).toEqual([
      '--board-port: not an option of `lanegate status`, but of run, board, demo',
    ]);
    expect(problemsOf('status', ['--timeout'])).toEqual(['--timeout: needs a value']);
    expect(problemsOf('status', ['--timeout', '--json'])).toEqual(['--timeout: needs a value']);
    expect(problemsOf('status', ['--name', 'a', '--name', 'b'])).toEqual(['--name: given more than once']);
    expect(problemsOf('status', ['--json=no'])).toEqual(['--json: takes no value']);
  });

  test('a worker without the ingest role needs no source', () => {
    const argv = URLS.slice(2);
    expect(problemsOf('worker', argv)).toEqual([expect.stringContaining('--source is missing')]);
    expect(problemsOf('worker', [...argv, '--roles', 'lanes,gate'])).toEqual([]);
  });

  test('a board that others can reach needs a password', () => {
    expect(problemsOf('board', ['--board-host', '0.0.0.0'])).toEqual([
      expect.stringContaining('LANEGATE_BOARD_USER and LANEGATE_BOARD_PASSWORD'),
    ]);
    const env = { LANEGATE_BOARD_USER: 'u', LANEGATE_BOARD_PASSWORD: 'p' };
    expect(problemsOf('board', ['--board-host', '0.0.0.0'], env)).toEqual([]);
  });

  test('operands are counted', () => {
    expect(problemsOf('lane', ['resume'])).toEqual([expect.stringContaining('usage: lanegate lane')]);
    expect(problemsOf('status', ['x'])).toEqual(['unexpected argument "x"']);
    const { positionals, config } = parseInvocation('lane', ['skip', '3', '--seq', '17'], {}, folder);
    expect([positionals, config.seq]).toEqual([['skip', '3'], 17]);
  });

  test('--yes cannot come from a variable or a file', () => {
    expect(problemsOf('status', ['--config', write('y.yaml', 'yes: true\n')])).toEqual([
      expect.stringContaining('yes: unknown key'),
    ]);
    const argv = ['--target', 'redis://127.0.0.1'];
    expect(loadConfig('reset', argv, { LANEGATE_YES: 'true' }, folder).yes).toBe(false);
  });
});

describe('secrets', () => {
  test('a password comes from a variable, which is then deleted', () => {
    const env: Record<string, string> = {
      LANEGATE_TARGET_USERNAME: 'ada',
      LANEGATE_TARGET_PASSWORD: 'tiger',
      LANEGATE_SOURCE_PASSWORD: 'lion',
      LANEGATE_QUEUE: 'redis://u:wolf@127.0.0.1',
    };
    const config = loadConfig('worker', URLS.slice(0, 4), env, folder);
    expect(config.target).toMatchObject({ username: 'ada', password: 'tiger' });
    expect(config.sourceSecrets.password).toBe('lion');
    expect(config.queue?.password).toBe('wolf');
    expect(env).toEqual({ LANEGATE_TARGET_USERNAME: 'ada' });
  });

  test('a password comes from a file, without its last line break', () => {
    const path = write('secret', 'tiger\n');
    expect(loadConfig('run', URLS, { LANEGATE_TARGET_PASSWORD_FILE: path }, folder).target?.password).toBe(
      'tiger',
    );
    expect(problemsOf('run', [...URLS, '--target-password-file', 'nowhere'])).toEqual([
      '--target-password-file: cannot read nowhere: ENOENT',
    ]);
  });

  test('there is no flag for a password, and the refusal names the variable', () => {
    const problems = problemsOf('run', [...URLS, '--target-password', 'tiger', '--queue-password=tiger']);
    expect(problems).toEqual([
      expect.stringContaining('LANEGATE_TARGET_PASSWORD'),
      expect.stringContaining('LANEGATE_QUEUE_PASSWORD'),
    ]);
    expect(problems.join()).not.toContain('tiger');
  });

  test('no complaint repeats a password', () => {
    const config = write('p.yaml', 'targetPassword: 12345\nqueue: redis://u:tiger@h/nodb\n');
    const problems = problemsOf('run', [
      '--config',
      config,
      '--source',
      'tiger',
      '--target',
      'tiger://x:tiger@y',
    ]);
    expect(problems.length).toBe(4);
    expect(problems.join('\n')).not.toMatch(/12345|tiger/);
  });

  test('a certificate for a connection without TLS is refused', () => {
    expect(problemsOf('run', [...URLS, '--target-tls-ca', 'ca.pem'])).toEqual([
      expect.stringContaining('--target-tls-ca: has no effect'),
    ]);
    write('ca.pem', 'x');
    const argv = ['--source', SOURCE, '--target', 'rediss://h', '--target-tls-ca', 'ca.pem'];
    expect(loadConfig('run', argv, {}, folder).target?.tls).toMatchObject({
      rejectUnauthorized: true,
      servername: 'h',
    });
  });
});

describe('help', () => {
  test.each([undefined, ...VERBS])(
    'the everyday options of %s fit one screen and have an example',
    (verb) => {
      const lines = helpFor(verb, false).split('\n');
      expect(lines.length).toBeLessThanOrEqual(24);
      expect(lines.join('\n')).toContain('Example: ');
      expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(112);
    },
  );

  test('--help --all names what the screen leaves out', () => {
    expect(helpFor('run', false)).not.toContain('--chunk-bytes');
    expect(helpFor('run', true)).toContain('--chunk-bytes SIZE');
    expect(helpFor('run', true)).toContain('LANEGATE_TARGET_PASSWORD');
    expect(helpFor(undefined, true)).toContain('--[no-]split-multi-key');
  });

  test('the table of the README has a row for every option', () => {
    expect(optionsTable()).toContain('| `--chunk-bytes SIZE` | `LANEGATE_CHUNK_BYTES` | `128KiB` |');
  });
});
