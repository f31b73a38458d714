import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { encodeCommand } from '../../src/binlog/resp.ts';
import { type CliResult, lanegate, spawnLanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { contentsOf, Heard } from '../support/leaks.ts';
import { RedisServer } from '../support/redis-server.ts';

// A pipeline in all the trouble that we can make, with a password for everything and a mark in every value. Whatever it
// printed, served or stored on the way is searched for them.

const PASSWORDS = {
  source: 'c4n4ry-source-8b1f',
  target: 'c4n4ry-target-77d2',
  queue: 'c4n4ry-queue-e9a0',
  board: 'c4n4ry-board-315c',
  wrong: 'c4n4ry-wrong-0d66',
} as const;
const SECRETS = Object.values(PASSWORDS);
const VALUE = 'c4n4ry-value-5e2b';
/** A number of this shape is in no port, id or time. */
const NUMBER = '7318.250731';
const VALUES = [VALUE, NUMBER];
/** Where the queue keeps commands with their arguments: the journal and what waits for an operator's look. */
const HOLDS_COMMANDS = /:(log:\d+|gate-commands|dead-letters|divergences)$/;
const USER = 'operator';

const MALFORMED = [
  ['resp', `*1\r\n$3\r\n${VALUE}`],
  ['argv', `["SET","malformed:1",{"${VALUE}":1}]`],
  ['resp', encodeCommand(['SET', 'malformed:2', VALUE]).toString(), 'db', VALUE],
  [VALUE, VALUE],
] as const;

type Command = readonly string[];

/** For an operator to decide: a lane stops in front of a command and behind one, a gate stops, ingest stops. */
const STOPPING: readonly Command[] = [
  ['SET', 'plain', VALUE],
  ['LPUSH', 'plain', VALUE],
  ['INCRBYFLOAT', 'renamed-away', VALUE],
  ['EVAL', 'return redis.error_reply(ARGV[1])', '1', 'scripted', VALUE],
  ['CONFIG', 'SET', 'requirepass', VALUE],
  ['SET', 'last', VALUE],
];

/** Each goes wrong in a way of its own; the mark is in its arguments, never in its key. */
const TROUBLE: readonly Command[] = [
  ['INCR', 'plain'],
  ['GEOADD', 'geo', NUMBER, NUMBER, VALUE],
  ['INCRBYFLOAT', 'renamed-away', VALUE],
  ['SETRANGE', 'plain', VALUE, VALUE],
  ['ZADD', 'scores', VALUE, VALUE],
  ['EVAL', `return '${VALUE}' ${VALUE} ${VALUE}`, '0'],
  ['EVAL', `error({err='MY ${VALUE}'})`, '1', 'scripted'],
  ['EVALSHA', VALUE, '0'],
  ['FUNCTION', 'LOAD', `#!lua name=lib\n${VALUE} ${VALUE}`],
  ['FCALL', VALUE, '1', 'scripted', VALUE],
  ['RESTORE', 'restored', '0', VALUE],
  ['XADD', 'stream', VALUE, 'field', VALUE],
  ['XGROUP', 'CREATE', 'plain', VALUE, '$'],
  ['SORT', 'plain', 'STORE', 'sorted'],
  ['SORT', 'plain', 'LIMIT', VALUE, VALUE, 'STORE', 'sorted'],
  ['BITFIELD', 'plain', 'SET', 'u8', VALUE, VALUE],
  ['HINCRBY', 'hash', 'field', VALUE],
  ['HSET', 'hash', 'odd'],
  ['CONFIG', 'SET', 'requirepass', VALUE],
  ['AUTH', VALUE],
  ['ACL', 'SETUSER', 'x', `>${VALUE}`],
  ['CLIENT', 'SETNAME', VALUE],
  ['SCRIPT', 'NOSUCH', VALUE],
  ['SET', 'lanegate:mine', VALUE],
  ['MULTI'],
  ['RPUSH', 'plain', VALUE],
  ['SET', 'behind', VALUE],
  ['EXEC'],
  ['RENAME', 'plain', 'renamed'],
  ['LMOVE', 'renamed', 'plain', 'LEFT', VALUE],
];

class Scene implements AsyncDisposable {
  readonly heard = new Heard();
  readonly env: Record<string, string>;
  readonly #servers: readonly RedisServer[];
  readonly #folder: string;

  private constructor(servers: readonly RedisServer[], folder: string) {
    this.#servers = servers;
    this.#folder = folder;
    this.env = {
      // One password in a URL, one in the file of --config, one in a file of its own, one in the environment.
      LANEGATE_SOURCE: `redis-stream://default:${PASSWORDS.source}@127.0.0.1:${this.source.port}?key=binlog`,
      LANEGATE_CONFIG: join(folder, 'lanegate.yaml'),
      LANEGATE_TARGET: this.target.url,
      LANEGATE_QUEUE: this.queue.url,
      LANEGATE_QUEUE_PASSWORD_FILE: join(folder, 'queue-password'),
      LANEGATE_WATCHDOG_MS: '300',
      LANEGATE_LOG_LEVEL: 'trace',
    };
  }

  static async start(): Promise<Scene> {
    const folder = await mkdtemp(join(tmpdir(), 'lanegate-canary-'));
    await writeFile(join(folder, 'lanegate.yaml'), `targetPassword: ${PASSWORDS.target}\n`);
    await writeFile(join(folder, 'queue-password'), `${PASSWORDS.queue}\n`);
    const servers = await Promise.all([
      RedisServer.start({ password: PASSWORDS.source }),
      RedisServer.start({ password: PASSWORDS.target, args: ['--rename-command', 'INCRBYFLOAT', ''] }),
      RedisServer.start({ password: PASSWORDS.queue, args: ['--appendonly', 'yes'] }),
    ]);
    return new Scene(servers, folder);
  }

  get source(): RedisServer {
    return this.#servers[0] as RedisServer;
  }

  get target(): RedisServer {
    return this.#servers[1] as RedisServer;
  }

  get queue(): RedisServer {
    return this.#servers[2] as RedisServer;
  }

  async run(args: readonly string[], changes: Record<string, string> = {}): Promise<CliResult> {
    const result = await lanegate(args, { env: { ...this.env, ...changes } });
    this.heard.add(`lanegate ${args.join(' ')}`, result.stdout + result.stderr);
    return result;
  }

  async append(commands: readonly Command[]): Promise<void> {
    const client = this.source.client();
    let transaction: Command[] = [];
    for (const command of commands) {
      transaction.push(command);
      if (transaction[0]?.[0] === 'MULTI' && command[0] !== 'EXEC') continue;
      await client.call('XADD', 'binlog', '*', 'resp', Buffer.concat(transaction.map(encodeCommand)));
      transaction = [];
    }
  }

  async appendMalformed(): Promise<void> {
    for (const fields of MALFORMED) await this.source.client().call('XADD', 'binlog', '*', ...fields);
  }

  async applied(key: string): Promise<void> {
    await until(`${key} is applied`, async () => (await this.target.client().exists(key)) === 1, 60_000);
  }

  /** Every page that the board has, by the links of its own API. */
  async browse(url: string): Promise<void> {
    const headers = {
      authorization: `Basic ${Buffer.from(`${USER}:${PASSWORDS.board}`).toString('base64')}`,
    };
    const get = async (path: string) => {
      const text = await (await fetch(url + path, { headers })).text();
      this.heard.add(`GET ${path}`, text);
      return text;
    };
    for (const path of ['/', '/api/status', '/metrics', '/healthz', '/readyz', '/nowhere']) await get(path);
    const { queues } = JSON.parse(await get('/api/queues')) as { queues: { name: string }[] };
    expect(queues.map(({ name }) => name)).toContain('lane-0');
    for (const { name } of queues) {
      const list = await get(`/api/queues?activeQueue=${name}&status=latest&page=1&jobsPerPage=50`);
      const all = JSON.parse(list) as { queues: { name: string; jobs: { id: string }[] }[] };
      for (const { id } of all.queues.find((queue) => queue.name === name)?.jobs ?? []) {
        await get(`/api/queues/${name}/${id}`);
        await get(`/api/queues/${name}/${id}/logs`);
      }
    }
    const wrong = `Basic ${Buffer.from(`${USER}:${PASSWORDS.wrong}`).toString('base64')}`;
    const refused = await fetch(`${url}/api/status`, { headers: { authorization: wrong } });
    expect(refused.status).toBe(401);
    this.heard.add('a refusal of the board', await refused.text());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) await server[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return port;
}

/** Whatever stops, an operator leaves it out: as often as it takes until nothing does. */
async function leaveOutAll(scene: Scene): Promise<number> {
  const left = new Set<number>();
  await until(
    'the last command is applied',
    async () => {
      const { stdout } = await scene.run(['errors', '--json']);
      const { stops } = JSON.parse(stdout) as { stops: { place: string; seq: number; behind: boolean }[] };
      for (const { place, seq, behind } of stops) {
        const target = place.startsWith('lane:') ? place.slice(5) : (place.split(':')[0] as string);
        const args = behind ? ['resume', target] : ['skip', target, '--seq', String(seq), '--reason', 'test'];
        await scene.run(['lane', ...args]);
        left.add(seq);
      }
      return (await scene.target.client().exists('last')) === 1;
    },
    60_000,
  );
  return left.size;
}

test('no password and no value is printed, served or stored outside of the streams that hold commands', {
  timeout: 180_000,
}, async () => {
  await using scene = await Scene.start();
  const { heard, env } = scene;
  const boardEnv = { ...env, LANEGATE_BOARD_USER: USER, LANEGATE_BOARD_PASSWORD: PASSWORDS.board };
  const [httpPort, boardPort] = [String(await freePort()), String(await freePort())];
  await using first = spawnLanegate(['worker', '--lanes', '2'], { env });
  await first.waitForLine(/ingest begins/);
  await scene.append(STOPPING);
  expect(await leaveOutAll(scene)).toBe(4);
  const { stdout, stderr } = await first.kill();
  heard.add('the first worker', stdout + stderr);

  await using worker = spawnLanegate(['worker', '--on-poison', 'dead-letter', '--http-port', httpPort], {
    env,
  });
  await using board = spawnLanegate(['board', '--board-port', boardPort, '--log-format', 'json'], {
    env: boardEnv,
  });
  await scene.append(TROUBLE);
  await scene.appendMalformed();
  await scene.append([['SET', 'very-last', VALUE]]);
  await scene.applied('very-last');
  const counters = await scene.queue.client().hgetall('{lanegate-default}:counters');
  expect(Number(counters.deadLettered)).toBeGreaterThan(10);
  expect(Number(counters.divergences)).toBeGreaterThan(5);
  heard.add('GET /metrics of the worker', await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text());

  await scene.run(['lane', 'pause', '1']);
  for (const args of [['status'], ['status', '--json'], ['errors'], ['errors', '--json'], ['check']])
    expect((await scene.run(args)).stdout.length, args.join(' ')).toBeGreaterThan(100);
  await scene.run(['lane', 'resume', '1']);
  const shown = await lanegate(['errors', '--values'], { env });
  expect(shown.stdout).toContain(VALUE);
  expect(shown.stdout).not.toMatch(new RegExp(SECRETS.join('|')));

  // Each takes its password from somewhere else, which is emptied for this.
  const wrong = [
    { LANEGATE_CONFIG: '', LANEGATE_TARGET_PASSWORD: PASSWORDS.wrong },
    { LANEGATE_QUEUE_PASSWORD_FILE: '', LANEGATE_QUEUE_PASSWORD: PASSWORDS.wrong },
    { LANEGATE_SOURCE_PASSWORD: PASSWORDS.wrong },
  ];
  for (const changes of wrong) {
    expect((await scene.run(['check'], changes)).stdout).toMatch(/WRONGPASS|invalid username-password/);
    await scene.run(['errors'], changes);
  }
  const secretFlag = await scene.run(['check', '--target-password', PASSWORDS.wrong]);
  expect(secretFlag.code).toBe(2);
  await scene.run(['check', `--target=redis://x:${PASSWORDS.wrong}@h:99999`]);
  await scene.run(['check', `--target=foo://x:${PASSWORDS.wrong}@h`]);
  await scene.run(['check', '--nothing', PASSWORDS.wrong]);

  const line = await board.waitForLine(/board is listening/);
  await scene.browse((JSON.parse(line) as { url: string }).url);

  for (const { pid } of [worker, board]) {
    for (const file of ['cmdline', 'comm']) {
      const path = `/proc/${pid}/${file}`;
      if (existsSync(path)) heard.add(path, readFileSync(path, 'latin1'));
    }
  }
  for (const [name, server] of [
    ['queue', scene.queue],
    ['target', scene.target],
  ] as const) {
    for (const { key, text } of await contentsOf(server.client())) {
      const isOurs = name === 'queue' || key.startsWith('lanegate:');
      if (isOurs && !HOLDS_COMMANDS.test(key)) heard.add(`${name} ${key}`, text);
      else expect(text).not.toMatch(new RegExp(SECRETS.join('|')));
    }
  }
  heard.add('clients of the target', String(await scene.target.client().client('LIST')));
  for (const ended of [await worker.kill(), await board.kill()])
    heard.add('a process', ended.stdout + ended.stderr);

  expect(heard.bytes).toBeGreaterThan(20_000);
  expect(heard.leaks([...SECRETS, ...VALUES])).toEqual([]);
});
