import { describe, expect, test } from 'vitest';
import type { Entry } from '../../src/sources/source.ts';
import { until } from '../support/faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { commandsOf, Reading, stopOf } from '../support/pika-reading.ts';

function sets(from: number, to: number): string[][] {
  return Array.from({ length: to - from }, (_, i) => ['SET', `k${from + i}`, 'v']);
}

function texts(commands: readonly (readonly unknown[])[], db = 0): string[] {
  return commands.map((command) => `db${db} ${command.join(' ')}`);
}

describe('acknowledgements to a Pika master', () => {
  test('follow the mark, each item once, and the master sends no more than its window ahead', async () => {
    await using master = await PikaMaster.start({ windowItems: 250 });
    master.write(sets(0, 1_000));
    await using reading = new Reading(master.url);
    const { source } = reading;
    const abort = new AbortController();
    const entries: Entry[] = [];
    const start = await reading.from('beginning');
    const chunks = source.read(start, abort.signal)[Symbol.asyncIterator]();
    const readTo = async (count: number) => {
      while (commandsOf(entries).length < count) entries.push(...((await chunks.next()).value as Entry[]));
    };
    await readTo(250);
    expect(commandsOf(entries)).toHaveLength(250);
    expect(master.acknowledged).toEqual([]);
    expect(source.wantsMark()).toBe(true);
    const first = entries[0] as Entry;
    await source.acknowledge(source.positionInside(first, 10));
    await source.acknowledge(source.positionInside(first, 10));
    await readTo(260);
    await source.acknowledge(start);
    source.marked((entries.at(-1) as Entry).position);
    await readTo(510);
    expect(commandsOf(entries)).toEqual(texts(sets(0, 510)));
    const ends = master.log().items.map(({ end }) => `0:${end.offset}`);
    expect(master.acknowledged).toEqual([`db0 ${ends[0]}-${ends[9]}`, `db0 ${ends[10]}-${ends[259]}`]);
    expect(master.unacknowledgedMax).toBe(250);
    expect(master.complaints).toEqual([]);
    abort.abort();
    await chunks.next();
  });

  test('do not leave the file up to which the log may be forgotten', async () => {
    await using master = await PikaMaster.start({ fileBytes: 2_000 });
    master.write(sets(0, 200));
    await using reading = new Reading(master.url);
    const { source } = reading;
    const abort = new AbortController();
    const chunks = source.read(await reading.from('beginning'), abort.signal)[Symbol.asyncIterator]();
    const entries: Entry[] = [];
    while (commandsOf(entries).length < 200) entries.push(...((await chunks.next()).value as Entry[]));
    const fileOf = () => Number(/-(\d+):/.exec(master.acknowledged.at(-1) ?? '')?.[1]);
    source.marked((entries.at(-1) as Entry).position);
    await until('the first file is acknowledged', async () => fileOf() === 0);
    const inThird = master.log().items.findIndex(({ end }) => end.filenum === 2) + 1;
    const at = entries.length === 1 ? source.positionInside(entries[0] as Entry, inThird) : undefined;
    await source.acknowledge(at ?? (entries[0] as Entry).position);
    source.marked((entries.at(-1) as Entry).position);
    await until('so is the third', async () => fileOf() === 2);
    expect(master.complaints).toEqual([]);
    abort.abort();
    await chunks.next();
  });

  test('while they are withheld, pings keep the session', async () => {
    await using master = await PikaMaster.start({ windowItems: 10, dropMs: 600, pingMs: 50 });
    master.write(sets(0, 20));
    await using reading = new Reading(master.url);
    const abort = new AbortController();
    const chunks = reading.source.read(await reading.from('beginning'), abort.signal)[Symbol.asyncIterator]();
    const [first] = (await chunks.next()).value as Entry[];
    // At 20 ms each: longer than the master waits.
    await until('many pings came', async () => master.pings >= 60);
    expect(master.slaves).toHaveLength(1);
    await reading.source.acknowledge((first as Entry).position);
    const [second] = (await chunks.next()).value as Entry[];
    expect(commandsOf([second as Entry])[0]).toBe('db0 SET k10 v');
    abort.abort();
    await chunks.next();
  });

  test('a reader that does not keep up holds a bounded amount, and loses nothing', async () => {
    await using master = await PikaMaster.start();
    const value = 'x'.repeat(10_000);
    master.write(Array.from({ length: 3_000 }, (_, i) => ['SET', `k${i}`, value]));
    await using reading = new Reading(master.url, { bufferBytesMax: 100_000, chunkBytes: 50_000 });
    const entries = await reading.take(await reading.from('beginning'), 3_000);
    expect(entries.map(({ resp }) => resp.length).reduce((a, b) => a + b)).toBeGreaterThan(30_000_000);
    expect(commandsOf(entries).map((text) => text.slice(0, -10_001))).toEqual(
      Array.from({ length: 3_000 }, (_, i) => `db0 SET k${i}`),
    );
  });
});

describe('a Pika master that fails', () => {
  test('one that forgets us in silence is noticed, and read on from', async () => {
    await using master = await PikaMaster.start({ pingMs: 30 });
    master.write(sets(0, 50));
    await using reading = new Reading(master.url, { timings: { silenceMs: 400 } });
    const position = await reading.from('beginning');
    const entries: Entry[] = [];
    const reads = async () => {
      for await (const chunk of reading.source.read(position, new AbortController().signal)) {
        entries.push(...chunk);
        await reading.source.acknowledge((entries.at(-1) as Entry).position);
        if (commandsOf(entries).length === 50) {
          master.dropSilently();
          master.write(sets(50, 60));
        }
      }
    };
    await expect(reads()).rejects.toThrow(/nothing was heard of db0/);
    const rest = await reading.take((entries.at(-1) as Entry).position, 10);
    expect(commandsOf([...entries, ...rest])).toEqual(texts(sets(0, 60)));
  });

  test('one that restarts with the same log is read on from', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 50));
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 50);
    const waiting = reading.take((entries.at(-1) as Entry).position, 1);
    const cut = expect(waiting).rejects.toThrow(/connection/);
    await until('it is attached again', async () => master.slaves.length === 1);
    await master.restart();
    await cut;
    master.write(sets(50, 60));
    const rest = await reading.take((entries.at(-1) as Entry).position, 10);
    expect(commandsOf(rest)).toEqual(texts(sets(50, 60)));
  });

  test('after a reconnect the master keeps what is above the mark, and nothing is read twice', async () => {
    await using master = await PikaMaster.start({ windowItems: 100 });
    master.write(sets(0, 100));
    await using reading = new Reading(master.url);
    const { source } = reading;
    const entries = await reading.take(await reading.from('beginning'), 100, { marks: false });
    await source.acknowledge(source.positionInside(entries[0] as Entry, 30));
    master.write(sets(100, 150));
    const last = (entries.at(-1) as Entry).position;
    const abort = new AbortController();
    const chunks = source.read(last, abort.signal)[Symbol.asyncIterator]();
    const next = chunks.next();
    const ends = master.log().items.map(({ end }) => `0:${end.offset}`);
    // The mark comes to a link that has them; its holder would tell it again.
    await until('the old items have come again', () => source.wantsMark());
    expect(master.unacknowledgedMax).toBe(100);
    source.marked(last);
    const found = (await next).value as Entry[];
    while (commandsOf(found).length < 50) found.push(...((await chunks.next()).value as Entry[]));
    expect(commandsOf(found)).toEqual(texts(sets(100, 150)));
    expect(master.acknowledged[0]).toMatch(new RegExp(`^db0 ${ends[30]}-`));
    expect(master.complaints).toEqual([]);
    abort.abort();
    await chunks.next();
  });

  test('a slave that takes over with the same log is read on from', async () => {
    await using first = await PikaMaster.start();
    first.write(sets(0, 50));
    await using reading = new Reading(first.url);
    const entries = await reading.take(await reading.from('beginning'), 50);
    await using heir = await first.failover();
    heir.write(sets(50, 60));
    const rest = await reading.take((entries.at(-1) as Entry).position, 10);
    expect(commandsOf(rest)).toEqual(texts(sets(50, 60)));
  });

  test('a slave that takes over and was behind stops the reading', async () => {
    await using first = await PikaMaster.start();
    first.write(sets(0, 50));
    await using reading = new Reading(first.url);
    const entries = await reading.take(await reading.from('beginning'), 50);
    await using heir = await first.failover(3);
    const stop = await stopOf(reading.take((entries.at(-1) as Entry).position, 1));
    expect(stop.code).toBe('PIKA_LARGER');
    expect(stop.message).toContain(`db0:0:${heir.log().end.offset}`);
    expect(stop.hint).toContain('lanegate reset');
  });

  test('a purged file stops the reading', async () => {
    await using master = await PikaMaster.start({ fileBytes: 1_000 });
    master.write(sets(0, 100));
    await using reading = new Reading(master.url);
    const position = await reading.from('beginning');
    master.purge('db0', 3);
    const stop = await stopOf(reading.take(position, 1));
    expect(stop.code).toBe('PIKA_PURGED');
    expect((await stopOf(reading.source.verify(position))).code).toBe('PIKA_PURGED');
    await reading.source.verify(await reading.from('beginning'));
    await until('the looks have left nothing', () => master.slaves.length === 0);
    expect(stop.hint).toContain('expire-logs-nums');
  });

  test('a place where no item ends stops the reading', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 3));
    await using reading = new Reading(master.url);
    expect((await stopOf(reading.take('db0:0:71', 1))).code).toBe('PIKA_REFUSED');
  });

  test('another log on the same address stops the reading', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 3));
    await using reading = new Reading(master.url);
    const other = (await reading.from('now')).replace(master.replicationId, 'f'.repeat(50));
    expect((await stopOf(reading.take(other, 1))).code).toBe('PIKA_OTHER_LOG');
  });

  test('databases that are not there, or were added, stop the reading', async () => {
    await using master = await PikaMaster.start({ databases: ['db0', 'db1'] });
    await using reading = new Reading(`${master.url}?db=db7`);
    expect((await stopOf(reading.from('now'))).code).toBe('PIKA_DATABASE');
    await using all = new Reading(master.url);
    const stop = await stopOf(all.take(`${master.replicationId}/db0:0:0`, 1));
    expect(stop.code).toBe('PIKA_DATABASE');
    expect(master.complaints).toEqual([]);
  });

  test('one that is away is an error to retry', async () => {
    const master = await PikaMaster.start();
    const { url } = master;
    await master.stop();
    await using reading = new Reading(url);
    await expect(reading.from('now')).rejects.toThrow(/replication port \d+ of pika:/);
    await expect(reading.source.head()).rejects.toThrow(/connection to pika:/);
  });
});
