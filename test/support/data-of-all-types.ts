import type { Redis } from 'ioredis';

/** All types, several databases, transactions, scripts, and commands that move or erase whole databases. */
export async function writeAllTypes(redis: Redis, round: number): Promise<void> {
  const from = round * 200;
  for (let i = from; i < from + 200; i++) {
    await redis.select(i % 7 === 0 ? 3 : 0);
    await redis.set(`string:${i}`, Buffer.from([i & 255, 0, 13, 10]));
    await redis.incr('counter');
    await redis.rpush(`list:${i % 9}`, `${i}`, Buffer.alloc(i % 300, 1));
    await redis.hset(`hash:${i % 5}`, `f${i}`, i);
    await redis.zadd(`zset:${i % 4}`, i / 3, `m${i}`);
    await redis.sadd('set', i, `x${i}`);
    await redis.xadd('stream', '*', 'n', i);
    if (i % 10 === 0) await redis.multi().incr('a').rename(`string:${i}`, `moved:${i}`).incr('b').exec();
    if (i % 11 === 0) await redis.pexpire(`string:${i}`, 3_600_000);
    if (i % 20 === 0) await redis.eval("redis.call('incr', 'c') redis.call('lpush', 'd', ARGV[1])", 0, i);
  }
  await redis.select(5);
  await redis.set('gone', 1);
  await redis.swapdb(3, 6);
  await redis.flushdb();
  await redis.set('kept', round);
  await redis.select(0);
  await redis.spop('set', 3);
}
