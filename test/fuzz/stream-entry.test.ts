import fc from 'fast-check';
import { expect, test } from 'vitest';
import { encodeCommand, RespScanner } from '../../src/binlog/resp.ts';
import { readEntry } from '../../src/sources/redis-stream/entry.ts';
import { commands, damaged, runs, value } from './bytes.ts';

const name = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('resp', 'argv', 'db', 'time').map((text) => Buffer.from(text)) },
  { weight: 1, arbitrary: value },
);
const json = fc.oneof(
  fc.array(fc.string({ unit: 'binary' })).map((args) => JSON.stringify(args)),
  fc.json({ maxDepth: 3 }),
  fc.constantFrom('['.repeat(100_000), '["\\ud800"]', '{"__proto__":["SET"]}', '["SET","\\u0000\\r\\n"]'),
);
const content = fc.oneof(
  damaged(commands),
  damaged(json.map((text) => Buffer.from(text))),
  json.map((text) => Buffer.from(text)),
  fc.bigInt({ min: -10n, max: 10n ** 20n }).map((number) => Buffer.from(String(number))),
  value,
);
const argv = json.map((text) => [Buffer.from('argv'), Buffer.from(text)]);
const fields = fc.oneof(
  { weight: 3, arbitrary: fc.array(fc.tuple(name, content), { maxLength: 4 }).map((pairs) => pairs.flat()) },
  { weight: 1, arbitrary: argv },
);

test('an entry is its field resp as it stands, or the strings of its field argv, or says why it is neither', () => {
  const seen = { resp: 0, argv: 0, malformed: 0 };
  fc.assert(
    fc.property(fields, (list) => {
      const entry = readEntry('1700000000000-3', list, 'position', 0);
      const of = (wanted: string) =>
        list.filter((_, i) => i % 2 === 1 && list[i - 1]?.toString('latin1') === wanted);
      if (entry.malformed !== undefined) {
        seen.malformed++;
        expect(entry.malformed.length).toBeLessThan(200);
        if (list.length > 0) expect(entry.resp.equals(encodeCommand(list))).toBe(true);
        return;
      }
      expect(Number.isSafeInteger(entry.db) && entry.db >= 0).toBe(true);
      expect(Number.isSafeInteger(entry.timeMs) && entry.timeMs >= 0).toBe(true);
      const [resp] = of('resp');
      if (resp !== undefined) {
        seen.resp++;
        expect(entry.resp.equals(resp)).toBe(true);
        return;
      }
      seen.argv++;
      const wanted = JSON.parse(String(of('argv')[0])) as string[];
      const scanner = new RespScanner();
      scanner.reset(entry.resp);
      expect(scanner.next()).toBe(true);
      expect(scanner.args().map((arg) => arg.toString('utf8'))).toEqual(wanted);
      expect(scanner.next()).toBe(false);
    }),
    runs(5_000),
  );
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(30);
});
