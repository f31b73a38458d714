import { describe, expect, test } from 'vitest';
import type { PipelineStatus } from '../../src/status.ts';
import { type CliResult, lanegate, spawnLanegate } from '../support/cli.ts';
import { RedisServer } from '../support/redis-server.ts';

/** Three servers, and lanegate with its options set for them. */
class Bench implements AsyncDisposable {
  readonly source: RedisServer;
  readonly target: RedisServer;
  readonly queue: RedisServer;
  readonly env: Record<string, string>;

  private constructor(source: RedisServer, target: RedisServer, queue: RedisServer) {
    this.source = source;
    this.target = target;
    this.queue = queue;
    this.env = {
      LANEGATE_SOURCE: `redis-stream://127.0.0.1:${source.port}?key=binlog`,
      LANEGATE_TARGET: target.url,
      LANEGATE_QUEUE: queue.url,
      LANEGATE_WATCHDOG_MS: '300',
    };
  }

  static async start(): Promise<Bench> {
    const [source, target, queue] = await Promise.all([
      RedisServer.start(),
      RedisServer.start(),
      RedisServer.start({ args: ['--appendonly', 'yes'] }),
    ]);
    return new Bench(source, target, queue);
  }

  run(...args: string[]): Promise<CliResult> {
    return lanegate(args, { env: this.env });
  }

  /** A worker that has taken over the ingest. */
  async worker(...args: string[]) {
    const worker = spawnLanegate(['worker', '--lanes', '4', ...args], { env: this.env });
    await worker.waitForLine(/ingest begins/);
    return worker;
  }

  async append(...lines: string[]): Promise<void> {
    const { code, stderr } = await lanegate(['append'], { env: this.env, input: `${lines.join('\n')}\n` });
    expect([code, stderr]).toEqual([0, '']);
  }

  async status(): Promise<PipelineStatus> {
    return JSON.parse((await this.run('status', '--json')).stdout) as PipelineStatus;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of [this.source, this.target, this.queue]) await server[Symbol.asyncDispose]();
  }
}

describe('status', () => {
  test('says what a pipeline is that has not begun', async () => {
    await using bench = await Bench.start();
    const status = await bench.status();
    expect(status).toMatchObject({
      state: 'waiting',
      lanes: [],
      workers: [],
      head: { seq: 0, position: null },
    });
    expect(status.ingest).toMatchObject({ holder: null, generation: null });
    expect(status.lagEntries).toBeGreaterThan(0);
  });

  test('--wait ends when all that was appended is applied, also behind commands that are ignored', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET a 1', 'RENAME a b', 'FLUSHDB', 'SET a 2', 'PING', 'PING');
    expect(await bench.run('status', '--wait', '--timeout', '20')).toMatchObject({ code: 0, stderr: '' });
    expect(await bench.target.client().get('a')).toBe('2');
    const status = await bench.status();
    expect(status).toMatchObject({ lagEntries: 0, lagMs: 0, state: 'running', head: { seq: 6 } });
    expect(status.gate).toEqual({ open: false, seq: null, command: null, waitingFor: [], stopped: null });
  });

  test('--wait without --source takes the head that the ingest reports', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET a 1');
    const env = { ...bench.env, LANEGATE_SOURCE: '' };
    expect(await lanegate(['status', '--wait', '--timeout', '20'], { env })).toMatchObject({ code: 0 });
    expect(await bench.target.client().get('a')).toBe('1');
  });

  test('--wait that runs out of time says what it waits for', async () => {
    await using bench = await Bench.start();
    await bench.append('SET a 1');
    const { code, stderr } = await bench.run('status', '--wait', '--timeout', '1');
    expect(code).toBe(1);
    expect(stderr).toContain('not caught up after 1 s, waiting for an ingest');
  });

  test('a queue that is not there is one sentence, not a hang', async () => {
    const env = { LANEGATE_QUEUE: 'redis://127.0.0.1:9' };
    const { code, stderr } = await lanegate(['status'], { env });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^lanegate: the queue's Redis redis:\/\/127.0.0.1:9 cannot be used: .*ECONNREFUSED/,
    );
  });

  test('without --queue and without an embedded server both are named', async () => {
    const { code, stderr } = await lanegate(['status', '--data-dir', '/nonexistent/lanegate']);
    expect(code).toBe(2);
    expect(stderr).toContain('--queue is missing');
    expect(stderr).toContain('/nonexistent/lanegate (--data-dir)');
  });

  test('names a target that does not answer, and the lanes as the journal knows them', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET a 1');
    await bench.run('status', '--wait', '--timeout', '20');
    await bench.target.kill();
    const status = await bench.status();
    expect(status).toMatchObject({ state: 'waiting', target: { waiting: { code: 'CONNECTION' } } });
    expect(Math.max(...status.lanes.map((lane) => lane.appliedThrough))).toBe(1);
  });
});

describe('a command that the target refuses', () => {
  test('stops its lane; status, errors and lane show name it, resume goes on behind it', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET w secret', 'LPUSH w hidden', 'SET other 1');
    const wait = await bench.run('status', '--wait', '--timeout', '20');
    expect(wait.code).toBe(1);
    expect(wait.stderr).toMatch(/stopped: lane \d at seq 2 .*LPUSH of key "w": WRONGTYPE/);

    const status = await bench.status();
    const lane = status.lanes.find(({ stopped }) => stopped !== null);
    expect(status.state).toBe('stopped');
    expect(lane).toMatchObject({ paused: true, stopped: { seq: 2, command: 'LPUSH', key: 'w' } });
    const number = String(lane?.lane);

    const shown = await bench.run('lane', 'show', number);
    expect(shown.stdout).toContain('LPUSH of key "w": WRONGTYPE');
    expect(shown.stdout).toContain(`lanegate lane resume ${number}`);
    const errors = await bench.run('errors');
    expect(errors.stdout).toContain('divergences: 1\n');
    expect(`${shown.stdout}${errors.stdout}`).not.toMatch(/hidden|secret/);
    const values = JSON.parse((await bench.run('errors', '--json', '--values')).stdout);
    expect(values.divergences).toMatchObject([{ seq: 2, command: 'LPUSH', commands: ['LPUSH w hidden'] }]);

    expect((await bench.run('lane', 'resume', number)).stdout).toBe(`lane ${number} goes on\n`);
    await bench.append('SET w 2');
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    expect(await bench.target.client().get('w')).toBe('2');
    expect(await bench.status()).toMatchObject({ state: 'running', counters: { divergences: 1 } });
  });

  test('skip wants the very seq at which the lane stands, and leaves a dead letter with who and why', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET w 1', 'LPUSH w hidden');
    await bench.run('status', '--wait', '--timeout', '20');
    const lane = (await bench.status()).lanes.find(({ stopped }) => stopped !== null)?.lane;
    const wrong = await bench.run('lane', 'skip', `${lane}`, '--seq', '1', '--reason', 'x');
    expect([wrong.code, wrong.stderr]).toEqual([
      1,
      expect.stringContaining('is stopped at seq 2, not at seq 1'),
    ]);
    const args = ['lane', 'skip', `${lane}`, '--seq', '2', '--reason', 'seen by me'];
    expect((await bench.run(...args)).code).toBe(0);
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    const { deadLetters } = JSON.parse((await bench.run('errors', '--json', '--values')).stdout);
    expect(deadLetters).toMatchObject([
      {
        seq: 2,
        position: expect.stringMatching(/^\d+-\d+.*\.\.\d+-\d+/),
        reason: 'seen by me',
        cause: expect.stringContaining('WRONGTYPE'),
        by: expect.stringContaining('@'),
        commands: ['LPUSH w hidden'],
      },
    ]);
    expect((await bench.run('errors')).stdout).toMatch(
      /lane:\d seq 2 \(\d+-\d+.*\), LPUSH of key w: seen by me \(by .*; it stood still for: WRONGTYPE/,
    );
    const again = await bench.run(...args);
    expect([again.code, again.stderr]).toEqual([
      1,
      expect.stringMatching(
        /^lanegate lane: lane \d is not stopped, it has applied through seq 2 of 2: nothing was skipped\n {2}nothing is stopped;/,
      ),
    ]);
  });

  test('one that ingest refuses is skipped by its seq, and everything else is applied', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET a 1', 'NOSUCH b', 'SET a 2');
    const wait = await bench.run('status', '--wait', '--timeout', '20');
    expect(wait.stderr).toContain('stopped: ingest at seq 2');
    const early = await bench.run('lane', 'skip', 'ingest', '--seq', '3', '--reason', 'x');
    expect(early.code).toBe(1);
    expect(early.stderr).toContain('ingest is stopped at seq 2, not at seq 3: nothing was skipped');
    const elsewhere = await bench.run('lane', 'skip', 'gate', '--seq', '2', '--reason', 'x');
    expect([elsewhere.code, elsewhere.stderr]).toEqual([
      1,
      expect.stringContaining(
        'the gate is not stopped, it is closed: nothing was skipped\n  stopped: ingest at seq 2;',
      ),
    ]);
    expect((await bench.run('lane', 'skip', 'ingest', '--seq', '2', '--reason', 'unknown')).code).toBe(0);
    const after = await bench.run('status', '--wait', '--timeout', '20');
    expect([after.code, after.stderr]).toEqual([0, expect.any(String)]);
    expect((await bench.run('errors')).stdout).toMatch(
      /ingest seq 2 \(\d+-\d+@1\), NOSUCH: unknown \(by .*@.*; it stood still for: .*NOSUCH/i,
    );
    expect(await bench.target.client().get('a')).toBe('2');
    const { deadLetters } = JSON.parse((await bench.run('errors', '--json')).stdout);
    expect(deadLetters).toMatchObject([{ place: 'ingest', seq: 2, reason: 'unknown' }]);
  });

  test('a MULTI above --transaction-bytes is skipped as a whole, and what follows keeps its numbers', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker('--transaction-bytes', '1024');
    const large = 'x'.repeat(700);
    await bench.append(
      'SET a 1',
      'MULTI',
      `SET big1 ${large}`,
      `SET big2 ${large}`,
      'FLUSHALL',
      'EXEC',
      'SET b 1',
    );
    const wait = await bench.run('status', '--wait', '--timeout', '20');
    expect(wait.stderr).toContain('stopped: ingest at seq 2 ');
    expect(wait.stderr).toContain('MULTI: a MULTI ... EXEC of more than 1024 bytes');
    const args = ['lane', 'skip', 'ingest', '--seq', '2', '--reason', 'too large'];
    expect((await bench.run(...args)).code).toBe(0);
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    expect(await bench.target.client().mget('a', 'big1', 'b')).toEqual(['1', null, '1']);
    expect(await bench.status()).toMatchObject({ head: { seq: 7 }, counters: { deadLettered: 1 } });
    const { deadLetters } = JSON.parse((await bench.run('errors', '--json', '--values')).stdout);
    expect(deadLetters).toMatchObject([{ seq: 2, command: 'MULTI', reason: 'too large' }]);
    const whole = ['MULTI', `SET big1 ${large}`, `SET big2 ${large}`, 'FLUSHALL', 'EXEC'];
    expect(deadLetters[0].commands).toEqual(whole);
  });

  test('a gate that failed is shown with its lanes, and resume all goes on', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append('SET w 1', 'RENAME missing other', 'SET w 2');
    const wait = await bench.run('status', '--wait', '--timeout', '20');
    expect(wait.stderr).toMatch(/at seq 2 .*RENAME of key "missing": ERR no such key/);
    expect((await bench.run('lane', 'resume', 'all')).code).toBe(0);
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    expect(await bench.target.client().get('w')).toBe('2');
  });
});

describe('an operator pause', () => {
  test('of a lane survives a restart of the worker, and ends with resume', async () => {
    await using bench = await Bench.start();
    const first = await bench.worker();
    expect((await bench.run('lane', 'pause', 'all', '--reason', 'backup')).code).toBe(0);
    expect((await first.kill()).code).toBe(0);
    await using second = spawnLanegate(['worker'], { env: bench.env });
    await second.waitForLine(/worker started/);
    await bench.append('SET a 1');
    const status = await bench.status();
    expect([status.ingest.paused, ...status.lanes.map(({ paused }) => paused)]).toEqual(Array(5).fill(true));
    const shown = await bench.run('lane', 'show', '0');
    expect(shown.stdout).toMatch(/lane 0: paused\n.*\n {2}paused by: operator .* \(backup\)/);
    expect(await bench.target.client().get('a')).toBeNull();
    expect((await bench.run('lane', 'resume', 'all')).code).toBe(0);
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    expect(await bench.target.client().get('a')).toBe('1');
  });

  test('of the gate holds its command back, also from the lanes that would help', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.run('lane', 'pause', 'gate');
    await bench.append('SET a 1', 'FLUSHDB', 'SET b 1');
    const wait = await bench.run('status', '--wait', '--timeout', '2');
    expect(wait).toMatchObject({ code: 1, stderr: expect.stringContaining('the gate for FLUSHDB at seq 2') });
    expect(await bench.target.client().get('a')).toBe('1');
    expect((await bench.status()).gate).toMatchObject({ open: true, seq: 2, waitingFor: [] });
    await bench.run('lane', 'resume', 'gate');
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    expect(await bench.target.client().mget('a', 'b')).toEqual([null, '1']);
  });

  test('names every problem of its operands at once', async () => {
    const { code, stderr } = await lanegate(['lane', 'skip', 'all']);
    expect(code).toBe(2);
    for (const problem of ['not all', '--seq is missing', '--reason is missing'])
      expect(stderr).toContain(problem);
  });
});

describe('check', () => {
  const OWN_USER = expect.stringContaining('a user of its own') as string;

  const findings = (result: CliResult) =>
    JSON.parse(result.stdout) as { level: string; what: string; text: string; hint: string }[];

  const errorsOf = (result: CliResult) =>
    findings(result)
      .filter(({ level }) => level === 'error')
      .map(({ what, text }) => [what, text]);

  test('passes on servers that are fit, and changes nothing', async () => {
    await using bench = await Bench.start();
    const result = await bench.run('check', '--json');
    const found = findings(result).filter(({ level }) => level !== 'ok');
    // The servers of a test have no users of their own.
    expect([result.code, found]).toEqual([0, [expect.objectContaining({ hint: OWN_USER })]]);
    for (const server of [bench.source, bench.target, bench.queue])
      expect(await server.client().dbsize()).toBe(0);
  });

  test('finds an evicting queue without AOF, a target with data, and two roles on one server', async () => {
    await using source = await RedisServer.start({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    await using target = await RedisServer.start({ args: ['--maxmemory-policy', 'allkeys-lru'] });
    await target.client().set('somebody', 'else');
    const args = ['--source', `redis-stream://127.0.0.1:${source.port}?key=binlog`, '--target', target.url];
    const result = await lanegate(['check', '--json', ...args, '--queue', source.url]);
    expect(result.code).toBe(1);
    const found = findings(result);
    const hints = found
      .filter(({ level }) => level !== 'ok')
      .map(({ level, what, hint }) => [level, what, hint]);
    expect(hints).toEqual([
      ['error', 'queue', 'CONFIG SET maxmemory-policy noeviction'],
      ['warning', 'queue', 'CONFIG SET appendonly yes'],
      ['warning', 'target', expect.stringContaining('maxmemory-policy')],
      ['warning', 'target', OWN_USER],
      ['warning', 'source', 'give another --queue'],
      ['error', 'pipeline', expect.stringContaining('--target-data keep')],
    ]);
    const same = await lanegate(['check', '--json', ...args, '--queue', target.url]);
    expect(findings(same).map(({ text }) => text)).toContainEqual(expect.stringContaining('one server'));
  });

  test('of a pipeline that has begun it shows routing, stops and loss, and fails on each of them', async () => {
    await using bench = await Bench.start();
    const worker = await bench.worker();
    await bench.append('SET a 1', 'SET b 1');
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    const whole = await bench.run('check', '--json');
    expect([whole.code, findings(whole).filter(({ level }) => level !== 'ok')]).toEqual([
      0,
      [expect.objectContaining({ hint: OWN_USER })],
    ]);
    const texts = findings(whole).map(({ text }) => text);
    expect(texts).toContainEqual(
      expect.stringMatching(/^routing fingerprint [0-9a-f]{16}: the options given route as/),
    );
    expect(texts).toContainEqual(expect.stringMatching(/^the source holds everything behind \d+-\d+@1,/));

    const other = await bench.run('check', '--json', '--no-split-multi-key');
    expect([other.code, errorsOf(other)]).toEqual([
      1,
      [['pipeline', expect.stringMatching(/^routing fingerprint .* they route commands otherwise$/)]],
    ]);

    await bench.append('NOSUCH c');
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(1);
    const stopped = await bench.run('check', '--json');
    expect([stopped.code, errorsOf(stopped)]).toEqual([
      1,
      [['pipeline', expect.stringMatching(/^ingest is stopped at seq 3 \(.*\), NOSUCH: .*NOSUCH/i)]],
    ]);

    await worker.kill();
    await bench.append('SET d 1');
    const source = bench.source.client();
    await source.xtrim('binlog', 'MAXLEN', 1);
    const lost = await bench.run('check', '--json');
    expect([lost.code, errorsOf(lost)[1]]).toEqual([
      1,
      ['source', expect.stringMatching(/^SOURCE_LOST: 1 entry of the stream/)],
    ]);
    expect((await bench.run('check')).stdout).toMatch(/^error +source +SOURCE_LOST/m);
  });

  test('refuses a target that is a replica or does not answer', async () => {
    await using bench = await Bench.start();
    await bench.target.client().replicaof('127.0.0.1', String(bench.source.port));
    const replica = findings(await bench.run('check', '--json'));
    expect(replica).toContainEqual(
      expect.objectContaining({ level: 'error', text: 'the target is a replica' }),
    );
    await bench.target.kill();
    const gone = await bench.run('check');
    expect([gone.code, gone.stdout]).toEqual([
      1,
      expect.stringMatching(/^error +target +the target cannot be used/m),
    ]);
  });
});

describe('explain', () => {
  const explain = async (...words: string[]) =>
    JSON.parse((await lanegate(['explain', '--json', ...words])).stdout);

  test('names class, lanes and gate of a command', async () => {
    expect(await explain('SET a 1')).toMatchObject({ class: 'keyed', lanes: [7], gate: null });
    expect(await explain('RENAME a b')).toMatchObject({ class: 'multi-key', keys: ['a', 'b'], gate: [4, 7] });
    expect(await explain('RENAME', '{x}a', '{x}b')).toMatchObject({ class: 'multi-key', gate: null });
    expect(await explain('FLUSHDB', '--lanes', '2')).toMatchObject({ class: 'global', gate: [0, 1] });
    expect(await explain('MSET a 1 b 2')).toMatchObject({ split: true, gate: null });
    expect(await explain('MSET a 1 b 2', '--no-split-multi-key')).toMatchObject({
      split: false,
      gate: [4, 7],
    });
    expect(await explain('PING')).toMatchObject({ class: 'ignored', lanes: [] });
  });

  test('shows what is sent instead, and why a command is refused', async () => {
    expect(await explain('SET a "b c" EX 10')).toMatchObject({
      rewrite: expect.stringMatching(/^SET a "b c" PXAT \d+$/),
    });
    expect(await explain('SHUTDOWN')).toMatchObject({
      class: 'refused',
      refusal: { code: 'FORBIDDEN_COMMAND' },
    });
    expect((await lanegate(['explain', 'SET "a'])).code).toBe(2);
  });
});

describe('relane', () => {
  test('changes the number of lanes while traffic goes on', async () => {
    await using bench = await Bench.start();
    await using _worker = await bench.worker();
    await bench.append(...Array.from({ length: 50 }, (_, at) => `INCR n${at % 7}`));
    const result = await bench.run('relane', '6', '--timeout', '30');
    expect([result.code, result.stdout]).toEqual([0, 'pipeline default has 6 lanes\n']);
    await bench.append(...Array.from({ length: 50 }, (_, at) => `INCR n${at % 7}`));
    expect((await bench.run('status', '--wait', '--timeout', '20')).code).toBe(0);
    const counts = await bench.target.client().mget(...Array.from({ length: 7 }, (_, at) => `n${at}`));
    expect(counts.reduce((sum, count) => sum + Number(count), 0)).toBe(100);
    expect((await bench.status()).lanes).toHaveLength(6);
    expect((await bench.run('relane', '0')).code).toBe(2);
  });
});

describe('reset', () => {
  test('refuses while a worker is alive, asks, and leaves nothing but the data', async () => {
    await using bench = await Bench.start();
    const worker = await bench.worker();
    await bench.append('SET a 1');
    await bench.run('status', '--wait', '--timeout', '20');
    const alive = await bench.run('reset', '--yes');
    expect([alive.code, alive.stderr]).toEqual([1, expect.stringContaining(`pid ${worker.pid}`)]);
    await worker.kill();
    const asked = await bench.run('reset');
    expect([asked.code, asked.stdout]).toEqual([1, expect.stringContaining('lanegate:default:identity')]);
    expect(await bench.target.client().exists('lanegate:default:identity')).toBe(1);
    expect((await bench.run('reset', '--yes')).code).toBe(0);
    expect(await bench.queue.client().dbsize()).toBe(0);
    expect(await bench.target.client().keys('*')).toEqual(['a']);
    expect(await bench.source.client().xinfo('GROUPS', 'binlog')).toEqual([]);
    expect((await bench.run('reset', '--yes')).stdout).toBe('nothing is left of pipeline "default"\n');
  });
});
