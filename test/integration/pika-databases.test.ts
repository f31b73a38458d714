import { describe, expect, test } from 'vitest';
import type { Entry } from '../../src/sources/source.ts';
import { until } from '../support/faults.ts';
import { PikaMaster } from '../support/pika-master.ts';
import { commandsOf, Reading, stopOf } from '../support/pika-reading.ts';

const TWO = { databases: ['db0', 'db1'] };
const T0_S = 1_700_000_000;

function set(name: string): string[][] {
  return [['SET', name, 'v']];
}

/** Reads by hand, one chunk at a time. */
class Hand implements AsyncDisposable {
  readonly entries: Entry[] = [];
  readonly #chunks: AsyncIterator<readonly Entry[]>;
  readonly #abort = new AbortController();

  constructor(reading: Reading, position: string) {
    this.#chunks = reading.source.read(position, this.#abort.signal)[Symbol.asyncIterator]();
  }

  async next(): Promise<readonly Entry[]> {
    // None any more once it is aborted.
    const chunk = ((await this.#chunks.next()).value ?? []) as readonly Entry[];
    this.entries.push(...chunk);
    return chunk;
  }

  get last(): string {
    return this.entries.at(-1)?.position ?? '';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#chunks.next();
  }
}

describe('several databases of a Pika', () => {
  test('are read in windows, and nothing of a window before the mark has reached its announcement', async () => {
    await using master = await PikaMaster.start(TWO);
    master.write(set('a'), 'db0', T0_S);
    master.write(set('b'), 'db1', T0_S);
    await using reading = new Reading(master.url);
    const { source } = reading;
    const start = await reading.from('beginning');
    await using hand = new Hand(reading, start);
    const [announcement] = await hand.next();
    expect(announcement?.position).toMatch(/\/db0:0:0,db1:0:0;db0:0:69,db1:0:69@1!$/);
    expect(announcement?.resp.toString()).toContain('PING');
    let isRead = false;
    const next = hand.next().finally(() => {
      isRead = true;
    });
    source.marked(start);
    await until('it waits for the mark', async () => source.wantsMark() && master.pings >= 5);
    expect(isRead).toBe(false);
    source.marked(announcement?.position ?? '');
    expect(commandsOf(await next)).toEqual(['db0 SET a v', 'db1 SET b v']);
    expect(hand.last).toMatch(/\/db0:0:69,db1:0:69;db0:0:69,db1:0:69$/);
    expect(source.covers(hand.last, (await source.head()).position)).toBe(true);
  });

  test('a reader that starts directly behind an announcement waits for the mark as well', async () => {
    await using master = await PikaMaster.start(TWO);
    master.write(set('a'), 'db0', T0_S);
    await using reading = new Reading(master.url);
    await using first = new Hand(reading, await reading.from('beginning'));
    await first.next();
    await using other = new Reading(master.url);
    await using hand = new Hand(other, first.last);
    const next = hand.next();
    await until('it waits', async () => other.source.wantsMark());
    expect(hand.entries).toEqual([]);
    other.source.marked(first.last);
    expect(commandsOf(await next)).toEqual(['db0 SET a v']);
  });

  test('within a window the oldest second comes first, and of the same second the first database', async () => {
    await using master = await PikaMaster.start({ databases: ['db0', 'db1', 'db2'] });
    for (const [db, name, second] of [
      ['db2', 'c1', 1],
      ['db0', 'a2', 2],
      ['db1', 'b1', 1],
      ['db1', 'b2', 2],
      ['db0', 'a4', 4],
      // A clock that was set back: the log's order stands.
      ['db0', 'a3', 3],
      ['db2', 'c3', 3],
      ['db1', 'b4', 4],
    ] as const)
      master.write(set(name), db, T0_S + second);
    await using reading = new Reading(master.url);
    await using hand = new Hand(reading, await reading.from('beginning'));
    await hand.next();
    reading.source.marked(hand.last);
    while (commandsOf(hand.entries).length < 8) await hand.next();
    expect(commandsOf(hand.entries).map((text) => text.split(' ')[2])).toEqual([
      'b1',
      'c1',
      'a2',
      'b2',
      'c3',
      'a4',
      'a3',
      'b4',
    ]);
  });

  test('an item of the window that has not come yet is waited for', async () => {
    await using master = await PikaMaster.start({ ...TWO, windowItems: 2 });
    for (const name of ['a1', 'a2', 'a3', 'a4']) master.write(set(name), 'db0', T0_S);
    for (const name of ['b1', 'b2', 'b3']) master.write(set(name), 'db1', T0_S + 1);
    await using reading = new Reading(master.url);
    const { source } = reading;
    await using hand = new Hand(reading, await reading.from('beginning'));
    await hand.next();
    source.marked(hand.last);
    expect(commandsOf(await hand.next())).toEqual(['db0 SET a1 v', 'db0 SET a2 v']);
    const { pings } = master;
    const next = hand.next();
    await until('the items of db1 are there', () => master.pings >= pings + 10);
    await source.acknowledge((hand.entries[1] as Entry).position);
    await next;
    while (commandsOf(hand.entries).length < 7) {
      await source.acknowledge(hand.last);
      await hand.next();
    }
    const names = commandsOf(hand.entries).map((text) => text.split(' ')[2]);
    expect(names).toEqual(['a1', 'a2', 'a3', 'a4', 'b1', 'b2', 'b3']);
  });

  test('a database that is silent holds nobody up', async () => {
    await using master = await PikaMaster.start(TWO);
    await using reading = new Reading(master.url);
    await using hand = new Hand(reading, await reading.from('now'));
    for (let i = 0; i < 3; i++) {
      master.write(set(`k${i}`), 'db1');
      await hand.next();
      reading.source.marked(hand.last);
      expect(commandsOf(await hand.next())).toEqual([`db1 SET k${i} v`]);
      await reading.source.acknowledge(hand.last);
    }
    expect(master.complaints).toEqual([]);
  });

  test('read again from any mark, however much has come since, the window gives the same commands', async () => {
    const random = randomOf(7);
    await using master = await PikaMaster.start({ databases: ['db0', 'db1', 'db2'], windowItems: 40 });
    let written = 0;
    const writeSome = () => {
      for (let i = 5 + Math.floor(random() * 60); i > 0; i--)
        master.write(set(`k${written++}`), `db${Math.floor(random() * 3)}`, T0_S + Math.floor(random() * 5));
    };
    writeSome();
    await using reading = new Reading(master.url, { chunkBytes: 700 });
    await using hand = new Hand(reading, await reading.from('beginning'));
    let checked = 0;
    for (let windows = 0; windows < 6; ) {
      const chunk = await hand.next();
      const position = hand.last;
      if (position.endsWith('!')) {
        windows++;
        writeSome();
      }
      reading.source.marked(position);
      await reading.source.acknowledge(position);
      const behind = hand.entries.length;
      if (random() > 0.3 || chunk.length === 0) continue;
      // What is read on behind this mark, by whoever comes, and whenever.
      writeSome();
      await using other = new Reading(master.url, { chunkBytes: 300 });
      await using again = new Hand(other, position);
      let next = again.next();
      other.source.marked(position);
      do {
        await hand.next();
        reading.source.marked(hand.last);
        await reading.source.acknowledge(hand.last);
      } while (!hand.last.endsWith('!'));
      windows++;
      writeSome();
      const rest = commandsOf(hand.entries.slice(behind));
      while (commandsOf(again.entries).length < rest.length) {
        await next;
        await other.source.acknowledge(again.last);
        if (commandsOf(again.entries).length < rest.length) next = again.next();
      }
      expect(commandsOf(again.entries)).toEqual(rest);
      checked += rest.length;
    }
    expect(checked).toBeGreaterThan(50);
    expect(master.complaints).toEqual([]);
  });

  test('can be chosen, and have other numbers at the target', async () => {
    await using master = await PikaMaster.start({ databases: ['db0', 'db1', 'db2'] });
    for (const db of ['db0', 'db1', 'db2']) master.write(set(db), db);
    const databaseMap = new Map([['db1', 9]]);
    await using reading = new Reading(`${master.url}?db=db1`, { databaseMap });
    const entries = await reading.take(await reading.from('beginning'), 1);
    expect(commandsOf(entries)).toEqual(['db9 SET db1 v']);
    expect(entries[0]?.position).toMatch(/\/db1:0:\d+$/);
    expect(reading.source.covers(entries[0]?.position ?? '', (await reading.source.head()).position)).toBe(
      true,
    );
    await using none = new Reading(`${master.url}?db=db1,db8`);
    expect((await stopOf(none.from('beginning'))).message).toContain('has no db8');
  });

  test('a purged file of one of them stops the reading', async () => {
    await using master = await PikaMaster.start({ ...TWO, fileBytes: 500 });
    await using reading = new Reading(master.url);
    const start = await reading.from('beginning');
    for (let i = 0; i < 30; i++) master.write(set(`k${i}`), 'db1');
    master.purge('db1', 2);
    expect((await stopOf(new Hand(reading, start).next())).message).toContain('db1:0:0');
  });
});

/** Mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
