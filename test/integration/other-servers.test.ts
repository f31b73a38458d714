import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { lanegate } from '../support/cli.ts';
import { EveryEncoding } from '../support/data-of-all-encodings.ts';
import { until } from '../support/faults.ts';
import { FileRun } from '../support/file-run.ts';
import { LivePipeline } from '../support/live-pipeline.ts';
import { otherServers, RedisServer } from '../support/redis-server.ts';

const { found, missing } = otherServers();
const ways = found.flatMap(({ kind, binary }) => [
  { how: `${kind} to itself`, sourceBinary: binary, targetBinary: binary },
  { how: `${kind} to the usual server`, sourceBinary: binary, targetBinary: undefined },
  { how: `the usual server to ${kind}`, sourceBinary: undefined, targetBinary: binary },
]);

for (const why of missing) test.skip(`no server of the kind ${why}`, () => {});

for (const { how, ...binaries } of ways) {
  const name = basename(binaries.sourceBinary ?? binaries.targetBinary ?? '');
  test(`full sync, live traffic and finish: ${how} (${name})`, async () => {
    await using live = await LivePipeline.start(binaries);
    const writer = await EveryEncoding.at(live.source.client(), live.target.client());
    await writer.write();
    live.worker();
    await live.caughtUp();
    await writer.traffic();
    await pollInVain(live.source.client());
    await live.caughtUp();
    expect(await live.stops(), live.logs()).toEqual({});
    const held = await lanegate(['verify', ...live.urls, '--ttl-grace', '3600', '--json']);
    expect([held.code, held.stdout], held.stderr + live.logs()).toEqual([0, expect.any(String)]);
    await writer.expireUntold();
    const end = await lanegate(['finish', ...live.urls, '--freeze', '--verify', '--json']);
    expect([end.code, end.stdout], end.stderr).toEqual([0, expect.any(String)]);
    const functions = async (server: typeof live.source) => await server.client().call('FUNCTION', 'LIST');
    expect(await functions(live.target)).toEqual(await functions(live.source));
  });
}

for (const { kind, binary } of found) {
  test(`an AOF of ${kind}, and finish (${basename(binary)})`, async () => {
    await using server = await RedisServer.start({ binary, args: ['--appendonly', 'yes'] });
    await using bench = await FileRun.create(binary);
    const writer = await EveryEncoding.at(server.client(), bench.target.client());
    await writer.write();
    await server.client().call('BGREWRITEAOF');
    await until('the AOF is rewritten', async () =>
      /aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0/.test(await server.client().info('persistence')),
    );
    await writer.traffic();
    const source = `aof://${join(server.dir, 'appendonlydir')}`;
    const ended = await bench.run(source);
    expect([ended.code, ended.stdout], ended.stderr).toEqual([0, expect.stringContaining('held back')]);
    const finished = await bench.finish(source, '--json');
    expect(finished).toMatchObject({ code: 0 });
    const verified = await lanegate([
      'verify',
      '--source',
      server.url,
      '--target',
      bench.target.url,
      '--json',
    ]);
    expect([verified.code, verified.stdout], verified.stderr).toEqual([0, expect.any(String)]);
  });
}

/** Makes a consumer of which the source tells no replica, from Redis 7.2 on. */
async function pollInVain(redis: Redis): Promise<void> {
  await redis.xgroup('CREATE', 'polled', 'readers', '0', 'MKSTREAM');
  expect(await redis.xreadgroup('GROUP', 'readers', 'idle', 'STREAMS', 'polled', '>')).toBeNull();
}

const RENEWALS = 15;
const TTL_MS = 2_000;

for (const { binary } of found.filter(({ kind }) => kind === 'valkey')) {
  test(`in import mode a key that the source renews outlives a stopped worker (${binary})`, async ({
    skip,
  }) => {
    await using live = await LivePipeline.start({ targetBinary: binary });
    const [source, target] = [live.source.client(), live.target.client()];
    const known = (await target.call('CONFIG', 'GET', 'import-mode')) as string[];
    skip(known.length === 0, 'this server knows no import mode (Valkey 8.1)');
    await target.call('CONFIG', 'SET', 'import-mode', 'yes');
    await source.set('session', '0', 'PX', TTL_MS);
    const worker = live.worker();
    await live.caughtUp();
    worker.signal('SIGSTOP');
    for (let i = 0; i < RENEWALS; i++) {
      await source.multi().pexpire('session', TTL_MS).incr('session').exec();
      await delay(TTL_MS / 5);
    }
    // For everybody else its time has come.
    expect(await target.exists('session')).toBe(0);
    worker.signal('SIGCONT');
    await source.multi().incr('session').rename('session', 'renamed').pexpire('renamed', 600_000).exec();
    await source.set('brief', 'v', 'PX', 50);
    await live.caughtUp();
    expect(await target.get('renamed')).toBe(String(RENEWALS + 1));
    expect(await target.call('PEXPIRETIME', 'renamed')).toBe(await source.call('PEXPIRETIME', 'renamed'));
    const end = await lanegate(['finish', ...live.urls, '--freeze', '--verify']);
    expect([end.code, end.stdout], end.stderr).toEqual([
      0,
      expect.stringContaining('CONFIG SET import-mode no'),
    ]);
  });
}
