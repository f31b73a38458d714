import { describe, expect, test } from 'vitest';
import { encodeCommands, RespScanner } from '../../src/binlog/resp.ts';
import type { Command } from '../../src/sources/binlog-writer.ts';
import type { Entry, Position, Source } from '../../src/sources/source.ts';

/** A log to read, in a state of its own. */
export interface SourceFixture extends AsyncDisposable {
  /** A new reader of the log; the fixture closes it. */
  open(): Source;
  /** Each list becomes one entry. */
  write(entries: readonly (readonly Command[])[]): Promise<void>;
}

/** Reads `count` entries behind `position`. */
export async function take(source: Source, position: Position, count: number): Promise<Entry[]> {
  const entries: Entry[] = [];
  const abort = new AbortController();
  if (count === 0) return entries;
  for await (const chunk of source.read(position, abort.signal)) {
    expect(chunk.length).toBeGreaterThan(0);
    entries.push(...chunk.map(kept));
    if (entries.length >= count) abort.abort();
  }
  return entries;
}

/** A source may take the memory of a chunk again. */
export function kept(entry: Entry): Entry {
  return { ...entry, resp: Buffer.from(entry.resp) };
}

/** The commands behind `position`, without those to be skipped, until there are `count`. */
async function takeCommands(source: Source, position: Position, count: number): Promise<Buffer[]> {
  const commands: Buffer[] = [];
  const abort = new AbortController();
  if (count === 0) return commands;
  for await (const chunk of source.read(position, abort.signal)) {
    for (const { resp, skip } of chunk) commands.push(...split(Buffer.from(resp)).slice(skip));
    if (commands.length >= count) abort.abort();
  }
  return commands;
}

function split(resp: Buffer): Buffer[] {
  const scanner = new RespScanner();
  scanner.reset(resp);
  const commands: Buffer[] = [];
  while (scanner.next()) commands.push(resp.subarray(scanner.start, scanner.end));
  return commands;
}

export async function beginning(source: Source): Promise<Position> {
  return (await source.resolve('beginning')).position;
}

const LOG: readonly (readonly Command[])[] = [
  [['SET', 'a', '1']],
  [['SET', 'b', '1'], ['INCR', 'b'], ['FLUSHDB']],
  [['MULTI'], ['SET', 'c', Buffer.from([0, 13, 10, 255, 36])], ['EXEC']],
  [['APPEND', Buffer.from([255, 0]), '']],
];

/** What every source of a binlog promises (sources/source.ts). */
export function describeSource(
  name: string,
  create: () => Promise<SourceFixture>,
  { finite = false }: { readonly finite?: boolean } = {},
): void {
  const with_ = (work: (fixture: SourceFixture, source: Source) => Promise<void>) => async () => {
    await using fixture = await create();
    await work(fixture, fixture.open());
  };

  describe(`${name} is a source`, () => {
    test(
      'it yields every entry in order, byte for byte',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        const entries = await take(source, start, LOG.length);
        expect(entries.map((entry) => entry.resp)).toEqual(LOG.map((commands) => encodeCommands(commands)));
        expect(
          entries.every((entry) => entry.skip === 0 && entry.db === 0 && entry.malformed === undefined),
        ).toBe(true);
        for (const entry of entries) expect(Math.abs(Date.now() - entry.timeMs)).toBeLessThan(60_000);
      }),
    );

    test(
      'it resumes behind every entry, also through another reader',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        const entries = await take(source, start, LOG.length);
        for (const [i, entry] of entries.entries()) {
          const rest = await take(fixture.open(), entry.position, LOG.length - 1 - i);
          expect(rest).toEqual(entries.slice(i + 1));
        }
      }),
    );

    test(
      'it resumes inside every entry, with the commands that were taken to be skipped',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        const entries = await take(source, start, LOG.length);
        const commands = entries.flatMap(({ resp }) => split(resp));
        let before = 0;
        for (const [i, entry] of entries.entries()) {
          const count = LOG[i]?.length ?? 0;
          for (let taken = 0; taken <= count; taken++) {
            const inside = source.positionInside(entry, taken);
            const behind = commands.slice(before + taken);
            expect(await takeCommands(source, inside, behind.length)).toEqual(behind);
            const [again] = await take(source, inside, taken < count ? 1 : 0);
            if (again === undefined) continue;
            expect(source.positionInside(again, again.skip)).toBe(inside);
            expect(again.position).toBe(entry.position);
          }
          before += count;
        }
      }),
    );

    test(
      'its positions are printable and at most 512 bytes long',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        const entries = await take(source, start, LOG.length);
        const inside = entries.map((entry) => source.positionInside(entry, 1));
        for (const position of [start, ...inside, ...entries.map((entry) => entry.position)]) {
          expect(position).toMatch(/^[\x20-\x7e]{1,512}$/);
        }
      }),
    );

    test(
      finite ? 'what is written later is for a later reader' : 'it waits for what is written later',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        expect(source.finite).toBe(finite);
        if (finite) {
          for (let i = 0; i < 3; i++) await fixture.write([[['SET', 'k', i]]]);
          expect(await take(fixture.open(), start, 3)).toHaveLength(3);
          return;
        }
        const taken = take(source, start, 3);
        for (let i = 0; i < 3; i++) await fixture.write([[['SET', 'k', i]]]);
        expect(await taken).toHaveLength(3);
      }),
    );

    test(
      'now is behind everything that is there',
      with_(async (fixture, source) => {
        await fixture.write(LOG);
        const { position } = await source.resolve('now');
        await fixture.write([[['SET', 'later', '1']]]);
        const [entry] = await take(source, position, 1);
        expect(entry?.resp.toString()).toContain('later');
      }),
    );

    test(
      'an abort ends a reader that waits, and one that was never started',
      with_(async (fixture, source) => {
        await fixture.write([[['SET', 'k', '1']]]);
        const { position } = await source.resolve('now');
        const abort = new AbortController();
        const iterator = source.read(position, abort.signal)[Symbol.asyncIterator]();
        const next = iterator.next();
        abort.abort();
        expect((await next).done).toBe(true);
        expect((await source.read(position, abort.signal)[Symbol.asyncIterator]().next()).done).toBe(true);
      }),
    );

    test(
      'a consumer that walks away leaves a source that can be read again',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        for await (const _ of source.read(start, new AbortController().signal)) break;
        expect(await take(source, start, LOG.length)).toHaveLength(LOG.length);
      }),
    );

    test(
      'a position covers the head only when everything before the head is read',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        expect(source.covers(start, (await source.head()).position)).toBe(true);
        await fixture.write(LOG);
        const head = (await source.head()).position;
        expect(source.covers(start, head)).toBe(false);
        const entries = await take(source, start, LOG.length);
        const last = entries.at(-1) as Entry;
        for (const entry of entries) expect(source.covers(entry.position, head)).toBe(entry === last);
        expect(source.covers(source.positionInside(last, 0), head)).toBe(false);
        await fixture.write([[['SET', 'more', '1']]]);
        expect(source.covers(last.position, head)).toBe(true);
        expect(source.covers(last.position, (await source.head()).position)).toBe(false);
      }),
    );

    test(
      'an acknowledgement can be repeated and changes nothing of what is read',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await source.acknowledge(start);
        await fixture.write(LOG);
        const entries = await take(source, start, LOG.length);
        for (const entry of entries) {
          await source.acknowledge(source.positionInside(entry, 1));
          await source.acknowledge(entry.position);
          await source.acknowledge(entry.position);
        }
        const second = entries[1] as Entry;
        expect(await take(source, second.position, LOG.length - 2)).toEqual(entries.slice(2));
      }),
    );

    test(
      'it forgets what it left at the source only when told to, and once',
      with_(async (fixture, source) => {
        const start = await beginning(source);
        await fixture.write(LOG);
        const [entry] = await take(source, start, LOG.length);
        await source.acknowledge((entry as Entry).position);
        const named = await source.forget(false);
        expect(await source.forget(true)).toEqual(named);
        expect(await source.forget(true)).toEqual([]);
      }),
    );
  });
}
