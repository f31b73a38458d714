import { describe, expect, test } from 'vitest';
import { encodeCommand } from '../../src/binlog/resp.ts';
import type { StopError } from '../../src/runtime/errors.ts';
import { BinlogWriter } from '../../src/sources/binlog-writer.ts';
import { openSource } from '../../src/sources/open.ts';
import type { Entry, Source } from '../../src/sources/source.ts';
import { beginning, describeSource, kept, take } from '../contract/source.ts';
import { RedisServer } from '../support/redis-server.ts';

const KEY = 'binlog';

class Log implements AsyncDisposable {
  readonly server: RedisServer;
  readonly notices: string[] = [];
  readonly #sources: Source[] = [];

  private constructor(server: RedisServer) {
    this.server = server;
  }

  static async create(args: readonly string[] = []): Promise<Log> {
    return new Log(await RedisServer.start({ args }));
  }

  get url(): string {
    return `redis-stream://127.0.0.1:${this.server.port}/0?key=${KEY}`;
  }

  get redis() {
    return this.server.client();
  }

  open(options: { name?: string; trimSource?: boolean; chunkBytes?: number } = {}): Source {
    const onNotice = (text: string) => this.notices.push(text);
    const source = openSource(this.url, { name: 'test', onNotice, ...options });
    this.#sources.push(source);
    return source;
  }

  /** Entries under the ids first-0 ... last-0. */
  async fill(first: number, last: number, value = 'v'): Promise<void> {
    const pipeline = this.redis.pipeline();
    for (let i = first; i <= last; i++)
      pipeline.xadd(KEY, `${i}-0`, 'resp', encodeCommand(['SET', `k${i}`, value]));
    await pipeline.exec();
  }

  async write(entries: Parameters<BinlogWriter['appendAll']>[0][number]['commands'][]): Promise<void> {
    const writer = new BinlogWriter({ url: this.url });
    for (const commands of entries) await writer.append(commands);
    await writer.close();
  }

  async group(name = 'lanegate:test'): Promise<Record<string, unknown> | undefined> {
    const groups = (await this.redis.xinfo('GROUPS', KEY)) as unknown[][];
    const maps = groups.map((flat) => {
      return Object.fromEntries(flat.flatMap((field, i) => (i % 2 === 0 ? [[field, flat[i + 1]]] : [])));
    });
    return maps.find((group) => group.name === name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const source of this.#sources) await source.close();
    await this.server[Symbol.asyncDispose]();
  }
}

describeSource('a Redis Stream', async () => {
  const log = await Log.create();
  return {
    open: () => log.open(),
    write: (entries) => log.write([...entries]),
    [Symbol.asyncDispose]: () => log[Symbol.asyncDispose](),
  };
});

async function stopOf(reading: Promise<unknown>): Promise<StopError> {
  const error = await reading.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ name: 'StopError' });
  return error as StopError;
}

/** A reader that has the first chunk of one entry and is held there. */
async function heldAfterFirst(source: Source, position: string) {
  const iterator = source.read(position, new AbortController().signal)[Symbol.asyncIterator]();
  const first = await iterator.next();
  const rest = async () => {
    const entries: Entry[] = [];
    for (let next = await iterator.next(); !next.done; next = await iterator.next())
      entries.push(...(next.value as Entry[]).map(kept));
    return entries;
  };
  return { first: first.value as readonly Entry[], iterator, rest };
}

describe('positions of a Redis Stream', () => {
  test('say how many entries were read', async () => {
    await using log = await Log.create();
    await log.fill(1, 5);
    const source = log.open();
    const entries = await take(source, await beginning(source), 5);
    expect(entries.map((entry) => entry.position)).toEqual(['1-0@1', '2-0@2', '3-0@3', '4-0@4', '5-0@5']);
    expect(source.positionInside(entries[2] as Entry, 17)).toBe('3-0:17@2');
    expect((await source.head()).position).toBe('5-0@5');
  });

  test('a bare id becomes a counted position as soon as the end is seen', async () => {
    await using log = await Log.create();
    await log.fill(1, 5);
    const source = log.open();
    const { position } = await source.resolve('2');
    expect(position).toBe('2-0');
    const entries = await take(source, position, 3);
    expect(entries.at(-1)?.position).toBe('5-0@5');
  });

  test('what is no position is refused', async () => {
    await using log = await Log.create();
    for (const text of ['', 'x', '1-', '1-2-3', '99999999999999999999-0', '1-0:', '1-0@-1']) {
      await expect(log.open().resolve(text)).rejects.toMatchObject({ name: 'ConfigurationError' });
    }
  });
});

describe('entries of a Redis Stream', () => {
  test('argv, db and time are read; other fields are left alone', async () => {
    await using log = await Log.create();
    await log.redis.xadd(KEY, '7-0', 'argv', '["SET","k","ü"]', 'db', '3', 'time', '1234', 'trace', 'x');
    const source = log.open();
    const [entry] = await take(source, '0-0@0', 1);
    expect(entry).toEqual({
      position: '7-0@1',
      resp: encodeCommand(['SET', 'k', 'ü']),
      skip: 0,
      db: 3,
      timeMs: 1234,
      malformed: undefined,
    });
  });

  test.each([
    [['other', 'x'], 'it has neither a field resp nor argv'],
    [['resp', '', 'db', '1'], 'the field resp is empty'],
    [['resp', 'x', 'argv', '["PING"]'], 'it has both fields resp and argv'],
    [['resp', 'x', 'resp', 'y'], 'it has the field resp twice'],
    [['resp', 'x', 'db', '-1'], 'the field db is not a database number'],
    [['resp', 'x', 'time', 'soon'], 'the field time is not a time in ms'],
    [['argv', '{'], 'the field argv is not JSON in UTF-8'],
    [['argv', '[]'], 'the field argv is not a JSON array with a command'],
    [['argv', '["SET","secret",1]'], 'the field argv holds something else than strings'],
    [['argv', '["SET","k","\\ud800"]'], 'the field argv holds half a character'],
  ])('%j is malformed', async (fields, why) => {
    await using log = await Log.create();
    await log.redis.xadd(KEY, '1-0', ...fields);
    const [entry] = await take(log.open(), '0-0', 1);
    expect(entry?.malformed).toBe(why);
    expect(entry?.resp).toEqual(encodeCommand(fields));
  });

  test('a chunk weighs about chunkBytes, whatever an entry weighs', async () => {
    await using log = await Log.create();
    await log.fill(1, 300, 'x'.repeat(1000));
    const source = log.open({ chunkBytes: 20_000 });
    const sizes: number[] = [];
    const abort = new AbortController();
    let seen = 0;
    for await (const chunk of source.read('0-0', abort.signal)) {
      sizes.push(chunk.reduce((sum, entry) => sum + entry.resp.length, 0));
      seen += chunk.length;
      if (seen === 300) abort.abort();
    }
    expect(Math.max(...sizes)).toBeLessThan(24_000);
    expect(sizes.length).toBeLessThan(25);
  });
});

describe('loss in a Redis Stream is found out', () => {
  test('entries trimmed while nobody read stop the reader, with their number', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.xtrim(KEY, 'MAXLEN', 3);
    const stop = await stopOf(take(log.open(), '2-0@2', 1));
    expect(stop).toMatchObject({ code: 'SOURCE_LOST', facts: { from: '2-0@2', to: '8-0', count: 5 } });
    expect(stop.hint).toContain('lanegate reset');
  });

  test('entries trimmed that were read already are no loss', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.xtrim(KEY, 'MAXLEN', 3);
    expect(await take(log.open(), '7-0@7', 3)).toHaveLength(3);
    await log.redis.xtrim(KEY, 'MAXLEN', 0);
    await log.fill(11, 11);
    expect(await take(log.open(), '10-0@10', 1)).toHaveLength(1);
  });

  test('an entry deleted by XDEL is a loss, and none when it was read', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.xdel(KEY, '5-0');
    expect(await stopOf(take(log.open(), '4-0@4', 1))).toMatchObject({ code: 'SOURCE_LOST' });
    expect(await take(log.open(), '5-0@5', 5)).toHaveLength(5);
  });

  test('everything deleted is a loss before anything new arrives', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.xtrim(KEY, 'MAXLEN', 0);
    const stop = await stopOf(take(log.open(), '4-0@4', 1));
    expect(stop).toMatchObject({ code: 'SOURCE_LOST', facts: { count: 6, to: '10-0' } });
  });

  test('holes from before the beginning are no loss, and stay none after a restart among them', async () => {
    await using log = await Log.create();
    await log.fill(1, 40);
    await log.redis.xdel(KEY, '20-0', '30-0');
    await log.redis.xtrim(KEY, 'MAXLEN', 30);
    const source = log.open({ chunkBytes: 100 });
    const start = await beginning(source);
    expect(start).toBe('0-0@10~30-0');
    const entries = await take(source, start, 30);
    expect(entries.at(-1)?.position).toBe('40-0@40');
    for (const entry of entries.slice(0, -1)) {
      const next = entries[entries.indexOf(entry) + 1];
      expect((await take(source, entry.position, 1))[0]).toEqual(next);
    }
    await log.redis.xdel(KEY, '35-0');
    expect(await stopOf(take(log.open({ chunkBytes: 100 }), start, 30))).toMatchObject({
      code: 'SOURCE_LOST',
    });
  });

  test('MAXLEN that overtakes a reader is found before anything behind the loss is yielded', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    const held = await heldAfterFirst(log.open({ chunkBytes: 1 }), '0-0@0');
    expect(held.first.map((entry) => entry.position)).toEqual(['1-0@1']);
    // The next look is on its way or done: it may still see 2-0, and nothing else.
    await log.redis.xadd(KEY, 'MAXLEN', '=', 4, '11-0', 'resp', encodeCommand(['PING']));
    const seen: Entry[] = [];
    const stop = await stopOf(
      (async () => {
        for (let next = await held.iterator.next(); !next.done; next = await held.iterator.next()) {
          seen.push(...next.value);
        }
      })(),
    );
    expect(stop).toMatchObject({ code: 'SOURCE_LOST' });
    expect(seen.every((entry) => entry.position === '2-0@2')).toBe(true);
  });

  test('XDEL ahead of a lagging reader is found while it lags', async () => {
    await using log = await Log.create();
    await log.fill(1, 50);
    const held = await heldAfterFirst(log.open({ chunkBytes: 1 }), '0-0@0');
    await log.redis.xdel(KEY, '40-0');
    expect(await stopOf(held.rest())).toMatchObject({ code: 'SOURCE_LOST' });
  });

  test('a stream trimmed behind a reader in step with it is no loss', async () => {
    await using log = await Log.create();
    const source = log.open();
    const abort = new AbortController();
    let last = 0;
    await log.redis.xadd(KEY, '1-0', 'resp', encodeCommand(['PING']));
    for await (const chunk of source.read('0-0@0', abort.signal)) {
      expect(chunk.map((entry) => entry.position)).toEqual([`${last + 1}-0@${last + 1}`]);
      last++;
      if (last === 200) abort.abort();
      else await log.redis.xadd(KEY, 'MAXLEN', '=', 1, `${last + 1}-0`, 'resp', encodeCommand(['PING']));
    }
    expect(last).toBe(200);
  });

  test('a deleted stream stops the reader, and so does one made anew under larger ids', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.del(KEY);
    expect(await stopOf(take(log.open(), '4-0@4', 1))).toMatchObject({ code: 'SOURCE_REWOUND' });
    await log.fill(11, 12);
    expect(await stopOf(take(log.open(), '4-0@4', 1))).toMatchObject({ code: 'SOURCE_REWOUND' });
    await log.fill(13, 30);
    expect(await stopOf(take(log.open(), '4-0@4', 1))).toMatchObject({ code: 'SOURCE_REWOUND' });
  });

  test('a stream deleted under a waiting reader stops it within seconds', async () => {
    await using log = await Log.create();
    await log.fill(1, 3);
    const held = await heldAfterFirst(log.open(), '2-0@2');
    const rest = stopOf(held.rest());
    await log.redis.del(KEY);
    expect(await rest).toMatchObject({ code: 'SOURCE_REWOUND' });
  });

  test('SETID below the position is a rewind, SETID that claims more entries is a loss', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    await log.redis.call('XSETID', KEY, '10-0', 'ENTRIESADDED', '15', 'MAXDELETEDID', '0-0');
    expect(await stopOf(take(log.open(), '4-0@4', 11))).toMatchObject({
      code: 'SOURCE_LOST',
      facts: { count: 5 },
    });
    await log.redis.call('XSETID', KEY, '10-0', 'ENTRIESADDED', '10', 'MAXDELETEDID', '0-0');
    await log.redis.xtrim(KEY, 'MAXLEN', 0);
    await log.redis.call('XSETID', KEY, '3-0');
    expect(await stopOf(take(log.open(), '10-0@10', 1))).toMatchObject({ code: 'SOURCE_REWOUND' });
  });

  test('an id set forward without an entry is covered by the last entry', async () => {
    await using log = await Log.create();
    await log.fill(1, 3);
    await log.redis.call('XSETID', KEY, '100-0');
    const source = log.open();
    const entries = await take(source, '0-0@0', 3);
    expect(source.covers(entries[2]?.position as string, (await source.head()).position)).toBe(true);
    await log.redis.xtrim(KEY, 'MAXLEN', 0);
    expect(source.covers(entries[2]?.position as string, (await source.head()).position)).toBe(true);
  });

  test('behind a bare id nothing may be missing', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    expect(await take(log.open(), '2-5', 8)).toHaveLength(8);
    await log.redis.xtrim(KEY, 'MAXLEN', 5);
    expect(await take(log.open(), '6-0', 4)).toHaveLength(4);
    expect(await stopOf(take(log.open(), '5-0', 1))).toMatchObject({ code: 'SOURCE_LOST' });
    expect(await take(log.open(), await beginning(log.open()), 5)).toHaveLength(5);
  });

  test('an entry begun and then deleted is lost', async () => {
    await using log = await Log.create();
    await log.fill(1, 3);
    expect((await take(log.open(), '2-0:1@1', 2))[0]).toMatchObject({ position: '2-0@2', skip: 1 });
    expect((await take(log.open(), '2-0:1', 2))[0]).toMatchObject({ position: '2-0', skip: 1 });
    await log.redis.xdel(KEY, '2-0');
    for (const position of ['2-0:1@1', '2-0:1']) {
      expect(await stopOf(take(log.open(), position, 1))).toMatchObject({ code: 'SOURCE_LOST' });
    }
  });

  test('a key of another type is named', async () => {
    await using log = await Log.create();
    await log.redis.set(KEY, 'x');
    const source = log.open();
    expect(await stopOf(take(source, '0-0@0', 1))).toMatchObject({ code: 'SOURCE_TYPE' });
    expect(await stopOf(source.head())).toMatchObject({ code: 'SOURCE_TYPE' });
  });
});

describe('progress of a Redis Stream', () => {
  test('XINFO GROUPS shows how far the pipeline is', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    const source = log.open();
    await source.acknowledge('4-0@4');
    expect(await log.group()).toMatchObject({ 'last-delivered-id': '4-0', 'entries-read': 4, lag: 6 });
    await source.acknowledge('7-0:3@6');
    expect(await log.group()).toMatchObject({
      'last-delivered-id': '6-18446744073709551615',
      'entries-read': 6,
      lag: 4,
    });
    expect(await source.forget(false)).toEqual([expect.stringContaining('lanegate:test')]);
    expect(await log.group()).toBeDefined();
    await source.forget(true);
    expect(await log.group()).toBeUndefined();
  });

  test('an acknowledgement of a stream that does not exist creates nothing', async () => {
    await using log = await Log.create();
    await log.open().acknowledge('0-0@0');
    expect(await log.redis.exists(KEY)).toBe(0);
  });

  test('trimming stops at another group, at its pending entries, and at the mark', async () => {
    await using log = await Log.create();
    await log.fill(1, 10);
    const source = log.open({ trimSource: true });
    const firstId = async () => (await log.redis.xrange(KEY, '-', '+', 'COUNT', 1))[0]?.[0];
    await log.redis.xgroup('CREATE', KEY, 'other', '0');
    await source.acknowledge('8-0@8');
    expect(await firstId()).toBe('1-0');
    await log.redis.xreadgroup('GROUP', 'other', 'c', 'COUNT', 6, 'STREAMS', KEY, '>');
    await log.redis.xack(KEY, 'other', '1-0', '2-0', '4-0');
    await source.acknowledge('8-0@8');
    expect(await firstId()).toBe('3-0');
    await log.redis.xack(KEY, 'other', '3-0', '5-0', '6-0');
    await source.acknowledge('8-0@8');
    expect(await firstId()).toBe('6-0');
    await log.redis.xgroup('DESTROY', KEY, 'other');
    await source.acknowledge('9-0:2@8');
    expect(await firstId()).toBe('9-0');
    expect(await take(source, '9-0:2@8', 2)).toHaveLength(2);
  });

  test('on a replica the group stays where it is, which is said once, and entries arrive', async () => {
    await using log = await Log.create();
    await log.fill(1, 3);
    await using replica = await RedisServer.start({
      args: ['--replicaof', '127.0.0.1', String(log.server.port)],
    });
    await expect.poll(async () => replica.client().xlen(KEY), { timeout: 10_000 }).toBe(3);
    const notices: string[] = [];
    const url = `redis-stream://127.0.0.1:${replica.port}?key=${KEY}`;
    const source = openSource(url, {
      name: 'test',
      trimSource: true,
      onNotice: (text) => notices.push(text),
    });
    const entries = take(source, '0-0@0', 4);
    await source.acknowledge('1-0@1');
    await source.acknowledge('2-0@2');
    await log.fill(4, 4);
    expect(await entries).toHaveLength(4);
    expect(notices.map((text) => text.split(':').slice(0, 2).join(':'))).toEqual(
      [
        'the consumer group lanegate:test cannot be moved along',
        "the stream cannot be trimmed (MINID needs Redis 6.2): READONLY You can't write against a read only replica.",
      ].map((text) => text.split(':').slice(0, 2).join(':')),
    );
    await source.close();
  });

  test('a user without the right to write reads all the same', async () => {
    await using log = await Log.create();
    await log.fill(1, 3);
    await log.redis.call(
      'ACL',
      'SETUSER',
      'reader',
      'on',
      '>pw',
      `~${KEY}`,
      '+@read',
      '+@connection',
      '+multi',
      '+exec',
    );
    const notices: string[] = [];
    const url = `redis-stream://reader:pw@127.0.0.1:${log.server.port}?key=${KEY}`;
    const source = openSource(url, { name: 'test', onNotice: (text) => notices.push(text) });
    expect(source.display).not.toContain('pw');
    expect(await take(source, '0-0@0', 3)).toHaveLength(3);
    await source.acknowledge('1-0@1');
    expect(notices).toHaveLength(1);
    await source.close();
  });

  test('the server behind it is named by its run_id', async () => {
    await using log = await Log.create();
    expect(await log.open().serverId()).toMatch(/^[0-9a-f]{40}$/);
  });
});

describe('trouble with the server of a Redis Stream', () => {
  test('a reader throws when the server dies, and a new read goes on after its restart', async () => {
    await using log = await Log.create(['--appendonly', 'yes', '--appendfsync', 'always']);
    await log.fill(1, 5);
    const source = log.open();
    const held = await heldAfterFirst(source, '0-0@0');
    const entries = [...held.first];
    while (entries.length < 5) entries.push(...((await held.iterator.next()).value as Entry[]).map(kept));
    const waiting = held.iterator.next();
    await Promise.all([
      expect(waiting).rejects.toThrow(/redis-stream:.* lost: ECONNRESET|closed by the server/),
      log.server.kill(),
    ]);
    await expect(source.head()).rejects.toThrow();
    await expect(take(source, '5-0@5', 1)).rejects.toThrow(/ECONNREFUSED/);
    await log.server.restart();
    await log.fill(6, 6);
    expect((await take(source, '5-0@5', 1))[0]?.position).toBe('6-0@6');
    expect((await source.head()).position).toBe('6-0@6');
  });

  test('a wrong password is told as the server tells it', async () => {
    await using server = await RedisServer.start({ password: 'right' });
    for (const [login, reply] of [
      [':wrong@', 'WRONGPASS'],
      ['', 'NOAUTH'],
    ]) {
      const source = openSource(`redis-stream://${login}127.0.0.1:${server.port}?key=k`, { name: 'test' });
      await expect(take(source, '0-0@0', 1)).rejects.toThrow(reply);
      await expect(source.head()).rejects.toThrow(reply);
      await source.close();
    }
  });

  test('a database that the server does not have is an error, not database 0', async () => {
    await using server = await RedisServer.start();
    const source = openSource(`redis-stream://127.0.0.1:${server.port}/99?key=k`, { name: 'test' });
    await expect(source.head()).rejects.toThrow(/DB index is out of range/);
    await source.close();
  });
});

describe('source URLs', () => {
  test('an unknown scheme names those that exist; a URL without key says what to add', () => {
    expect(() => openSource('http://x', { name: 'n' })).toThrow(/nothing reads http:.*redis-stream:\/\//);
    expect(() => openSource('redis-stream://h:1', { name: 'n' })).toThrow(/add \?key=NAME/);
    expect(() => openSource('redis-stream://h:1?kee=a', { name: 'n' })).toThrow(/\?kee=.*\n.*add \?key=NAME/);
  });

  test('a key may be percent-encoded bytes', () => {
    const source = openSource('redis-stream://h:1/2?key=a%20%ff+%3A', { name: 'n' });
    expect(source.identity).toBe('redis-stream:2/a%20%FF%2B:');
  });
});
