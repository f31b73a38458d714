import { setTimeout as delay } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { StopError } from '../../src/runtime/errors.ts';
import type { Difference } from '../../src/verify/candidates.ts';
import { Verification, type VerifyOptions, type VerifyResult } from '../../src/verify/verify.ts';
import { everyCase } from '../support/cases.ts';
import { FaultyProxy } from '../support/proxy.ts';
import { RedisServer } from '../support/redis-server.ts';

/** Every aggregate in the encoding for large values: DUMP gives other bytes for equal values. */
const LARGE_ENCODINGS = [
  ...[
    '--hash-max-listpack-entries',
    '0',
    '--zset-max-listpack-entries',
    '0',
    '--set-max-intset-entries',
    '0',
  ],
  ...['--list-max-listpack-size', '1', '--stream-node-max-entries', '1'],
];
const NONE = { missing: 0, extra: 0, type: 0, ttl: 0, value: 0 };

class Sides implements AsyncDisposable {
  readonly a: RedisServer;
  readonly b: RedisServer;

  private constructor(a: RedisServer, b: RedisServer) {
    this.a = a;
    this.b = b;
  }

  static async start(argsOfB: readonly string[] = [], argsOfA: readonly string[] = []): Promise<Sides> {
    const [a, b] = await Promise.all([
      RedisServer.start({ args: argsOfA }),
      RedisServer.start({ args: argsOfB }),
    ]);
    return new Sides(a, b);
  }

  async both(...commands: readonly (readonly (string | number | Buffer)[])[]): Promise<void> {
    for (const client of [this.a.client(), this.b.client()]) await run(client, commands);
  }

  async verify(options: Partial<VerifyOptions> = {}): Promise<VerifyResult> {
    return await new Verification({ ...this.options(), ...options }).run();
  }

  options(): VerifyOptions {
    return {
      source: parseEndpoint('--source', this.a.url),
      target: parseEndpoint('--target', this.b.url),
      sample: 1,
      rounds: 2,
      ttl: { toleranceMs: 2_000, graceMs: 0 },
      pauseMs: 10,
      patienceMs: 20_000,
      signal: new AbortController().signal,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.a[Symbol.asyncDispose](), this.b[Symbol.asyncDispose]()]);
  }
}

async function run(
  client: Redis,
  commands: readonly (readonly (string | number | Buffer)[])[],
): Promise<void> {
  for (const [name, ...args] of commands) await client.call(String(name), args as string[]);
}

const BINARY = Buffer.from([0, 255, 13, 10, 36, 42, 0x80]);

/** Keys of all types, small and large. */
async function populate(sides: Sides): Promise<void> {
  const script = `
    for i = 1, 3000 do redis.call('SET', 'string:' .. i, 'value ' .. i) end
    for i = 1, 10000 do redis.call('RPUSH', 'list:large', 'element ' .. i) end
    for i = 1, 5000 do
      redis.call('HSET', 'hash:large', 'field ' .. i, 'value ' .. i)
      redis.call('SADD', 'set:large', 'member ' .. i)
      redis.call('ZADD', 'zset:large', i / 3, 'member ' .. i)
      redis.call('XADD', 'stream:large', i .. '-1', 'n', i, 'text', 'entry ' .. i)
    end
    redis.call('SADD', 'set:integers', unpack({1, 2, 3, 400, 70000}))
    redis.call('ZADD', 'zset:small', '-inf', 'a', '1.1e-7', 'b', '12345678901234567', 'c', 'inf', 'd')
    redis.call('HSET', 'hash:small', 'f', 'v', 'g', 'w')
    redis.call('RPUSH', 'list:small', 'a', 'b', 'c')
    redis.call('SET', 'string:empty', '')
    redis.call('SET', 'string:large', string.rep('0123456789', 100000))
    redis.call('SET', 'bitmap', string.rep(string.char(0), 4097))
    redis.call('PFADD', 'hll', 'a', 'b', 'c')
    redis.call('XADD', 'stream:groups', '5-1', 'a', '1')
    redis.call('XADD', 'stream:groups', '6-1', 'a', '2')
    redis.call('XGROUP', 'CREATE', 'stream:groups', 'readers', '0')
    redis.call('XGROUP', 'CREATECONSUMER', 'stream:groups', 'readers', 'idle')
    redis.call('XREADGROUP', 'GROUP', 'readers', 'anna', 'COUNT', '1', 'STREAMS', 'stream:groups', '>')
    redis.call('XADD', 'stream:empty', '7-7', 'a', '1')
    redis.call('XDEL', 'stream:empty', '7-7')
    redis.call('SET', 'expiring', 'x', 'PX', 900000)
    redis.call('HSET', 'hash:expiring', 'f', 'v') redis.call('PEXPIRE', 'hash:expiring', 900000)
    redis.call('SELECT', 3)
    redis.call('SET', 'in three', 'x')
    redis.call('RPUSH', 'list in three', 'x')`;
  await sides.both(['EVAL', script, 0], ['SET', BINARY, BINARY], ['HSET', 'hash:binary', BINARY, BINARY]);
}

const KEYS = 3021;

describe('equal servers', () => {
  test('are equal, keys of all types in several databases, and nothing is written', async () => {
    await using sides = await Sides.start();
    await populate(sides);
    expect(await sides.verify()).toEqual({
      keys: KEYS,
      compared: KEYS,
      equal: KEYS,
      differences: NONE,
      first: [],
      rounds: 1,
    });
  });

  test('are equal when their encodings differ, so that no DUMP is the same', async () => {
    await using sides = await Sides.start(LARGE_ENCODINGS);
    await populate(sides);
    const [a, b] = await Promise.all(
      [sides.a, sides.b].map((server) => server.client().object('ENCODING', 'hash:small')),
    );
    expect(a).not.toBe(b);
    const { equal, first } = await sides.verify();
    expect([equal, first]).toEqual([KEYS, []]);
  });

  test('are equal without a right to DUMP, for a user with the least rights', async () => {
    await using sides = await Sides.start();
    await populate(sides);
    const rights = ['ACL', 'SETUSER', 'auditor', 'on', '>secret', '~*', '+@read', '+info', '+select'];
    await sides.both(rights);
    const as = (server: RedisServer) =>
      parseEndpoint('--source', server.url, { username: 'auditor', password: 'secret' });
    const users = { source: as(sides.a), target: as(sides.b) };
    expect(await sides.verify(users)).toMatchObject({ equal: KEYS, first: [] });
    await sides.both([...rights, '-select']);
    await expect(sides.verify(users)).rejects.toMatchObject({
      code: 'NOPERM',
      hint: expect.stringContaining('+@read +info +select'),
    });
  });

  test('may differ in keys of lanegate, on either side', async () => {
    await using sides = await Sides.start();
    await sides.a.client().set('lanegate:x', '1');
    await sides.b.client().mset('lanegate:default:mark', '1', 'lanegate', '2');
    await sides.a.client().set('lanegate', '2');
    expect(await sides.verify()).toMatchObject({ keys: 1, compared: 1, equal: 1, first: [] });
  });
});

type Damage = readonly [
  what: string,
  commands: readonly (readonly (string | number | Buffer)[])[],
  found: Partial<Difference> | readonly Partial<Difference>[],
];

const DAMAGES: readonly Damage[] = [
  ['a value', [['SET', 'string:7', 'value x']], { key: 'string:7', kind: 'value', detail: 'string byte 6' }],
  [
    'a length',
    [['APPEND', 'string:8', 'x']],
    { key: 'string:8', kind: 'value', detail: 'string length 7 / 8' },
  ],
  [
    'a byte in the middle of a large string',
    [['SETRANGE', 'string:large', 700_001, 'x']],
    { key: 'string:large', kind: 'value', detail: 'string byte 700001' },
  ],
  [
    'a byte behind the quick pass',
    [['SETBIT', 'bitmap', 32_770, 1]],
    { key: 'bitmap', detail: 'string byte 4096' },
  ],
  [
    'a type',
    [
      ['DEL', 'string:9'],
      ['RPUSH', 'string:9', 'value 9'],
    ],
    { key: 'string:9', kind: 'type', detail: 'string / list' },
  ],
  ['a TTL', [['PEXPIRE', 'expiring', 890_000]], { key: 'expiring', kind: 'ttl' }],
  ['a TTL that is missing', [['PERSIST', 'hash:expiring']], { key: 'hash:expiring', kind: 'ttl' }],
  ['a TTL that should not be', [['EXPIRE', 'list:small', 900]], { key: 'list:small', kind: 'ttl' }],
  ['a missing key', [['DEL', 'hll']], { key: 'hll', kind: 'missing', detail: 'string' }],
  ['an extra key', [['SADD', 'new', 'x']], { key: 'new', kind: 'extra', detail: 'set' }],
  [
    'an element in the middle of a large list',
    [['LSET', 'list:large', 5_017, 'x']],
    { key: 'list:large', kind: 'value', detail: 'list index 5017' },
  ],
  ['an element of a small list', [['LSET', 'list:small', 1, 'x']], { detail: 'list index 1' }],
  ['a list that is shorter', [['LPOP', 'list:large']], { detail: 'list length 10000 / 9999' }],
  [
    'a field of a large hash',
    [['HSET', 'hash:large', 'field 2500', 'x']],
    { key: 'hash:large', kind: 'value', detail: 'field "field 2500"' },
  ],
  [
    'a field that is missing',
    [['HDEL', 'hash:small', 'g']],
    { key: 'hash:small', kind: 'value', detail: 'field g is missing at the target' },
  ],
  [
    'a field too many',
    [['HSET', 'hash:large', 'more', 'x']],
    { key: 'hash:large', kind: 'value', detail: 'field more is missing at the source' },
  ],
  [
    'another member, equally many',
    [
      ['SREM', 'set:large', 'member 77'],
      ['SADD', 'set:large', 'member x'],
    ],
    { key: 'set:large', kind: 'value', detail: 'member "member 77" is missing at the target' },
  ],
  [
    'another integer',
    [['SMOVE', 'set:integers', 'moved', 400]],
    [
      { key: 'set:integers', kind: 'value', detail: 'member 400 is missing at the target' },
      { key: 'moved', kind: 'extra', detail: 'set' },
    ],
  ],
  [
    'a score in its last digit',
    [['ZINCRBY', 'zset:large', '0.0000000000003', 'member 4000']],
    { key: 'zset:large', kind: 'value', detail: 'member "member 4000" has another score' },
  ],
  [
    'a score of a small set',
    [['ZADD', 'zset:small', '12345678901234566', 'c']],
    { key: 'zset:small', kind: 'value', detail: 'member c has another score' },
  ],
  [
    'a field of a stream entry',
    [
      ['DEL', 'stream:groups'],
      ['XADD', 'stream:groups', '5-1', 'a', '1'],
      ['XADD', 'stream:groups', '6-1', 'a', 'x'],
    ],
    { key: 'stream:groups', kind: 'value', detail: 'stream entry 6-1 field a' },
  ],
  [
    'a stream entry',
    [['XDEL', 'stream:large', '2500-1']],
    { key: 'stream:large', kind: 'value', detail: 'stream entry 2500-1 is missing at the target' },
  ],
  [
    'a pending entry',
    [['XACK', 'stream:groups', 'readers', '5-1']],
    { key: 'stream:groups', kind: 'value', detail: 'stream group readers pending entry 5-1' },
  ],
  [
    'the owner of a pending entry',
    [['XCLAIM', 'stream:groups', 'readers', 'idle', 0, '5-1', 'JUSTID']],
    { key: 'stream:groups', kind: 'value', detail: 'stream group readers pending entry 5-1' },
  ],
  [
    'a consumer',
    [['XGROUP', 'DELCONSUMER', 'stream:groups', 'readers', 'idle']],
    { detail: 'stream group readers consumer idle is missing at the target' },
  ],
  ['a group', [['XGROUP', 'DESTROY', 'stream:groups', 'readers']], { key: 'stream:groups', kind: 'value' }],
  [
    'the position of a group',
    [['XGROUP', 'SETID', 'stream:groups', 'readers', '6-1']],
    { detail: 'stream group readers last id 5-1 / 6-1' },
  ],
  ['the last id of a stream', [['XSETID', 'stream:empty', '8-8']], { detail: 'stream last id 7-7 / 8-8' }],
  ['a binary key', [['SET', BINARY, 'x']], { key: '"\\x00\\xff\\r\\n$*\\x80"', kind: 'value' }],
  [
    'a binary field',
    [['HSET', 'hash:binary', BINARY, 'x']],
    { key: 'hash:binary', kind: 'value', detail: 'field "\\x00\\xff\\r\\n$*\\x80"' },
  ],
];

/** As few rounds as can be in which no two damages are done to the same key. */
function apart(damages: readonly Damage[]): Damage[][] {
  const rounds: { readonly keys: Set<string>; readonly damages: Damage[] }[] = [];
  for (const damage of damages) {
    const keys = damage[1].flatMap((command) => command.slice(1, 3).map(String));
    const round = rounds.find((one) => keys.every((key) => !one.keys.has(key)));
    if (round === undefined) rounds.push({ keys: new Set(keys), damages: [damage] });
    else {
      for (const key of keys) round.keys.add(key);
      round.damages.push(damage);
    }
  }
  return rounds.map((round) => round.damages);
}

for (const [what, args] of [
  ['the same encodings', []],
  ['other encodings', LARGE_ENCODINGS],
] as const) {
  (args.length === 0 ? test : everyCase)(
    `a damaged target with ${what} has each damage named, and nothing else`,
    async () => {
      await using sides = await Sides.start(args);
      for (const damages of apart(DAMAGES)) {
        await sides.both(['FLUSHALL']);
        await populate(sides);
        for (const [, commands] of damages) await run(sides.b.client(), commands);
        const { first, equal } = await sides.verify();
        const wanted = damages.flatMap(([, , found]) => found);
        for (const one of wanted) expect(first).toContainEqual(expect.objectContaining({ db: 0, ...one }));
        expect(first).toHaveLength(wanted.length);
        const extra = first.filter(({ kind }) => kind === 'extra').length;
        expect(equal).toBe(KEYS - (first.length - extra));
        // What a value is must not be told.
        expect(JSON.stringify(first)).not.toContain('value x');
      }
    },
    180_000,
  );
}

describe('differences', () => {
  test('in another database, and a database that the target has not', async () => {
    await using sides = await Sides.start(['--databases', '5']);
    const source = sides.a.client();
    await run(source, [
      ['SELECT', 3],
      ['SET', 'k', '1'],
      ['SELECT', 4],
      ['SET', 'k', '1'],
      ['SELECT', 7],
      ['SET', 'far', '1'],
    ]);
    await run(sides.b.client(), [
      ['SELECT', 3],
      ['SET', 'k', '1'],
      ['SELECT', 1],
      ['SET', 'k', '1'],
    ]);
    const { first, equal, compared } = await sides.verify();
    expect([equal, compared]).toEqual([1, 4]);
    expect(first).toEqual([
      { db: 1, key: 'k', kind: 'extra', detail: 'string' },
      { db: 4, key: 'k', kind: 'missing', detail: 'string' },
      { db: 7, key: 'far', kind: 'missing', detail: 'database 7 does not exist at the target' },
    ]);
  });

  test('are all counted, and the first hundred listed', async () => {
    await using sides = await Sides.start();
    const fill = `for i = 1, 5000 do redis.call('SET', KEYS[1] .. i, i) end`;
    await run(sides.a.client(), [['EVAL', fill, 1, 'a']]);
    await run(sides.b.client(), [['EVAL', fill, 1, 'b']]);
    const { first, ...counts } = await sides.verify();
    expect(counts).toEqual({
      keys: 5000,
      compared: 10_000,
      equal: 0,
      differences: { ...NONE, missing: 5000, extra: 5000 },
      rounds: 2,
    });
    expect([first.length, new Set(first.map(({ key }) => key)).size]).toEqual([100, 100]);
  });

  test('that are too many to be remembered are settled on the way, in every database', async () => {
    await using sides = await Sides.start();
    const fill = `for i = 1, 5000 do redis.call('SET', 'k' .. i, i) end redis.call('SELECT', 1)
      for i = 1, 5000 do redis.call('SET', 'k' .. i, i) end`;
    await sides.both(['EVAL', fill, 0]);
    await sides.b.client().eval(`for i = 1, 4000 do redis.call('SET', 'k' .. i, 'x') end`, 0);
    const result = await sides.verify({ candidatesMax: 1_000 });
    expect(result).toMatchObject({ compared: 10_000, equal: 6_000, differences: { ...NONE, value: 4_000 } });
    expect(result.first.every(({ db }) => db === 0)).toBe(true);
  });

  test('in a sample are those of the chosen keys, the same ones from both sides', async () => {
    await using sides = await Sides.start();
    const fill = `for i = 1, 20000 do redis.call('SET', 'key:' .. i, i) end`;
    await sides.both(['EVAL', fill, 0]);
    const whole = await sides.verify({ sample: 0.1 });
    expect(whole).toMatchObject({ keys: 20_000, equal: whole.compared, differences: NONE });
    expect(Math.abs(whole.compared - 2_000)).toBeLessThan(300);
    await sides.b.client().flushall();
    const missing = await sides.verify({ sample: 0.1 });
    expect(missing.differences).toEqual({ ...NONE, missing: whole.compared });
    await sides.a.client().flushall();
    await sides.b.client().eval(fill, 0);
    const extra = await sides.verify({ sample: 0.1 });
    expect(extra.differences).toEqual({ ...NONE, extra: whole.compared });
  });

  test('in TTLs within the tolerance are none, and the grace is subtracted', async () => {
    await using sides = await Sides.start();
    await sides.a.client().set('k', 'x', 'PX', 600_000);
    await sides.b.client().set('k', 'x', 'PX', 600_000 + 3_600_000);
    const hour = { toleranceMs: 2_000, graceMs: 3_600_000 };
    expect((await sides.verify()).differences.ttl).toBe(1);
    expect((await sides.verify({ ttl: hour })).differences.ttl).toBe(0);
    await sides.b.client().set('late', 'x', 'PX', 3_601_000);
    expect((await sides.verify({ ttl: hour })).differences).toEqual(NONE);
    expect((await sides.verify()).differences).toMatchObject({ extra: 1, ttl: 1 });
  });

  test('that pass before the last round are none', async () => {
    await using sides = await Sides.start();
    await sides.a.client().mset('late', '1', 'wrong', '1');
    await sides.b.client().set('wrong', '2');
    const options = sides.options();
    const verification = new Verification({ ...options, rounds: 6, pauseMs: 20 });
    const running = verification.run();
    while (verification.progress.round < 2) await delay(1);
    await sides.b.client().mset('late', '1');
    const { first, equal, rounds } = await running;
    expect(first).toEqual([expect.objectContaining({ key: 'wrong' })]);
    expect([equal, rounds]).toEqual([1, 6]);
  });
});

describe('trouble', () => {
  test('a connection that breaks in any exchange is made anew, and nothing is missed', async () => {
    await using sides = await Sides.start();
    await populate(sides);
    await sides.b.client().lset('list:large', 5017, 'x');
    await using proxy = await FaultyProxy.start(sides.b.port);
    const target = parseEndpoint('--target', `redis://127.0.0.1:${proxy.port}`);
    const exchanges = ['PTTL', 'GETRANGE', 'USAGE', 'DUMP', 'LRANGE', 'HMGET', 'XRANGE', 'SCAN'];
    let cuts = 0;
    const cutting = (async () => {
      for (const exchange of exchanges) {
        proxy.cutAfter(exchange, 'request', 'after-forward');
        await proxy.nextCut();
        cuts++;
      }
    })();
    const { first, equal } = await sides.verify({ target, rounds: 3 });
    expect(first).toEqual([expect.objectContaining({ key: 'list:large', detail: 'list index 5017' })]);
    expect(equal).toBe(KEYS - 1);
    // The order in which values are looked at decides which of the later ones still come.
    expect(cuts).toBeGreaterThanOrEqual(4);
    expect(proxy.accepted).toBeGreaterThan(cuts);
    void cutting;
  });

  test('a source that is restarted while it is scanned is scanned anew', async () => {
    await using sides = await Sides.start([], ['--appendonly', 'yes']);
    const fill = `for i = 1, 100000 do redis.call('SET', 'key:' .. i, i) end`;
    await sides.both(['EVAL', fill, 0]);
    await sides.b.client().del('key:50000');
    const verification = new Verification(sides.options());
    const running = verification.run();
    while (verification.progress.done < 5_000) await delay(1);
    await sides.a.restart();
    expect(await running).toMatchObject({
      keys: 100_000,
      equal: 99_999,
      first: [{ db: 0, key: 'key:50000', kind: 'missing', detail: 'string' }],
    });
  });

  test('a server that is not there, and one that is both sides, are named', async () => {
    await using sides = await Sides.start();
    const nobody = parseEndpoint('--target', 'redis://127.0.0.1:9');
    const error = await sides.verify({ target: nobody }).catch((one: unknown) => one);
    expect(error).toBeInstanceOf(StopError);
    expect(String(error)).toContain('the target redis://127.0.0.1:9 cannot be used');
    const same = parseEndpoint('--target', sides.a.url);
    await expect(sides.verify({ target: same })).rejects.toThrow('the same server');
  });
});

test('live traffic with a real replica as the target gives no false alarm, and real damage is found', async () => {
  await using sides = await Sides.start(['--replica-read-only', 'no']);
  await populate(sides);
  await run(sides.b.client(), [['REPLICAOF', '127.0.0.1', sides.a.port]]);
  while (!/master_link_status:up/.test(await sides.b.client().info('replication'))) await delay(20);
  const writer = sides.a.client();
  let writing = true;
  let written = 0;
  const traffic = (async () => {
    for (let i = 0; writing; i = (i + 1) % 3000) {
      await run(writer, [
        ['SET', `string:${i}`, `round ${written}`],
        ['HSET', 'hash:large', `field ${i}`, written],
        ['ZINCRBY', 'zset:large', 1, `member ${i}`],
        ['XADD', 'stream:large', '*', 'n', written],
        ['SADD', 'set:large', `new ${written}`],
        ['SREM', 'set:large', `new ${written - 500}`],
        ['SET', `short:${i}`, 'x', 'PX', 30],
      ]);
      if (i % 10 === 0) await run(writer, [['DEL', `string:${(i + 1500) % 3000}`]]);
      written += 7;
    }
  })();
  try {
    const { first, rounds } = await sides.verify({ rounds: 4, pauseMs: 100 });
    expect(first).toEqual([]);
    expect(rounds).toBeGreaterThan(0);
    await run(sides.b.client(), [['LSET', 'list:large', 5_017, 'x']]);
    const damaged = await sides.verify({ rounds: 4, pauseMs: 100 });
    expect(damaged.first).toEqual([{ db: 0, key: 'list:large', kind: 'value', detail: 'list index 5017' }]);
    expect(written).toBeGreaterThan(100);
  } finally {
    writing = false;
    await traffic;
  }
});
