import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { lanegate, spawnLanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { RedisServer } from '../support/redis-server.ts';

// Users with no more rights than the documentation gives them. A server's own ACL LOG says what it refused.

const STREAM_SOURCE =
  '~binlog -@all +xread +xrange +xinfo +xgroup +xpending +xtrim +type +multi +exec +select +info +ping +client|setname';
const WRITER = '~binlog -@all +xadd +select +info +ping +client|setname';
const LIVE_SOURCE = '-@all +psync +replconf +ping +info +select +client|setname';
const TARGET =
  '~* -@all +@read +@write +@transaction -@admin -@dangerous -@scripting +select +ping +info +command ' +
  '+flushall +flushdb +swapdb +restore +sort +client|setname';
const QUEUE =
  '~{lanegate-default}:* -@all +@read +@write +@transaction +@scripting -@admin -@dangerous +select +ping +info +client|setname';

/** What the start-up check asks for in order to be refused. */
const ASKED_FOR = /^(config|acl|debug|module|function\|dump)/;

async function serverFor(
  rights: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<RedisServer> {
  const server = await RedisServer.start({ args });
  for (const [user, rules] of Object.entries(rights)) {
    await server.client().call('ACL', 'SETUSER', user, 'on', `>${passwordOf(user)}`, ...rules.split(' '));
  }
  return server;
}

/** Nothing that stands in a hint of lanegate, such as the name of an option. */
function passwordOf(user: string): string {
  return `pw-of-${user}-60c1`;
}

async function refusals(server: RedisServer): Promise<string[]> {
  const log = (await server.client().call('ACL', 'LOG')) as string[][];
  return log.map((entry) => `${entry[entry.indexOf('reason') + 1]} ${entry[entry.indexOf('object') + 1]}`);
}

const objectOf = (refusal: string) => refusal.slice(refusal.indexOf(' ') + 1);

function access(target: RedisServer, queue: RedisServer): Record<string, string> {
  return {
    LANEGATE_TARGET: `redis://applier@127.0.0.1:${target.port}`,
    LANEGATE_TARGET_PASSWORD: passwordOf('applier'),
    LANEGATE_QUEUE: `redis://queue@127.0.0.1:${queue.port}`,
    LANEGATE_QUEUE_PASSWORD: passwordOf('queue'),
    LANEGATE_SOURCE_PASSWORD: passwordOf('reader'),
    LANEGATE_WATCHDOG_MS: '300',
  };
}

const LOG = [
  ...[
    'SET a 1',
    'SET b 2',
    'RENAME a c',
    'FLUSHDB',
    'MSET a 1 b 2 c 3',
    'EXPIRE b 1000',
    'SELECT 3',
    'RPUSH l 3 1 2',
  ],
  ...[
    'SORT l STORE sorted',
    'COPY l l2',
    'MOVE l2 0',
    'SELECT 0',
    'MULTI',
    'INCR n',
    'SET m 1',
    'EXEC',
    'SWAPDB 0 5',
    'DEL a b',
  ],
  ...[
    'SELECT 4',
    'FLUSHALL',
    'SELECT 0',
    'SET a 1',
    'ZADD z 1 a',
    'XADD s 1-1 f v',
    'PFADD p x',
    'GEOADD g 1 2 m',
    'SETRANGE r 3 x',
  ],
  ...['SELECT 7', 'HSET h f v', 'SINTERSTORE d x y', 'SELECT 0', 'SET last 1'],
];

test('with the least rights a stream is applied, gates, databases and all, and the pipeline is looked after and removed', async () => {
  await using source = await serverFor({ reader: STREAM_SOURCE, writer: WRITER });
  await using target = await serverFor({ applier: TARGET });
  await using queue = await serverFor({ queue: QUEUE }, ['--appendonly', 'yes']);
  const env = {
    ...access(target, queue),
    LANEGATE_SOURCE: `redis-stream://reader@127.0.0.1:${source.port}?key=binlog`,
    LANEGATE_TRIM_SOURCE: 'true',
  };
  const run = async (...args: string[]) => {
    const result = await lanegate(args, { env });
    expect(result, args.join(' ')).toMatchObject({ code: 0, stderr: '' });
    return result.stdout;
  };
  const appended = await lanegate(['append'], {
    env: {
      ...env,
      LANEGATE_SOURCE: `redis-stream://writer@127.0.0.1:${source.port}?key=binlog`,
      LANEGATE_SOURCE_PASSWORD: passwordOf('writer'),
    },
    input: `${LOG.join('\n')}\n`,
  });
  expect(appended).toMatchObject({ code: 0, stderr: '' });
  const before = JSON.parse(await run('check', '--json')) as { level: string; text: string }[];
  expect(before.filter(({ level }) => level !== 'ok')).toEqual([]);

  await using worker = spawnLanegate(['worker', '--lanes', '4'], { env });
  await until('all is applied', async () => (await target.client().exists('last')) === 1, 40_000);
  await run('status', '--wait', '--timeout', '20');
  await run('lane', 'pause', '1');
  await run('lane', 'resume', '1');
  const { stops, divergences } = JSON.parse(await run('errors', '--json')) as Record<string, unknown>;
  expect({ stops, divergences }).toEqual({ stops: [], divergences: [] });
  expect(await target.client().mget('a', 'last')).toEqual(['1', '1']);
  expect((await worker.kill('SIGTERM')).code).toBe(0);

  await run('reset', '--yes');
  expect(await queue.client().dbsize()).toBe(0);
  expect(await target.client().keys('lanegate:*')).toEqual([]);
  expect(await refusals(source)).toEqual([]);
  expect(await refusals(queue)).toEqual([]);
  expect((await refusals(target)).filter((refusal) => !ASKED_FOR.test(objectOf(refusal)))).toEqual([]);
});

test('with the least rights a live source is copied and followed', async () => {
  await using source = await serverFor({ reader: LIVE_SOURCE }, ['--repl-diskless-sync-delay', '0']);
  await using target = await serverFor({ applier: TARGET });
  await using queue = await serverFor({ queue: QUEUE }, ['--appendonly', 'yes']);
  const dataDir = await mkdtemp(join(tmpdir(), 'lanegate-acl-'));
  try {
    await source.client().mset('copied', '1', 'also', '2');
    const env = {
      ...access(target, queue),
      LANEGATE_SOURCE: `redis://reader@127.0.0.1:${source.port}`,
      LANEGATE_DATA_DIR: dataDir,
      LANEGATE_TARGET_DATA: 'replace',
    };
    await using worker = spawnLanegate(['worker', '--lanes', '2'], { env });
    await until(
      'the copy is there',
      async () => (await target.client().exists('copied', 'also')) === 2,
      40_000,
    );
    await source.client().flushdb();
    await source.client().set('followed', '1');
    await until('the rest follows', async () => (await target.client().exists('followed')) === 1, 40_000);
    expect(await target.client().exists('copied')).toBe(0);
    expect(await lanegate(['status', '--wait', '--timeout', '20'], { env })).toMatchObject({ code: 0 });
    expect((await worker.kill('SIGTERM')).code).toBe(0);
    expect(await refusals(source)).toEqual([]);
    expect(await refusals(queue)).toEqual([]);
    expect((await refusals(target)).filter((refusal) => !ASKED_FOR.test(objectOf(refusal)))).toEqual([]);
  } finally {
    await rm(dataDir, { recursive: true, force: true });
  }
});

test.each([
  ['+@all', 'CONFIG SET, ACL, MODULE'],
  [`${TARGET} +config`, 'CONFIG SET'],
  [`${TARGET} +@dangerous`, 'CONFIG SET, ACL, MODULE'],
])('a target user with %s is warned of at the start, by name', async (rules, named) => {
  await using target = await serverFor({ applier: `~* ${rules}` });
  await using source = await serverFor({ reader: STREAM_SOURCE });
  await using queue = await serverFor({ queue: QUEUE }, ['--appendonly', 'yes']);
  const { code, stdout } = await lanegate(['check', '--json'], {
    env: {
      ...access(target, queue),
      LANEGATE_SOURCE: `redis-stream://reader@127.0.0.1:${source.port}?key=binlog`,
    },
  });
  const found = JSON.parse(stdout) as { level: string; what: string; text: string }[];
  expect([code, found.filter(({ level }) => level === 'warning').map(({ text }) => text)]).toEqual([
    0,
    [`the target's user may do more than lanegate needs (${named})`],
  ]);
});
