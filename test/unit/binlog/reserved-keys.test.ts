import { afterAll, beforeAll, expect, test } from 'vitest';
import { Classifier } from '../../../src/binlog/classify.ts';
import { CommandTable } from '../../../src/binlog/command-table.ts';
import { parseLine } from '../../../src/binlog/quoting.ts';
import { encodeCommand, RespScanner } from '../../../src/binlog/resp.ts';
import { type SpawnedRedis, spawnRedis } from './redis-server.ts';

// The log must not reach lanegate's own keys, by whatever command and whichever of its keys. Which arguments are keys a
// real server says (COMMAND GETKEYS), not the table that is tested.

const table = CommandTable.shipped();
const RESERVED = Buffer.from('lanegate:default:mark');
/** What has no effect on the data of a target. */
const WITHOUT_EFFECT = ['ignored', 'context', 'never'];

/** Forms whose keys hang on their options; the table's own forms are made below. */
const FORMS = [
  ...[
    'EVAL code 2 a b c',
    'EVALSHA sha 3 a b c',
    'FCALL f 1 a b',
    'SORT a BY w_* GET # STORE d',
    'SORT a STORE x STORE d',
  ],
  ...[
    'GEORADIUS g 1 2 3 km STORE d',
    'GEORADIUSBYMEMBER g m 3 km ASC STOREDIST d',
    'GEOSEARCHSTORE d g FROMMEMBER m BYRADIUS 1 km',
  ],
  ...[
    'COPY a b DB 3 REPLACE',
    'MOVE a 1',
    'RESTORE a 0 x REPLACE',
    'MSET a 1 b 2 c 3',
    'MSETNX a 1 b 2',
    'BITOP AND d a b c',
  ],
  ...[
    'ZUNIONSTORE d 2 a b WEIGHTS 1 2',
    'ZINTERSTORE d 2 a b',
    'ZDIFFSTORE d 2 a b',
    'ZMPOP 2 a b MAX',
    'LMPOP 3 a b c LEFT',
  ],
  ...[
    'BZMPOP 0 2 a b MIN',
    'BLMPOP 0 2 a b LEFT',
    'XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >',
    'BLPOP a b c 0',
  ],
  ...[
    'MIGRATE h 1 "" 0 5 COPY KEYS a b',
    'MIGRATE h 1 a 0 5',
    'XGROUP CREATE s g $ MKSTREAM',
    'PFCOUNT a',
    'RENAMENX a b',
  ],
];

let redis: SpawnedRedis;
beforeAll(async () => {
  redis = await spawnRedis();
});
afterAll(() => redis[Symbol.asyncDispose]());

const policies = [
  { splitMultiKey: true, scriptKeys: 'all', publish: true },
  { splitMultiKey: false, scriptKeys: 'declared', publish: false },
] as const;

function classifier(
  policy: (typeof policies)[number],
  allow: readonly string[],
  deny: readonly string[] = [],
): Classifier {
  return new Classifier({ table, pipeline: 'default', allow, deny, ...policy });
}

function judged(by: Classifier, args: readonly (string | Buffer)[]): string {
  const scanner = new RespScanner();
  scanner.reset(encodeCommand(args));
  scanner.next();
  const verdict = by.classify(scanner);
  return verdict.kind === 'poison' ? verdict.code : verdict.kind;
}

/** Lines for a command of the table: as few arguments as it takes, and some more. */
function linesOf(name: string, arity: number): string[][] {
  const words = name.split(' ');
  const counts = arity < 0 ? [-arity, -arity + 1, -arity + 2] : [arity];
  return counts.map((argc) => [
    ...words,
    ...Array.from({ length: argc - words.length }, (_, i) => (i % 2 ? '1' : `k${i}`)),
  ]);
}

test('no command of the table that has an effect takes a key of lanegate in any of its places', async () => {
  const own = table.specs
    .filter(
      ({ origin, rule, keySpecs }) =>
        origin === 'shipped' && keySpecs.length > 0 && !WITHOUT_EFFECT.includes(rule),
    )
    .flatMap(({ name, arity }) => linesOf(name, arity));
  const tried = new Set<string>();
  for (const line of [...own, ...FORMS.map((form) => parseLine(form).map(String))]) {
    const keys = (await redis.client.call('COMMAND', 'GETKEYS', ...line).catch(() => [])) as string[];
    for (const key of new Set(keys)) {
      for (let at = 1; at < line.length; at++) {
        if (line[at] !== key) continue;
        const args = line.map((arg, i) => (i === at ? RESERVED : arg));
        // Only where the server, too, takes it for a key.
        const seen = (await redis.client.call('COMMAND', 'GETKEYS', ...args)) as string[];
        if (!seen.includes(String(RESERVED))) continue;
        for (const policy of policies) {
          // Nor by the will of the operator, who may allow a command but not these keys.
          for (const allow of [[], [String(line[0])]]) {
            const found = judged(classifier(policy, allow), args);
            const refused = [
              'RESERVED_KEY',
              'FORBIDDEN_COMMAND',
              'WRONG_ARITY',
              'SYNTAX',
              'ignored',
            ].includes(found);
            expect(refused, `${line.join(' ')} with argument ${at}: ${found}`).toBe(true);
          }
        }
        if (judged(classifier(policies[0], [String(line[0])]), args) === 'RESERVED_KEY')
          tried.add(String(line[0]));
      }
    }
  }
  // Enough of them, and those that are easily forgotten.
  expect(tried.size).toBeGreaterThan(80);
  expect([...tried]).toEqual(
    expect.arrayContaining([
      'EVAL',
      'EVALSHA',
      'FCALL',
      'RESTORE',
      'COPY',
      'MOVE',
      'MSET',
      'SORT',
      'BLPOP',
      'MIGRATE',
      'RENAME',
      'BITOP',
    ]),
  );
});

test('denied is stronger than allowed, and what ends a session or a server is allowed by nobody', () => {
  const judge = (line: string, allow: readonly string[], deny: readonly string[]) =>
    judged(classifier(policies[0], allow, deny), parseLine(line));
  const everything = table.specs.map(({ name }) => name);
  for (const line of [
    'SHUTDOWN',
    'AUTH x',
    'HELLO 3',
    'MONITOR',
    'PSYNC ? -1',
    'RESET',
    'QUIT',
    'REPLICAOF h 1',
    'CLIENT KILL a',
    'SUBSCRIBE c',
    'SCRIPT DEBUG YES',
  ])
    expect(judge(line, everything, []), line).toBe('FORBIDDEN_COMMAND');
  for (const line of [
    'CONFIG SET a b',
    'DEBUG SLEEP 1',
    'MODULE LOAD x',
    'ACL SETUSER x on',
    'CLUSTER RESET',
    'SAVE',
    'BGSAVE',
    'LATENCY RESET',
  ])
    expect(judge(line, [], []), line).toBe('FORBIDDEN_COMMAND');
  const denying = classifier(policies[0], everything, everything);
  // A container without its subcommand is refused for what it is.
  for (const { name, arity } of table.specs)
    expect(judged(denying, linesOf(name, arity)[0] ?? [name]), name).toMatch(/^(DENIED|FORBIDDEN)_COMMAND$/);
});
