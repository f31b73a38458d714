import { describe, expect, test } from 'vitest';
import type { Entry } from '../../src/sources/source.ts';
import { until } from '../support/faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { commandsOf, Reading, stopOf } from '../support/pika-reading.ts';
import { PikaReplay } from '../support/pika-replay.ts';

function sets(from: number, to: number): string[][] {
  return Array.from({ length: to - from }, (_, i) => ['SET', `k${from + i}`, 'v']);
}

function texts(commands: readonly (readonly unknown[])[], db = 0): string[] {
  return commands.map((command) => `db${db} ${command.join(' ')}`);
}

describe('a Pika master is a source', () => {
  test('it yields every command in order, byte for byte, more than a message of 100 items holds', async () => {
    await using master = await PikaMaster.start();
    const bytes = Buffer.from([0, 13, 10, 255, 36]);
    master.write([['set', 'bin', bytes], ...sets(0, 350), ['flushdb']]);
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 352);
    const all = [`db0 set bin ${bytes.toString('latin1')}`, ...texts(sets(0, 350)), 'db0 FLUSHDB'];
    expect(commandsOf(entries)).toEqual(all);
    expect(master.complaints).toEqual([]);
  });

  test('it resumes behind and inside every entry, also through another reader', async () => {
    await using master = await PikaMaster.start();
    const commands = [...sets(0, 5), ['sunion', 'a', 'b'], ...sets(5, 9)];
    master.write(commands);
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 9);
    const all = commandsOf(entries);
    let before = 0;
    for (const entry of entries) {
      const count = commandsOf([entry]).length + (commandsOf([entry]).length === 9 ? 1 : 0);
      for (let taken = 0; taken <= count; taken++) {
        const position = reading.source.positionInside(entry, taken);
        const rest = before + (taken <= 5 ? taken : taken - 1);
        if (rest === all.length) continue;
        await using other = new Reading(master.url);
        expect(commandsOf(await other.take(position, all.length - rest))).toEqual(all.slice(rest));
      }
      before += commandsOf([entry]).length;
    }
  });

  test('what is nothing to the target takes a command of its own, so that the head is reached', async () => {
    await using master = await PikaMaster.start();
    master.write([['SET', 'a', '1'], ['sunion', 'a', 'b']]);
    await using reading = new Reading(master.url);
    const { source } = reading;
    const entries = await reading.take(await reading.from('beginning'), 1);
    const head = (await source.head()).position;
    expect(source.covers(entries.at(-1)?.position ?? '', head)).toBe(true);
    expect(source.covers(source.positionInside(entries[0] as Entry, 1), head)).toBe(false);
    expect(entries[0]?.resp.toString()).toContain('PING');
  });

  test('what cannot be carried is an entry of its own, with the reason', async () => {
    await using master = await PikaMaster.start();
    master.write([['SET', 'a', '1'], ['delvx', 'a', '1'], ['SET', 'b', '1']]);
    master.writeContent(Buffer.from('*1\r\n$4\r\nSET'));
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 4);
    expect(entries.map(({ malformed }) => malformed)).toEqual([
      undefined,
      expect.stringContaining('DELVX'),
      undefined,
      expect.stringContaining('RESP'),
    ]);
  });

  test('now is behind everything that is there', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 10));
    await using reading = new Reading(master.url);
    const position = await reading.from('now');
    expect(position).toBe((await reading.source.head()).position.replace('/', `${master.replicationId}/`));
    master.write(sets(10, 12));
    expect(commandsOf(await reading.take(position, 2))).toEqual(texts(sets(10, 12)));
  });

  test('the beginning is the oldest file that is still there, and that is said', async () => {
    await using master = await PikaMaster.start({ fileBytes: 2_000 });
    master.write(sets(0, 400));
    const files = master.log().end.filenum;
    expect(files).toBeGreaterThan(8);
    master.purge('db0', 5);
    const notices: string[] = [];
    await using reading = new Reading(master.url, { onNotice: (text) => notices.push(text) });
    const position = await reading.from('beginning');
    expect(position).toMatch(/db0:5:0$/);
    expect(notices).toEqual([expect.stringContaining('begins with file 5')]);
    const kept = master.log().items.filter(({ end }) => end.filenum >= 5).length;
    expect(commandsOf(await reading.take(position, kept))).toEqual(texts(sets(400 - kept, 400)));
  });

  test('it waits for what is written later', async () => {
    await using master = await PikaMaster.start();
    await using reading = new Reading(master.url);
    const taken = reading.take(await reading.from('beginning'), 3);
    for (let i = 0; i < 3; i++) master.write(sets(i, i + 1));
    expect(commandsOf(await taken)).toEqual(texts(sets(0, 3)));
  });

  test('an abort ends a reader that waits, and one that was never started', async () => {
    await using master = await PikaMaster.start();
    await using reading = new Reading(master.url);
    const position = await reading.from('now');
    const abort = new AbortController();
    const iterator = reading.source.read(position, abort.signal)[Symbol.asyncIterator]();
    const next = iterator.next();
    await until('the reader is attached', async () => master.slaves.length === 1);
    abort.abort();
    expect((await next).done).toBe(true);
    expect((await reading.source.read(position, abort.signal)[Symbol.asyncIterator]().next()).done).toBe(true);
  });

  test('a consumer that walks away leaves a source that can be read again, and a master without slaves', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 3));
    await using reading = new Reading(master.url);
    const position = await reading.from('beginning');
    for await (const _ of reading.source.read(position, new AbortController().signal)) break;
    expect(master.slaves).toEqual([]);
    expect(master.removed).toHaveLength(1);
    expect(commandsOf(await reading.take(position, 3))).toEqual(texts(sets(0, 3)));
  });

  test('a position without the replication id is completed; one that names other databases is refused', async () => {
    await using master = await PikaMaster.start();
    const end = master.write(sets(0, 2));
    await using reading = new Reading(master.url);
    expect(await reading.from(`db0:0:${end.offset}`)).toBe(`${master.replicationId}/db0:0:${end.offset}`);
    await expect(reading.from('db0:0:1,db1:0:1')).rejects.toThrow(/--from/);
  });

  test('nothing is left to forget', async () => {
    await using master = await PikaMaster.start();
    await using reading = new Reading(master.url);
    expect(await reading.source.forget()).toEqual([]);
    expect(await reading.source.serverId()).toBe(master.replicationId.slice(0, 40));
  });
});

describe('what comes over the wire of a Pika master may be odd', () => {
  test.each([
    ['frames in single bytes', { fragmentBytes: 1 }],
    ['every message twice', { duplicates: true }],
    ['messages of another session in between', { wrongSession: true }],
    ['fields of a later version', { unknownFields: true }],
    ['all of it', { fragmentBytes: 7, duplicates: true, wrongSession: true, unknownFields: true }],
  ])('%s', async (_, faults) => {
    await using master = await PikaMaster.start({ windowItems: 150 });
    Object.assign(master.faults, faults);
    master.write(sets(0, 400));
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 400);
    expect(commandsOf(entries)).toEqual(texts(sets(0, 400)));
    expect(master.complaints).toEqual([]);
  });

  test('a frame of 64 MiB', async () => {
    await using master = await PikaMaster.start();
    const value = Buffer.alloc(64 * 1024 * 1024, 'x');
    master.write([['SET', 'before', '1'], ['SET', 'large', value], ['SET', 'after', '1']]);
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 3);
    const resp = Buffer.concat(entries.map((entry) => entry.resp));
    const large = resp.indexOf('large') + 'large\r\n$67108864\r\n'.length;
    expect(resp.subarray(large, large + value.length).equals(value)).toBe(true);
    expect(resp.subarray(large + value.length).toString()).toMatch(/^\r\n\*3\r\n\$3\r\nSET\r\n\$5\r\nafter/);
  });

  test('a password is sent, and a wrong one is said without naming it', async () => {
    await using master = await PikaMaster.start({ password: 'secret' });
    master.write(sets(0, 1));
    const url = master.url.replace('//', '//:secret@');
    await using reading = new Reading(url);
    const entries = await reading.take(await reading.from('beginning'), 1);
    expect(commandsOf(entries)).toEqual(texts(sets(0, 1)));
    expect(reading.source.display).not.toContain('secret');
    await using wrong = new Reading(master.url.replace('//', '//:hidden@'));
    const error = (await wrong.from('now').catch((thrown: unknown) => thrown)) as Error;
    expect(error.message).toMatch(/Invalid masterauth/);
    expect(error.message).not.toContain('hidden');
  });

  test('an identity that is taken is refused and tried again by the caller', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 2));
    await using reading = new Reading(master.url, { node: { ip: '10.1.2.3', port: 7 } });
    const position = await reading.from('beginning');
    master.faults.refusals = 2;
    for (let i = 0; i < 2; i++)
      await expect(reading.take(position, 2)).rejects.toThrow(/10\.1\.2\.3:7.*Slave AlreadyExist/);
    expect(commandsOf(await reading.take(position, 2))).toEqual(texts(sets(0, 2)));
  });

  test('every reader is a slave of its own unless told', async () => {
    await using master = await PikaMaster.start();
    await using reading = new Reading(master.url);
    await using other = new Reading(master.url);
    await Promise.all([reading.from('now'), other.from('now')]);
    expect(new Set(master.met).size).toBe(2);
  });
});

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
    await until('it is attached again', async () => master.slaves.length === 1);
    const ends = master.log().items.map(({ end }) => `0:${end.offset}`);
    await until('the old items are sent', async () => master.unacknowledgedMax === 100);
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

describe('sessions recorded from real Pika servers', () => {
  test.each([
    ['v4.0.0', 206, '0 147018'],
    ['v4.0.1', 205, '0 147005'],
  ])('%s', async (version, items, end) => {
    const path = new URL(`../fixtures/pika/session-${version}.jsonl`, import.meta.url);
    await using replay = await PikaReplay.start(path, 11_221, end);
    await using reading = new Reading(replay.url);
    const { source } = reading;
    const entries: Entry[] = [];
    const head = (await source.head()).position;
    const abort = new AbortController();
    for await (const chunk of source.read(await reading.from('beginning'), abort.signal)) {
      entries.push(...chunk);
      if (source.covers((entries.at(-1) as Entry).position, head)) abort.abort();
    }
    const count = entries.flatMap((entry) => {
      const found = commandsOf([entry]);
      const nothing = entry.resp.toString('latin1').split('\r\nPING\r\n').length - 1;
      return [...found, ...Array.from({ length: nothing }, () => 'nothing')];
    });
    expect(count).toHaveLength(items);
    expect(count.slice(0, 4).map((text) => text.toLowerCase())).toEqual([
      'db0 set key1 a1',
      'db0 set key1 a2',
      'db0 flushdb',
      'db0 set key1 a3',
    ]);
    expect(count.at(-1)?.toLowerCase()).toBe('db0 set bulk:150 v150');
    expect(entries.at(-1)?.position).toMatch(new RegExp(`^[0-9a-f]{50}/db0:${end.replace(' ', ':')}$`));
  });
});
