import { describe, expect, test } from 'vitest';
import type { Entry } from '../../src/sources/source.ts';
import { everyCase } from '../support/cases.ts';
import { until } from '../support/faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { commandsOf, Reading } from '../support/pika-reading.ts';
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
    master.write([
      ['SET', 'a', '1'],
      ['sunion', 'a', 'b'],
    ]);
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
    master.write([
      ['SET', 'a', '1'],
      ['delvx', 'a', '1'],
      ['SET', 'b', '1'],
    ]);
    master.writeContent(Buffer.from('*1\r\n$4\r\nSET'));
    await using reading = new Reading(master.url);
    const entries = await reading.take(await reading.from('beginning'), 4);
    expect(entries.map(({ malformed }) => malformed)).toEqual([
      undefined,
      expect.stringContaining('known to Pika alone'),
      undefined,
      expect.stringContaining('RESP'),
    ]);
    expect(entries[1]?.refused).toEqual({ code: 'NOT_CARRIED', command: 'DELVX', key: 'a' });
  });

  test('now is behind everything that is there', async () => {
    await using master = await PikaMaster.start();
    master.write(sets(0, 10));
    await using reading = new Reading(master.url);
    const position = await reading.from('now');
    expect(position).toBe(`${master.replicationId}/${(await reading.source.head()).position}`);
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
    expect((await reading.source.read(position, abort.signal)[Symbol.asyncIterator]().next()).done).toBe(
      true,
    );
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
    expect(await reading.source.serverId()).toBe(master.runId);
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

  everyCase('a frame of 64 MiB', async () => {
    await using master = await PikaMaster.start();
    const value = Buffer.alloc(64 * 1024 * 1024, 'x');
    master.write([
      ['SET', 'before', '1'],
      ['SET', 'large', value],
      ['SET', 'after', '1'],
    ]);
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
