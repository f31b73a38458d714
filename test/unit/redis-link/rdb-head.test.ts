import { expect, test } from 'vitest';
import { selectedDbOf } from '../../../src/sources/redis-link/rdb-head.ts';

const text = (word: string) => Buffer.concat([Buffer.from([word.length]), Buffer.from(word)]);
const aux = (name: string, value: Buffer) => Buffer.concat([Buffer.from([0xfa]), text(name), value]);
const head = (...parts: Buffer[]) =>
  Buffer.concat([Buffer.from('REDIS0010'), ...parts, Buffer.from([0xfe, 0])]);
const long = Buffer.concat([Buffer.from([0x41, 0x2c]), Buffer.alloc(300, 'x')]);

test.each([
  ['as text', head(aux('redis-ver', text('7.0.15')), aux('repl-stream-db', text('12'))), 12],
  [
    'as a byte',
    head(aux('redis-bits', Buffer.from([0xc0, 64])), aux('repl-stream-db', Buffer.from([0xc0, 9]))),
    9,
  ],
  ['as two bytes', head(aux('repl-stream-db', Buffer.from([0xc1, 0x10, 0x27]))), 10_000],
  [
    'behind a long one',
    head(
      aux('note', long),
      aux('ctime', Buffer.from([0xc2, 1, 2, 3, 4])),
      aux('repl-stream-db', Buffer.from([0xc0, 3])),
    ),
    3,
  ],
  ['not at all', head(aux('redis-ver', text('7.0.15'))), 0],
])('the selected database is told %s', (_, file, db) => {
  expect(selectedDbOf(file)).toBe(db);
  const told = [...file.keys()].map((length) => selectedDbOf(file.subarray(0, length)));
  expect(told.every((one) => one === undefined || one === db)).toBe(true);
  expect(told[12]).toBeUndefined();
});
