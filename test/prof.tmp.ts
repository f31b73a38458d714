import { RedisServer } from '/work/main/test/support/redis-server.ts';
import { openSource } from '/work/main/src/sources/open.ts';
import { BinlogWriter } from '/work/main/src/sources/binlog-writer.ts';
const server = await RedisServer.start();
const url = `redis-stream://127.0.0.1:${server.port}/0?key=binlog`;
const writer = new BinlogWriter({ url });
const N = 20000;
let t = performance.now();
const value = 'x'.repeat(100);
for (let i = 0; i < N; i += 50) {
  const entries = [];
  for (let j = 0; j < 50; j++) {
    const commands = [];
    for (let k = 0; k < 100; k++) commands.push(['SET', `key:${String((Math.random() * 1e6) | 0).padStart(12, '0')}`, value]);
    entries.push({ commands });
  }
  await writer.appendAll(entries);
}
console.log('append', (performance.now() - t).toFixed(0), 'ms', await server.client().xlen('binlog'));
await writer.close();
for (let r = 0; r < 4; r++) {
  const source = openSource(url, { name: 'x', onNotice: console.log });
  const { position } = await source.resolve('beginning');
  const head = await source.head();
  const cpu = process.cpuUsage();
  t = performance.now();
  let bytes = 0, n = 0, chunks = 0;
  const ac = new AbortController();
  let last = position;
  for await (const chunk of source.read(position, ac.signal)) {
    chunks++;
    for (const e of chunk) { bytes += e.resp.length; n++; last = e.position; }
    if (source.covers(last, head.position)) break;
  }
  const ms = performance.now() - t;
  const used = process.cpuUsage(cpu);
  console.log({ n, chunks, last, ms, mbps: bytes / ms / 1000, user: used.user / 1000, sys: used.system / 1000, rss: process.memoryUsage().rss / 1e6 });
  await source.close();
}
await server[Symbol.asyncDispose]();
