import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { optionNames } from '../../src/config.ts';
import { flagOf, variableOf } from '../../src/config-facts.ts';
import { parseInvocation } from '../../src/config-load.ts';
import { VERBS } from '../../src/config-verbs.ts';
import { ConfigurationError } from '../../src/runtime/errors.ts';
import { damaged, runs } from './bytes.ts';

const folder = mkdtempSync(join(tmpdir(), 'lanegate-fuzz-config-'));
afterAll(() => rmSync(folder, { recursive: true }));

const SECRET = 'hunter2xyzzy';
const name = fc.constantFrom(...optionNames);
const word = fc.oneof(
  fc.constantFrom(
    ...[
      '',
      '0',
      '-1',
      '1e9',
      '64mb',
      '10s',
      'true',
      'no',
      'redis://h',
      'rediss://[::1]:6379/1',
      'redis-stream://h?key=k',
    ],
    ...[
      'redis://%zz@h',
      'aof:///x',
      'rdb:x',
      'pika://h?db=',
      '__proto__',
      'constructor',
      '-',
      '=',
      '999999999999999999999',
    ],
    ...['2026-01-31T12:00:00Z', 'db0=1', 'ingest,lanes', 'caught-up', 'toString://x', '\0', '\u{1F600}'],
  ),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const flag = fc.oneof(
  fc.tuple(name, word).map(([option, text]) => [`--${flagOf(option)}=${text}`]),
  fc.tuple(name, word).map(([option, text]) => [`--${flagOf(option)}`, text]),
  name.map((option) => [`--no-${flagOf(option)}`]),
  word.map((text) => [text]),
  fc.constantFrom(
    ['--target', `redis://u:${SECRET}@h:99999`],
    ['--source', `nope://u:${SECRET}@h`],
    ['--queue-password', SECRET],
  ),
);
const servers = ['--source', 'redis-stream://h?key=k', '--target', 'redis://h:1', '--queue', 'redis://h:2'];
const argv = fc
  .tuple(fc.boolean(), fc.array(flag, { maxLength: 4 }))
  .map(([complete, flags]) => [...(complete ? servers : []), ...flags.flat()]);
const env = fc
  .array(
    fc.oneof(
      fc.tuple(name, word),
      fc.tuple(fc.constantFrom('target', 'queue', 'source'), fc.constant(`redis://a:${SECRET}@h/x`)),
    ),
    {
      maxLength: 4,
    },
  )
  .map((pairs) => pairs.map(([option, text]) => [variableOf(option as 'name'), text] as const));
const yaml = fc.oneof(
  fc
    .dictionary(
      name,
      fc.oneof(word, fc.integer(), fc.boolean(), fc.constant(null), fc.array(word, { maxLength: 3 })),
    )
    .map((options) => JSON.stringify(options)),
  fc.constantFrom(
    `targetPassword: ${SECRET}\ntargetPassword: ${SECRET}\n`,
    `targetPassword: [${SECRET}\n`,
    `a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nname: [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n`,
    'name: *nothing\n',
    '<<: {name: x}\n',
    '- name\n',
    `!!js/function "${SECRET}"\n`,
    '__proto__: {name: x}\n',
    'lanes: 0x10\nname: !!binary aGVsbG8=\n',
  ),
);

test('whatever flags, variables and files say: a configuration, or all its problems without a secret', () => {
  let problems = 0;
  let configurations = 0;
  const file = join(folder, 'lanegate.yaml');
  fc.assert(
    fc.property(
      fc.constantFrom(...VERBS),
      argv,
      env,
      fc.option(damaged(yaml.map((text) => Buffer.from(text))), { freq: 1 }),
      (verb, args, variables, text) => {
        if (text !== null) writeFileSync(file, text);
        const all = text === null ? args : ['--config', file, ...args];
        const environment = Object.fromEntries(variables.filter(([, content]) => !content.includes('\0')));
        try {
          const { config } = parseInvocation(verb, all, environment, folder);
          configurations++;
          expect(Object.getPrototypeOf(config)).toBe(Object.prototype);
          expect(config.name).toMatch(/^[A-Za-z0-9_-]{1,64}$/);
          expect(config.target?.display ?? '').not.toContain(SECRET);
        } catch (error) {
          if (!(error instanceof ConfigurationError)) throw error;
          problems++;
          expect(error.problems.length).toBeGreaterThan(0);
          expect(error.message).not.toContain(SECRET);
        }
      },
    ),
    runs(1_500),
  );
  expect(problems).toBeGreaterThan(500);
  expect(configurations).toBeGreaterThan(5);
});
