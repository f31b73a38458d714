import { describe, expect, test } from 'vitest';
import { everyCase } from '../support/cases.ts';
import { type CliResult, lanegate, spawnLanegate } from '../support/cli.ts';
import { until } from '../support/faults.ts';
import { RedisServer } from '../support/redis-server.ts';

const MIB = 1024 ** 2;
/** Writes the largest memory that the process has had behind everything else. */
const TELL_MEMORY =
  '--import=data:text/javascript,process.on(`exit`,()=>process.stderr.write(`maxRSS:`+process.resourceUsage().maxRSS))';

function verify(source: RedisServer, target: RedisServer, ...args: string[]): Promise<CliResult> {
  return lanegate(['verify', '--source', source.url, '--target', target.url, ...args]);
}

describe('lanegate verify', () => {
  test('ends with 0 and a table when both sides are equal', async () => {
    await using a = await RedisServer.start();
    await using b = await RedisServer.start();
    for (const server of [a, b]) await server.client().mset('x', 'hidden', 'y', '2');
    const { code, stdout, stderr } = await verify(a, b);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^2 keys at the source, 2 compared in /);
    expect(stdout).toMatch(/^both sides are equal$/m);
  });

  test('ends with 1, the counts and the places of the differences, and no value', async () => {
    await using a = await RedisServer.start();
    await using b = await RedisServer.start();
    await a.client().mset('x', 'hidden', 'gone', 'hidden', 'same', 'hidden');
    await b.client().mset('x', 'hiddes', 'same', 'hidden', 'esc\u001b[2J', 'hidden');
    const people = await verify(a, b, '--rounds', '1');
    expect(people.code).toBe(1);
    expect(people.stdout).toMatch(/db 0 +x +value +string byte 5\n/);
    expect(people.stdout).toMatch(/"esc\\x1b\[2J" +extra +string\n/);
    expect(people.stdout).toContain('both sides differ in 3 keys');
    expect(people.stdout).not.toMatch(/hidde/);
    const machine = await verify(a, b, '--rounds', '1', '--json');
    const { seconds, first, ...rest } = JSON.parse(machine.stdout.trim().split('\n').at(-1) ?? '');
    expect([machine.code, typeof seconds]).toEqual([1, 'number']);
    expect(rest).toEqual({
      keys: 3,
      compared: 4,
      equal: 1,
      differences: { missing: 1, extra: 1, type: 0, ttl: 0, value: 1 },
      rounds: 1,
    });
    expect(first).toContainEqual({ db: 0, key: 'gone', kind: 'missing', detail: 'string' });
  });

  test('says that a stream is no data set, and what else is wrong, with 2', async () => {
    const stream = ['--source', 'redis-stream://h?key=binlog', '--target', 'redis://h'];
    const { code, stderr } = await lanegate(['verify', ...stream]);
    expect(code).toBe(2);
    expect(stderr).toContain('a stream is a log, not a data set');
    const wrong = await lanegate(['verify', '--sample', '0', '--rounds', 'x']);
    expect(wrong.code).toBe(2);
    for (const part of [
      '--sample: must be a share',
      '--rounds: must',
      '--source is missing',
      '--target is',
    ]) {
      expect(wrong.stderr).toContain(part);
    }
    const { stdout } = await lanegate(['verify', '--help', '--all']);
    expect(stdout).toContain('~* +@read +info +select');
  });

  everyCase(
    'needs no more memory for values of 100 MiB than for small ones',
    async () => {
      await using a = await RedisServer.start();
      await using b = await RedisServer.start();
      const memory = async () => {
        const args = ['verify', '--source', a.url, '--target', b.url, '--rounds', '1'];
        const { code, stdout, stderr } = await lanegate(args, { env: { NODE_OPTIONS: TELL_MEMORY } });
        return { code, stdout, bytes: Number(/maxRSS:(\d+)/.exec(stderr)?.[1]) * 1024 };
      };
      const fill = (server: RedisServer, script: string) => server.client().eval(script, 0);
      for (const server of [a, b])
        await fill(server, `for i = 1, 20000 do redis.call('SET', 'k' .. i, i) end`);
      const small = await memory();
      expect(small.code).toBe(0);
      for (const server of [a, b]) {
        await fill(
          server,
          `local piece = string.rep('x', 1024)
        redis.call('SETRANGE', 'string', ${100 * MIB - 1}, 'x')
        for i = 1, 102400 do
          redis.call('RPUSH', 'list', piece)
          redis.call('HSET', 'hash', i, piece)
        end`,
        );
      }
      const large = await memory();
      expect([large.code, large.stdout]).toEqual([0, expect.stringContaining('both sides are equal')]);
      expect(large.bytes - small.bytes).toBeLessThan(100 * MIB);
      await b.client().setrange('string', 77 * MIB, 'y');
      await b.client().lset('list', 51_200, 'y');
      await b.client().hset('hash', '51200', 'y');
      const damaged = await memory();
      for (const place of [`string byte ${77 * MIB}`, 'list index 51200', 'field 51200']) {
        expect(damaged.stdout).toContain(place);
      }
      expect(damaged.bytes - small.bytes).toBeLessThan(100 * MIB);
    },
    120_000,
  );
});

/** A pipeline with a worker, and a server with the data that the stream leads to. */
class Bench implements AsyncDisposable {
  readonly stream: RedisServer;
  readonly target: RedisServer;
  readonly queue: RedisServer;
  readonly truth: RedisServer;

  private constructor(servers: readonly RedisServer[]) {
    [this.stream, this.target, this.queue, this.truth] = servers as [
      RedisServer,
      RedisServer,
      RedisServer,
      RedisServer,
    ];
  }

  static async start(): Promise<Bench> {
    return new Bench(await Promise.all([1, 2, 3, 4].map(() => RedisServer.start())));
  }

  get env(): Record<string, string> {
    return {
      LANEGATE_SOURCE: `redis-stream://127.0.0.1:${this.stream.port}?key=binlog`,
      LANEGATE_TARGET: this.target.url,
      LANEGATE_QUEUE: this.queue.url,
      LANEGATE_WATCHDOG_MS: '300',
    };
  }

  async append(...lines: string[]): Promise<void> {
    const { code } = await lanegate(['append'], { env: this.env, input: `${lines.join('\n')}\n` });
    expect(code).toBe(0);
  }

  run(...args: string[]): Promise<CliResult> {
    return lanegate(args, { env: this.env });
  }

  verify(...args: string[]) {
    const all = ['verify', '--source', this.truth.url, '--at-barrier', '--json', '--rounds', '1', ...args];
    return spawnLanegate(all, { env: this.env });
  }

  /** Queues with an operator's pause. */
  async paused(): Promise<string[]> {
    const all = await this.queue.client().hkeys('{lanegate-default}:pauses');
    return all.filter((field) => field.endsWith('|operator')).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const all = [this.stream, this.target, this.queue, this.truth];
    await Promise.all(all.map((server) => server[Symbol.asyncDispose]()));
  }
}

describe('lanegate verify --at-barrier', () => {
  const commands = Array.from({ length: 200 }, (_, i) => `SET key:${i} ${i}`);

  test('holds the lanes while it compares, and lets go of what it held only', async () => {
    await using bench = await Bench.start();
    await using worker = spawnLanegate(['worker', '--lanes', '4'], { env: bench.env });
    await worker.waitForLine(/ingest begins/);
    await bench.append(...commands, 'RENAME key:1 other');
    for (const command of [...commands, 'RENAME key:1 other']) {
      const [name = '', ...args] = command.split(' ');
      await bench.truth.client().call(name, ...args);
    }
    expect(await bench.run('status', '--wait', '--timeout', '20')).toMatchObject({ code: 0 });
    await bench.run('lane', 'pause', '2', '--reason', 'mine');
    // It cannot go on comparing while the server does not answer.
    bench.truth.stop();
    await using verifying = bench.verify();
    const all = ['gate|operator', 'ingest|operator', ...[0, 1, 2, 3].map((lane) => `lane-${lane}|operator`)];
    await verifying.waitForLine(/the pipeline is held/);
    expect(await bench.paused()).toEqual(all);
    await bench.append('SET later 1', 'SET later2 2', 'SET later3 3');
    bench.truth.cont();
    const { code, stdout } = await verifying.exit();
    const { differences, equal } = JSON.parse(stdout);
    expect([code, equal]).toEqual([0, 200]);
    expect(differences).toEqual({ missing: 0, extra: 0, type: 0, ttl: 0, value: 0 });
    expect(await bench.paused()).toEqual(['lane-2|operator']);
    await bench.run('lane', 'resume', '2');
    await until('the lanes go on', async () => (await bench.target.client().get('later3')) === '3');
  });

  test('lets go when it is interrupted, and when the source cannot be reached', async () => {
    await using bench = await Bench.start();
    await using worker = spawnLanegate(['worker', '--lanes', '4'], { env: bench.env });
    await worker.waitForLine(/ingest begins/);
    await bench.append(...commands);
    await bench.run('status', '--wait', '--timeout', '20');
    bench.truth.stop();
    await using interrupted = bench.verify();
    await interrupted.waitForLine(/the pipeline is held/);
    expect(await bench.paused()).toHaveLength(6);
    const { code } = await interrupted.kill('SIGINT');
    expect(code).toBe(1);
    expect(await bench.paused()).toEqual([]);
    bench.truth.cont();
    await bench.truth.kill();
    await using failing = bench.verify();
    const failed = await failing.exit();
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining('cannot be used')]);
    expect(await bench.paused()).toEqual([]);
    await bench.append('SET later 1');
    await until('the lanes go on', async () => (await bench.target.client().get('later')) === '1');
  });

  test('does not begin where the pipeline has not begun or is stopped', async () => {
    await using bench = await Bench.start();
    await using none = bench.verify();
    expect(await none.exit()).toMatchObject({ code: 1, stderr: expect.stringContaining('has not begun') });
    await using worker = spawnLanegate(['worker', '--lanes', '4'], { env: bench.env });
    await worker.waitForLine(/ingest begins/);
    await bench.append('SET w 1', 'LPUSH w 1');
    expect(await bench.run('status', '--wait', '--timeout', '20')).toMatchObject({ code: 1 });
    await using stopped = bench.verify();
    expect(await stopped.exit()).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('is stopped at seq 2'),
    });
    expect(await bench.paused()).toEqual([]);
  });
});
