import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Crc64 } from '../../../src/rdb/crc64.ts';
import { RdbError } from '../../../src/rdb/rdb-error.ts';
import { formatPlace, parsePlace, type RestoreRules } from '../../../src/rdb/rdb-log.ts';
import { StopError } from '../../../src/runtime/errors.ts';
import { EVERY_CASE } from '../../support/cases.ts';
import type { RedisServer } from '../../support/redis-server.ts';
import { collect, commandsOf, cut, NO_RESTORE, REDIS_7_0, textOf, whole } from './collect.ts';
import { apply, contents, fill, saved, startServer } from './dataset.ts';
import {
  bytes,
  double,
  int64,
  intset,
  len,
  listpack,
  type Part,
  rawId,
  rdb,
  str,
  ziplist,
} from './rdb-file.ts';

const REDIS_8: RestoreRules = { rdbVersion: 12, bulkBytesMax: 1 << 29 };
const VALKEY_9: RestoreRules = { rdbVersion: 80, bulkBytesMax: 1 << 29 };

async function commands(file: Buffer, rules: RestoreRules = NO_RESTORE): Promise<string[]> {
  return textOf((await collect(whole(file), { rules })).entries);
}

/** Type byte and version of each RESTORE. */
async function payloads(file: Buffer, rules: RestoreRules): Promise<string[]> {
  const { entries } = await collect(whole(file), { rules });
  return commandsOf(entries).map((args) => {
    if (String(args[0]) !== 'RESTORE') return String(args[0]);
    const payload = args[3] as Buffer;
    return `RESTORE type ${payload[0]} version ${payload.readUInt16LE(payload.length - 10)}`;
  });
}

test('CRC64 gives the published value for its test vector', () => {
  const sum = new Crc64().sum(Buffer.alloc(8), Buffer.from('123456789'));
  expect(sum.readBigUInt64LE().toString(16)).toBe('e9c6d914c4b8d9ca');
});

test('CRC64 of parts goes on from part to part', () => {
  const crc = new Crc64();
  const whole = Buffer.from('x'.repeat(100_003));
  const zero = Buffer.alloc(8);
  const inParts = crc.sum(crc.sum(zero, whole, 0, 70_001), whole, 70_001);
  expect(inParts).toEqual(crc.sum(zero, whole));
  expect(inParts).not.toEqual(zero);
});

test('a place is printed and read', () => {
  const place = { offset: 123, db: 4, piece: 5, version: 11, crc: '0123456789abcdef' };
  expect(parsePlace(formatPlace(place))).toEqual(place);
  expect(parsePlace(formatPlace({ ...place, crc: '' }))).toEqual({ ...place, crc: '' });
  expect(parsePlace('11:x:4:5:')).toBeUndefined();
});

describe('opcodes beside keys', () => {
  const record = bytes(0, str('k'), str('v'));

  test('are read over, told, or made into commands', async () => {
    const file = rdb(
      'REDIS0012',
      bytes(0xfa, str('repl-id'), str('a'.repeat(40))),
      bytes(0xfa, str('repl-offset'), 0xc1, 0x34, 0x12),
      bytes(0xf7, len(2n ** 63n + 5n), 2, 2, [5, str('data')], [4, double(1)], [3, 'ffff'], [1, 7], 0),
      bytes(0xf5, str('#!lua name=x')),
      bytes(0xfe, 2, 0xfb, 9, 1, 0xf4, 1, 2, 3),
      bytes(0xfc, int64(1_700_000_000_123), 0xf8, len(70), record),
      bytes(0xfd, [16, 0, 0, 0], 0xf9, 200, 0, str('k2'), str('')),
      bytes(0xf3, 1, ['spec'], [2, 9], 0, 0, str('k3'), str('')),
    );
    const { entries, aux, notices, end } = await collect(whole(file));
    const found = commandsOf(entries).map((args) => args.filter((_, i) => i !== 3).join(' '));
    expect(found).toEqual([
      'FUNCTION LOAD REPLACE',
      'RESTORE k 1700000000123 REPLACE ABSTTL IDLETIME 70',
      'RESTORE k2 16000 REPLACE ABSTTL FREQ 200',
      'SET k3 ',
    ]);
    expect(entries.map(({ db, keys }) => [db, keys])).toEqual([
      [0, 0],
      [2, 3],
    ]);
    expect(Object.fromEntries(aux)).toEqual({ 'repl-id': 'a'.repeat(40), 'repl-offset': String(0x1234) });
    expect(notices).toHaveLength(2);
    expect(end).toMatchObject({ version: 12, keys: 3, offset: file.length });
  });

  test("of Valkey's slot import are read over", async () => {
    const file = rdb('VALKEY080', bytes(0xf3, str('job'), 2, 0, 5, 7, 9), record);
    expect(await commands(file)).toEqual(['DEL k', 'SET k v']);
  });

  test('in front of nothing are an error with its offset', async () => {
    const file = rdb('REDIS0012', bytes(0xf9, 1));
    await expect(commands(file)).rejects.toThrow(/expected a key at byte 11/);
  });

  test('leave what stands behind the file to its reader', async () => {
    const file = rdb('REDIS0011', record);
    const { end } = await collect(whole(bytes(file, '*1\r\n$4\r\nPING\r\n')));
    expect(end.offset).toBe(file.length);
    expect(end.tail.toString()).toBe('*1\r\n$4\r\nPING\r\n');
  });
});

test('a plain string of which nothing else is known is a SET, also where it arrives in pieces', async () => {
  const packed = bytes(0xc0, 7);
  const file = rdb(
    'REDIS0011',
    bytes(0, str('plain'), str('v'.repeat(100))),
    bytes(0, packed, str('under a number')),
    bytes(0, str('a number'), packed),
    bytes(0xfc, int64(1_700_000_000_123), 0, str('with a deadline'), str('v')),
    bytes(0xf9, 3, 0, str('with a frequency'), str('v')),
  );
  for (const step of [file.length, 1, 60]) {
    async function* pieces() {
      for (let at = 0; at < file.length; at += step) yield file.subarray(at, at + step);
    }
    const { entries } = await collect(pieces());
    expect(commandsOf(entries).map(([name, key]) => `${name} ${key}`)).toEqual([
      'SET plain',
      'SET 7',
      'RESTORE a number',
      'RESTORE with a deadline',
      'RESTORE with a frequency',
    ]);
  }
});

describe('the version of a payload', () => {
  const string = bytes(0xfc, int64(1_700_000_000_123), 0, str('k'), str('v'));
  const setListpack = bytes(20, str('s'), str(listpack('a', 'b')));
  const redisHash = bytes(25, str('h'), int64(5000), str(listpack('f', 'v', 5000)));
  const valkeyHash = bytes(22, str('h'), 1, str('f'), str('v'), int64(-1));

  test("is the file's, or the target's where that is older", async () => {
    const file = rdb('REDIS0012', string, setListpack, redisHash);
    expect(await payloads(file, REDIS_8)).toEqual(
      [0, 20, 25].map((type) => `RESTORE type ${type} version 12`),
    );
    expect((await payloads(file, REDIS_7_0)).slice(0, 3)).toEqual([
      'RESTORE type 0 version 10',
      'DEL',
      'SADD',
    ]);
  });

  test('is what both sides know between Redis and Valkey', async () => {
    expect(await payloads(rdb('REDIS0012', string, setListpack), VALKEY_9)).toEqual([
      'RESTORE type 0 version 11',
      'RESTORE type 20 version 11',
    ]);
    expect(await payloads(rdb('VALKEY080', string), REDIS_8)).toEqual(['RESTORE type 0 version 11']);
    expect(await payloads(rdb('VALKEY080', valkeyHash), VALKEY_9)).toEqual(['RESTORE type 22 version 80']);
    expect((await payloads(rdb('VALKEY080', valkeyHash), REDIS_8))[0]).toMatch(/^DEL/);
    expect((await payloads(rdb('REDIS0012', redisHash), VALKEY_9))[0]).toMatch(/^DEL/);
  });
});

describe('hashes whose fields have deadlines are rebuilt', () => {
  const expected = ['DEL h', 'HSET h a 1 b 2', 'HPEXPIREAT h 5003 FIELDS 1 b'];
  const kinds: Record<string, Buffer> = {
    'hash table': rdb('REDIS0012', [
      24,
      str('h'),
      int64(5000),
      2,
      [0, str('a'), str('1')],
      [4, str('b'), str('2')],
    ]),
    'hash table of a release candidate': rdb('REDIS0012', [
      22,
      str('h'),
      2,
      [0, str('a'), str('1')],
      [len(5003), str('b'), str('2')],
    ]),
    listpack: rdb('REDIS0012', [25, str('h'), int64(5003), str(listpack('a', 1, 0, 'b', '2', 5003))]),
    'listpack of a release candidate': rdb('REDIS0012', [
      23,
      str('h'),
      str(listpack('a', 1, 0, 'b', '2', 5003)),
    ]),
    'hash table of Valkey': rdb('VALKEY080', [
      22,
      str('h'),
      2,
      [str('a'), str('1'), int64(-1)],
      [str('b'), str('2'), int64(5003)],
    ]),
  };
  for (const [kind, file] of Object.entries(kinds)) {
    test(`from a ${kind}`, async () => {
      expect(await commands(file)).toEqual(expected);
    });
  }
});

test('a stream of Redis 8.6 and later is rebuilt, and what commands cannot make is told', async () => {
  const node = listpack(2, 0, 1, 'f', 0, 2, 0, 0, 'one', 4, 2, 1, 1, 'two', 4);
  const group = (last: readonly Part[]) => [
    [str('g'), 5, 1, 2],
    [2, [rawId(5, 0), int64(777), 3], [rawId(6, 1), int64(778), 1]],
    [1, str('c'), int64(1), int64(2), [1, rawId(5, 0)]],
    ...last,
  ];
  const head = [1, str(rawId(5, 0)), str(node), [2, 6, 1], [5, 0], [0, 0], 2];
  const idempotence = [
    [len(100), len(100)],
    [1, str('producer'), 1, str('iid'), 6, 1],
    [3, 0],
  ];
  const file = rdb('REDIS0014', [27, str('s'), head, [1, group([[1, rawId(6, 1)]])], idempotence]);
  const { entries, notices } = await collect(whole(file), { rules: REDIS_7_0 });
  expect(textOf(entries)).toEqual([
    'DEL s',
    'XADD s 5-0 f one',
    'XADD s 6-1 f two',
    'XSETID s 6-1 ENTRIESADDED 2 MAXDELETEDID 0-0',
    'XGROUP CREATE s g 5-1 ENTRIESREAD 2',
    'XCLAIM s g c 0 5-0 TIME 777 RETRYCOUNT 3 JUSTID FORCE',
  ]);
  expect(notices).toHaveLength(2);
  const restored = await payloads(file, { rdbVersion: 14, bulkBytesMax: 1 << 29 });
  expect(restored).toEqual(['RESTORE type 27 version 14']);
});

test('a value of a module is passed on, and refused by name where the target cannot take it', async () => {
  const file = rdb('REDIS0010', [7, str('gra\nph'), len(2n ** 62n), [2, 1], [5, str('x')], 0]);
  expect(await payloads(file, REDIS_7_0)).toEqual(['RESTORE type 7 version 10']);
  const refused = commands(file);
  await expect(refused).rejects.toBeInstanceOf(StopError);
  await expect(refused).rejects.toThrow(/module.*key "gra\\nph" of db 0/);
});

describe('with a server', () => {
  let server: RedisServer;
  beforeAll(async () => {
    server = await startServer();
  });
  afterAll(async () => {
    await server[Symbol.asyncDispose]();
  });

  test('encodings of old servers give the same by RESTORE as by commands', async () => {
    const zipmap = bytes(2, [1, 'a', 2, 2, '11', 'xx'], [2, 'bb', 0, 0], 255);
    const numbers = [0, 12, 13, -100, 300, -30_000, 8_000_000, -2_000_000_000, 2 ** 40];
    const file = rdb(
      'REDIS0007',
      [1, str('list'), 2, str('a'), [0xc1, 1, 2]],
      [2, str('set'), 2, str('a'), [0xc2, 1, 2, 3, 255]],
      [3, str('floats'), 4, [str('a'), 3, '1.5'], [str('b'), 254], [str('c'), 255], [str('d'), 2, '-3']],
      [4, str('hash'), 1, str('f'), str('v')],
      [9, str('zipmap'), str(zipmap)],
      [10, str('ziplist'), str(ziplist('a', ...numbers, 'x'.repeat(60)))],
      [11, str('intset16'), str(intset(2, -5, 300))],
      [11, str('intset32'), str(intset(4, -100_000, 7))],
      [11, str('intset64'), str(intset(8, -(2 ** 40), 2 ** 40))],
      [12, str('zset'), str(ziplist('a', 1, 'b', '2.5'))],
      [13, str('hash2'), str(ziplist('f', 1, 'g', 'v'))],
      [14, str('quicklist'), 2, str(ziplist('a', 1)), str(ziplist('b'))],
    );
    const results: Map<string, string>[] = [];
    for (const rules of [REDIS_7_0, NO_RESTORE]) {
      await server.client().flushall();
      const { entries } = await collect(whole(file), { rules });
      expect(await apply(server, entries)).toEqual([]);
      results.push(await contents(server.client()));
    }
    expect(results[0]?.size).toBe(13);
    expect(results[1]).toEqual(results[0]);
    const list = await server.client().lrange('ziplist', 0, -1);
    expect(list).toEqual(['a', ...numbers.map(String), 'x'.repeat(60)]);
  });

  test('strings above the limit come in pieces, compressed or not', async () => {
    const client = server.client();
    await client.flushall();
    const noise = Buffer.from(
      Array.from({ length: 3_000_000 }, (_, i) => (Math.imul(i, 2654435761) >>> 13) & 255),
    );
    const words = Buffer.from(
      Array.from({ length: 300_000 }, (_, i) => `${(Math.imul(i, 2654435761) >>> 20) & 1023} word `).join(''),
    );
    await client.set('noise', noise);
    await client.set('words', words);
    await client.set('same', Buffer.alloc(40_000_000, 'x'));
    const file = await saved(server);
    const { entries } = await collect(
      cut(file, () => 65_536),
      { rules: { rdbVersion: 10, bulkBytesMax: 100_000 } },
    );
    expect(Math.max(...entries.map(({ resp }) => resp.length))).toBeLessThan(101_000);
    expect(file.length).toBeLessThan(noise.length + words.length);
    await client.flushall();
    expect(await apply(server, entries)).toEqual([]);
    expect((await client.getBuffer('noise'))?.equals(noise)).toBe(true);
    expect((await client.getBuffer('words'))?.equals(words)).toBe(true);
    expect(await client.strlen('same')).toBe(40_000_000);
  });

  describe('a damaged file', () => {
    let file: Buffer;
    beforeAll(async () => {
      await server.client().flushall();
      await fill(server.client(), 4, 4);
      const rows = Array.from({ length: 30 }, (_, i) => [`f${i}`, i]).flat();
      await server.client().hset('small', ...(rows as [string]));
      file = await saved(server);
    });

    test('that ends early is an error at its end, wherever it ends', async () => {
      const step = Math.max(1, Math.floor(file.length / 150));
      for (let length = 0; length < file.length; length += length < 500 ? 1 : step) {
        for (const rules of [REDIS_7_0, NO_RESTORE]) {
          const error = await collect(whole(file.subarray(0, length)), { rules }).then(
            () => undefined,
            (thrown) => thrown,
          );
          expect(error).toBeInstanceOf(RdbError);
          expect(error.offset).toBe(length);
        }
      }
    });

    test('that has another byte anywhere is an error, never a hang or a crash', async () => {
      const few = EVERY_CASE ? 1 : 4;
      const step = few * Math.max(1, Math.floor(file.length / 150));
      for (let at = 0; at < file.length; at += at < 500 ? few : step) {
        const damaged = Buffer.from(file);
        damaged[at] = (damaged[at] as number) ^ (1 << (at % 8));
        for (const rules of [REDIS_7_0, NO_RESTORE]) {
          const error = await collect(whole(damaged), { rules }).then(
            () => `byte ${at} went unseen`,
            (thrown) => thrown,
          );
          if (!(error instanceof StopError)) expect(error).toBeInstanceOf(RdbError);
        }
      }
    });
  });
});

test('a length that is only claimed takes no memory', async () => {
  const claims = [
    [0, str('k'), 0x80, [0x1f, 255, 255, 255]],
    [0, str('k'), 0xc3, 0x80, [0, 0, 255, 255], 0x80, [0, 255, 255, 255]],
    [4, str('k'), 0x81, [0, 1, 255, 255, 255, 255, 255, 255], str('f')],
    [16, str('k'), 0x80, [255, 255, 255, 255]],
  ].map((claim) => bytes('REDIS0010', claim, 'x'.repeat(100)));
  const before = process.memoryUsage();
  for (const file of claims) {
    for (const rules of [REDIS_7_0, NO_RESTORE]) {
      const reading = collect(whole(file), { rules });
      await expect(reading).rejects.toThrow();
    }
  }
  const after = process.memoryUsage();
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(20_000_000);
});

test('a header field or a key of an impossible size is an error at its place', async () => {
  const huge = [0x81, 0x6f, 1, 2, 3, 4, 5, 6, 7];
  const field = bytes('REDIS0010', 0xfa, huge, 'x'.repeat(50));
  const key = bytes('REDIS0010', 0, huge, 'x'.repeat(50));
  for (const file of [field, key]) {
    const error = await collect(whole(file), { rules: REDIS_7_0 }).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(RdbError);
    expect(error.message).toMatch(/smaller than a string of \d+ bytes at byte 9/);
  }
});

test('a file without a checksum is taken; one with a wrong one is not, unless nobody asks', async () => {
  const good = rdb('REDIS0010', [0, str('k'), str('v')]);
  const none = bytes(good.subarray(0, -8), Buffer.alloc(8));
  const wrong = bytes(good.subarray(0, -8), Buffer.alloc(8, 1));
  expect((await collect(whole(none))).end.keys).toBe(1);
  await expect(collect(whole(wrong))).rejects.toThrow(/CRC64.*at byte 15/);
  expect((await collect(whole(wrong), { checkCrc: false })).end.keys).toBe(1);
});
