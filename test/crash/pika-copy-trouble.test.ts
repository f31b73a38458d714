import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { expect } from 'vitest';
import type { PipelineStatus } from '../../src/status.ts';
import { everyCase } from '../support/cases.ts';
import { lanegate } from '../support/cli.ts';
import { compareServers } from '../support/compare.ts';
import { until } from '../support/faults.ts';
import { pikaLoad as load, PikaScene as Scene } from '../support/pika-scene.ts';

// What a copy of a Pika's data meets outside of its process: its master, and the room that it may take.

const SPOOL_BYTES_MAX = 1024 * 1024;

async function bytesUnder(path: string): Promise<number> {
  const names = await readdir(path, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    names.map(async (name) => {
      const found = await stat(join(path, name)).catch(() => undefined);
      return found?.isFile() ? found.size : 0;
    }),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

everyCase(
  'the master restarts in the middle of a copy, which goes on; then its log is purged, and another one begins',
  async () => {
    await using scene = await Scene.start({ fileBytes: 16 * 1024 });
    const { pipeline, master } = scene;
    await scene.populate(2_000);
    const traffic = load(scene, { flushes: false, renames: false, clients: 3 });
    const worker = pipeline.worker();
    await scene.copies();
    const copied = await scene.position();
    await master.restart();
    await until('it goes on', async () => (await scene.position()) !== copied);
    expect(await scene.isCopied()).toBe(false);
    expect(await scene.generation()).toBe(2);
    // As soon as nobody is attached, a real one is free to.
    const { filenum } = master.log().end;
    await until('its log rolls', () => master.log().end.filenum > filenum);
    master.cutConnections();
    master.purge('db0', master.log().end.filenum);
    await until('another copy is made', async () => (await scene.generation()) === 3);
    await until('it is copied', () => scene.isCopied(), 60_000);
    await traffic.stop();
    await scene.caughtUp();
    expect(await scene.generation()).toBe(3);
    expect(worker.output).toContain('another one begins');
    expect(await compareServers(scene.data.url, pipeline.target.url)).toEqual([]);
    expect(master.complaints).toEqual([]);
  },
  120_000,
);

everyCase(
  'a copy rests while its spool is full, says so, and goes on when there is room',
  async () => {
    await using scene = await Scene.start({}, { args: ['--spool-max', String(SPOOL_BYTES_MAX)] });
    const { pipeline, data } = scene;
    const batch = data.client().pipeline();
    for (let i = 0; i < 3_000; i++) batch.set(`large:${i}`, `${i} ${'x'.repeat(4_000)}`);
    await batch.exec();
    await scene.populate(1_000);
    const traffic = load(scene, { flushes: false, renames: false, clients: 2 });
    pipeline.worker();
    await scene.copies();
    const cli = async (...args: string[]) => {
      const { code, stdout, stderr } = await lanegate([...args, ...pipeline.urls.filter(isNotOfSource)]);
      expect(code, stderr).toBe(0);
      return stdout;
    };
    await cli('lane', 'pause', '0');
    const phase = async () =>
      (JSON.parse(await cli('status', '--json')) as PipelineStatus).source.snapshot?.phase;
    await until('it is full', async () => (await phase()) === 'full').catch((cause) => {
      throw new Error(pipeline.logs(), { cause });
    });
    const held = await bytesUnder(join(pipeline.dir, 'machine', 'spool'));
    expect(held).toBeLessThanOrEqual(1.5 * SPOOL_BYTES_MAX);
    const at = traffic.count();
    await until('the load goes on', () => traffic.count() > at + 100);
    expect(await phase()).toBe('full');
    expect(await cli('status')).toContain('--spool-max');
    await pipeline.workers.at(-1)?.kill();
    pipeline.worker();
    await cli('lane', 'resume', '0');
    await until('it is copied', () => scene.isCopied(), 60_000).catch((cause) => {
      throw new Error(pipeline.logs(), { cause });
    });
    await traffic.stop();
    await scene.caughtUp();
    expect(await scene.generation()).toBe(2);
    expect(await compareServers(data.url, pipeline.target.url)).toEqual([]);
  },
  120_000,
);

everyCase(
  'one FLUSHALL for all databases, in the log of one: what the others hold is copied anew',
  async () => {
    const databases = ['db0', 'db1'];
    await using scene = await Scene.start({ databases, beforeFlushLog: () => delay(20) });
    const { pipeline, data } = scene;
    for (const db of [0, 1]) await scene.populate(200, db);
    pipeline.worker();
    await until('it is copied', () => scene.isCopied());
    const traffic = [0, 1].map((db) => load(scene, { db, flushes: false, renames: false, clients: 2 }));
    const goesOn = async () => {
      const at = traffic.map(({ count }) => count());
      await until('the load goes on', () => traffic.every(({ count }, db) => count() > (at[db] ?? 0) + 50));
    };
    for (let generation = 3; generation <= 4; generation++) {
      await goesOn();
      await scene.client(generation % 2).call('FLUSHALL');
      await until('another copy is made', async () => (await scene.generation()) === generation);
      await until('it is copied', () => scene.isCopied(), 60_000).catch((cause) => {
        throw new Error(pipeline.logs(), { cause });
      });
    }
    await goesOn();
    for (const one of traffic) await one.stop();
    await scene.caughtUp();
    expect(pipeline.logs()).toContain('FLUSHALL in the log of db1');
    expect(await compareServers(data.url, pipeline.target.url)).toEqual([]);
  },
  120_000,
);

/** Neither the option nor what follows it. */
function isNotOfSource(arg: string, i: number, all: readonly string[]): boolean {
  return arg !== '--source' && all[i - 1] !== '--source';
}
