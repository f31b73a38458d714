import { randomBytes } from 'node:crypto';
import { expect } from 'vitest';
import { encodeCommand } from '../../src/binlog/resp.ts';
import { everyCase } from '../support/cases.ts';
import { Pipeline } from '../support/pipeline.ts';

// What is read lands in memory that is taken again: a reply that is overwritten before it is used would show here. Entries
// are cut into many rounds and lane logs are read ahead, so that the next reply arrives while the one before is in use.

everyCase('a backlog of entries larger than a round arrives byte for byte', async () => {
  await using pipeline = await Pipeline.start({
    lanes: 2,
    args: ['--round-bytes', '65536', '--chunk-bytes', '16384'],
  });
  const source = pipeline.source.client();
  const oracle = pipeline.oracle.client();
  for (let entry = 0; entry < 40; entry++) {
    const commands = Array.from({ length: 100 }, (_, i) => {
      const key = Buffer.from(`key:${entry}:${i}`);
      return [Buffer.from('SET'), key, randomBytes(4_000)];
    });
    await source.xadd('binlog', '*', 'resp', Buffer.concat(commands.map((args) => encodeCommand(args))));
    const batch = oracle.pipeline();
    for (const [, key, value] of commands) batch.set(key as Buffer, value as Buffer);
    await batch.exec();
  }
  pipeline.worker();
  await pipeline.caughtUp();
  expect(await pipeline.differences()).toEqual([]);
});
