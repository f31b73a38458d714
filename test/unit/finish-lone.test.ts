import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { atTargetOnly } from '../../src/finish/lone.ts';
import { parseEndpoint } from '../../src/runtime/endpoint.ts';
import { Link } from '../../src/verify/link.ts';
import { RedisServer } from '../support/redis-server.ts';

const SESSION = { db: 0, key: Buffer.from('session') };

let source: RedisServer;
let target: RedisServer;
let pair: { readonly source: Link; readonly target: Link };

beforeAll(async () => {
  [source, target] = await Promise.all([RedisServer.start(), RedisServer.start()]);
  const { signal } = new AbortController();
  const link = (side: 'source' | 'target', { url }: RedisServer) =>
    new Link({ side, endpoint: parseEndpoint(`--${side}`, url), signal, patienceMs: 1_000 });
  pair = { source: link('source', source), target: link('target', target) };
});

beforeEach(async () => {
  for (const server of [source, target]) await server.client().flushall();
});

afterAll(async () => {
  for (const link of [pair.source, pair.target]) link.close();
  for (const server of [source, target]) await server[Symbol.asyncDispose]();
});

test('a key that is written and ends again between two looks is looked at once more', async () => {
  await target.client().set('session', 1);
  let waits = 0;
  const caughtUp = async () => {
    waits++;
    // The first time it was written again, and its DEL is still on its way.
    if (waits === 1) await target.client().set('session', 2);
    else await target.client().del('session');
  };
  expect(await atTargetOnly(pair, [SESSION], caughtUp)).toEqual([]);
  expect(waits).toBe(2);
});

test('a key that is gone on both sides is not asked for a second time', async () => {
  expect(await atTargetOnly(pair, [SESSION], () => Promise.reject(new Error('waited')))).toEqual([]);
});

test('a key that stays at the target is named', async () => {
  await target.client().set('session', 1);
  expect(await atTargetOnly(pair, [SESSION], () => Promise.resolve())).toEqual([SESSION]);
});
