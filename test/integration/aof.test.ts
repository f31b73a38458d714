import { appendFile, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { encodeCommand } from '../../src/binlog/resp.ts';
import { EVERY_CASE, everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { writeAllTypes } from '../support/data-of-all-types.ts';
import { FileRun } from '../support/file-run.ts';
import { RedisServer } from '../support/redis-server.ts';

const WITH_AOF = ['--appendonly', 'yes', '--appendfsync', 'always', '--auto-aof-rewrite-percentage', '0'];

const aofOf = (server: RedisServer) => `aof://${join(server.dir, 'appendonlydir')}`;

/** With its deadlines put back. */
async function expectSameAs(bench: FileRun, server: RedisServer, source = aofOf(server)): Promise<void> {
  const { code, stderr } = await bench.finish(source);
  expect(code, stderr).toBe(0);
  await bench.expectSameAs(server);
}

describe('lanegate run --source aof:///dir', () => {
  const BASES: readonly [string, readonly string[]][] = [
    ['an RDB as the base', ['--aof-use-rdb-preamble', 'yes']],
    [
      'a base of commands, and timestamps',
      ['--aof-use-rdb-preamble', 'no', '--aof-timestamp-enabled', 'yes'],
    ],
  ];

  test.each(EVERY_CASE ? BASES : BASES.slice(1))(
    '%s and increments: the target is equal to the server, and the run ends by itself',
    async (_, args) => {
      await using server = await RedisServer.start({ args: [...WITH_AOF, ...args] });
      await using bench = await FileRun.create();
      await writeAllTypes(server.client(), 0);
      await rewrite(server);
      await writeAllTypes(server.client(), 1);
      const first = await bench.run(aofOf(server));
      expect(first).toMatchObject({ code: 0, stdout: expect.stringMatching(/^caught up: \d+ commands/) });
      await expectSameAs(bench, server);
      // The same log has grown: only what is new is applied.
      await writeAllTypes(server.client(), 2);
      const second = await bench.run(aofOf(server));
      expect(second.code).toBe(0);
      await expectSameAs(bench, server);
      // It was rewritten: what was read is gone from it, and can be finished all the same.
      await server.client().set('late', 1, 'PX', 3_600_000);
      expect((await bench.run(aofOf(server))).code).toBe(0);
      await rewrite(server);
      const third = await bench.run(aofOf(server));
      expect(third.code).toBe(1);
      expect(third.stderr).toMatch(/reads aof:[0-9a-f]+, and --source is aof:/);
      await expectSameAs(bench, server);
    },
  );

  test('of a server that was killed, with a torn tail: applied up to the last whole command', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await writeAllTypes(server.client(), 0);
    await server.kill();
    const dir = join(server.dir, 'appendonlydir');
    const increment = (await readdir(dir)).find((name) => name.endsWith('.incr.aof')) as string;
    const whole = await readFile(join(dir, increment));
    await appendFile(join(dir, increment), encodeCommand(['MULTI']));
    await appendFile(join(dir, increment), encodeCommand(['SET', 'torn', 'x'.repeat(100)]).subarray(0, 60));
    const { code, stderr, stdout } = await bench.run(aofOf(server));
    expect({ code, stderr: stderr + stdout }).toMatchObject({
      code: 0,
      stderr: expect.stringMatching(
        /ends with a MULTI without its EXEC: the last 75 bytes, from byte \d+, are left out/,
      ),
    });
    await writeFile(join(dir, increment), whole);
    await server.restart();
    await expectSameAs(bench, server);
  });

  everyCase('runs killed at any moment go on where they were, and apply everything once', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await writeAllTypes(server.client(), 0);
    await rewrite(server);
    const batch = server.client().pipeline();
    for (let i = 0; i < 20_000; i++) batch.incr(`n:${i % 500}`).append(`text:${i % 300}`, 'x');
    await batch.exec();
    const small = ['--round-bytes', '64k', '--budget-bytes', '1m', '--chunk-bytes', '16k'];
    for (const applied of [1, 2_000, 12_000]) {
      await using process = bench.spawn(aofOf(server), ...small);
      await untilApplied(bench.target, applied);
      await process.kill('SIGKILL');
    }
    const { code, stderr } = await bench.run(aofOf(server), ...small);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    await expectSameAs(bench, server);
  });

  test('a key that was renewed before its time is not lost, though that time has passed by now', async () => {
    await using server = await RedisServer.start({ args: [...WITH_AOF, '--enable-debug-command', 'local'] });
    await using bench = await FileRun.create();
    const redis = server.client();
    // As of a server that was killed before it came by them.
    await redis.call('DEBUG', 'SET-ACTIVE-EXPIRE', 0);
    await redis.set('counter', 5, 'PX', 300);
    await redis.incr('counter');
    await redis.pexpire('counter', 3_600_000);
    await redis.set('old name', 1, 'PX', 300);
    await redis.rename('old name', 'new name');
    await redis.persist('new name');
    await redis.set('gone', 1, 'PX', 1);
    await redis.set('soon', 1, 'PX', 2_000);
    await delay(600);
    const ended = await bench.run(aofOf(server));
    expect(ended).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('held back until lanegate finish'),
    });
    const target = bench.target.client();
    expect(await target.mget('counter', 'new name', 'gone')).toEqual(['6', '1', '1']);
    expect(await target.ttl('counter')).toBeGreaterThan(900 * 365 * 86_400);
    // Its time comes while it is held back.
    await delay(1_500);
    expect(await target.get('soon')).toBe('1');
    // Appended behind the end of the run: it goes on with what is still held back.
    await redis.incr('counter');
    expect((await bench.run(aofOf(server))).code).toBe(0);
    const { code, stdout } = await bench.finish(aofOf(server), '--json', '--remove-keys', '--yes');
    const report = JSON.parse(stdout.trim().split('\n').at(-1) as string);
    expect({ code, report }).toMatchObject({
      code: 0,
      report: { deadlines: { scanned: 4, restored: 1, expired: 2 }, done: ['deadlines', 'keys removed'] },
    });
    expect(await target.keys('*')).toEqual(expect.arrayContaining(['counter', 'new name']));
    expect(await target.dbsize()).toBe(2);
    expect(await target.get('counter')).toBe('7');
    expect(await target.call('PEXPIRETIME', 'counter')).toBe(await redis.call('PEXPIRETIME', 'counter'));
  });

  test('finish of an AOF refuses what it cannot do, and what is not all applied', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await server.client().set('a', 1, 'EX', 1_000);
    expect((await bench.run(aofOf(server))).code).toBe(0);
    const held = await bench.target.client().call('PEXPIRETIME', 'a');
    const verified = await bench.finish(aofOf(server), '--verify');
    expect(verified).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no server that could be asked'),
    });
    await server.client().set('b', 1);
    const early = await bench.finish(aofOf(server));
    expect(early).toMatchObject({ code: 1, stdout: expect.stringContaining('deadlines: not put back') });
    expect(early.stderr).toContain('not caught up');
    expect(await bench.target.client().call('PEXPIRETIME', 'a')).toBe(held);
  });

  test('a finish that is killed in the middle is repeated, and takes no deadline back twice', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    const add = server.client().pipeline();
    for (let i = 0; i < 2_000; i++) add.set(`k:${i}`, i, 'EX', 1_000 + i);
    await add.exec();
    expect((await bench.run(aofOf(server))).code).toBe(0);
    await using doomed = bench.spawnFinish(aofOf(server), 'finish-after-batch=kill@2');
    expect((await doomed.exit()).signal).toBe('SIGKILL');
    await expectSameAs(bench, server);
  });

  everyCase('with --expiry-grace-ms 0 the deadlines are as given', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await server.client().set('a', 1, 'EX', 1_000);
    const { stdout } = await bench.run(aofOf(server), '--expiry-grace-ms', '0');
    expect(stdout).not.toContain('held back');
    const [ours, theirs] = [server, bench.target].map((one) => one.client().call('PEXPIRETIME', 'a'));
    expect(await theirs).toBe(await ours);
  });

  test('damage in the middle stops it with file and offset', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await server.client().set('before', 1);
    const { increment, length } = await killedWithMore(server, Buffer.alloc(40), ['SET', 'behind', 1]);
    const { code, stderr } = await bench.run(aofOf(server));
    expect(code).toBe(1);
    expect(stderr).toContain(`${increment}: expected '*' at byte ${length}`);
    expect(stderr).toContain('redis-check-aof');
    expect(await bench.target.client().get('behind')).toBeNull();
  });

  test('what stopped a run that has ended is listed and left out, and the next run goes on', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await using bench = await FileRun.create();
    await server.client().set('before', 1);
    await killedWithMore(server, encodeCommand(['OF.A.MODULE', 'k']), ['SET', 'behind', 1]);
    const stopped = await bench.run(aofOf(server));
    expect(stopped).toMatchObject({ code: 1, stderr: expect.stringContaining('OF.A.MODULE') });
    const seq = /lane skip ingest --seq (\d+)/.exec(stopped.stderr)?.[1] ?? '';
    const place = ['--data-dir', join(bench.dir, 'data')];
    const skipped = await lanegate([
      'lane',
      'skip',
      'ingest',
      '--seq',
      seq,
      '--reason',
      'not needed',
      ...place,
    ]);
    expect(skipped).toMatchObject({ code: 0, stdout: expect.stringContaining('is left out') });
    const going = await bench.run(aofOf(server));
    expect(going).toMatchObject({ code: 0, stdout: expect.stringContaining('caught up') });
    expect(await bench.target.client().get('behind')).toBe('1');
    const errors = await lanegate(['errors', ...place]);
    expect(errors.stdout).toMatch(/dead letters: 1\n.*OF\.A\.MODULE: not needed/);
  });

  test('--until-time applies what the server had done by then', async () => {
    await using server = await RedisServer.start({ args: [...WITH_AOF, '--aof-timestamp-enabled', 'yes'] });
    await using bench = await FileRun.create();
    const redis = server.client();
    await redis.set('early', 1);
    const [seconds = ''] = (await redis.time()).map(String);
    // Timestamps are of whole seconds: what follows must be in another one.
    for (;;) {
      const [now] = (await redis.time()).map(String);
      if (Number(now) > Number(seconds) + 1) break;
      await delay(20);
    }
    await redis.set('late', 1);
    const until = new Date((Number(seconds) + 1) * 1000).toISOString();
    const { code, stdout } = await bench.run(aofOf(server), '--until-time', until);
    expect([code, stdout]).toEqual([0, expect.stringContaining(` --until-time ${until}\n`)]);
    expect(await bench.target.client().mget('early', 'late')).toEqual(['1', null]);
    expect((await bench.finish(aofOf(server), '--until-time', until)).code).toBe(0);
    // Without it, the rest.
    expect((await bench.run(aofOf(server))).code).toBe(0);
    expect(await bench.target.client().mget('early', 'late')).toEqual(['1', '1']);
  });

  everyCase('an old single file, with an RDB in front and without', async () => {
    await using server = await RedisServer.start({ args: WITH_AOF });
    await writeAllTypes(server.client(), 0);
    await rewrite(server);
    await writeAllTypes(server.client(), 1);
    await server.kill();
    const dir = join(server.dir, 'appendonlydir');
    const names = await readdir(dir);
    const base = await readFile(join(dir, names.find((name) => name.endsWith('.base.rdb')) as string));
    const increment = await readFile(join(dir, names.find((name) => name.endsWith('.incr.aof')) as string));
    await server.restart();
    await using bench = await FileRun.create();
    await writeFile(join(bench.dir, 'old.aof'), Buffer.concat([base, increment]));
    const source = `aof://${join(bench.dir, 'old.aof')}`;
    const { code, stderr } = await bench.run(source);
    expect({ code, stderr }).toMatchObject({ code: 0 });
    await expectSameAs(bench, server, source);
  });

  test('a path that is not there ends the run with a sentence', async () => {
    await using bench = await FileRun.create();
    const { code, stderr } = await bench.run('aof:///nowhere/appendonlydir');
    expect(code).toBe(1);
    expect(stderr).toMatch(/\/nowhere\/appendonlydir does not exist/);
    const host = await bench.run('aof://nowhere/appendonlydir');
    expect(host.code).toBe(2);
    expect(host.stderr).toMatch(/three slashes/);
  });
});

/** Kills it; its increment had `length` bytes, and ends in `bytes` and a command then. */
async function killedWithMore(
  server: RedisServer,
  bytes: Buffer,
  command: readonly (string | number)[],
): Promise<{ increment: string; length: number }> {
  await server.kill();
  const dir = join(server.dir, 'appendonlydir');
  const increment = (await readdir(dir)).find((name) => name.endsWith('.incr.aof')) as string;
  const { length } = await readFile(join(dir, increment));
  await appendFile(join(dir, increment), Buffer.concat([bytes, encodeCommand(command)]));
  return { increment, length };
}

async function rewrite(server: RedisServer): Promise<void> {
  const redis = server.client();
  await redis.bgrewriteaof();
  for (;;) {
    const info = await redis.info('persistence');
    if (/aof_rewrite_in_progress:0/.test(info) && /aof_rewrite_scheduled:0/.test(info)) return;
    await delay(20);
  }
}

/** Enough increments have reached the target. */
async function untilApplied(target: RedisServer, count: number): Promise<void> {
  const redis = target.client();
  for (;;) {
    const values = await redis.mget(Array.from({ length: 500 }, (_, i) => `n:${i}`));
    if (values.reduce((sum, value) => sum + Number(value), 0) >= count) return;
  }
}
